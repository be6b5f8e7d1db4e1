"""doctor: look at everything, then say what works."""

from collections.abc import Iterator
from typing import get_args

from ft_tools.doctor import hub_and_clients, machine
from ft_tools.doctor.report import Check, DoctorReport, DoctorRequest, Purpose, check
from ft_tools.errors import FineTuningError
from ft_tools.runs.hardware.devices import find_device
from ft_tools.training import preflight
from ft_tools.training.findings import message_and_cure

NEEDS: dict[Purpose, tuple[Purpose, ...]] = {
    "advice": (),
    "data": ("advice",),
    "train": ("advice",),
    "eval": ("train",),
    "gguf": ("train",),
    "gpu": ("train",),
}
"""What works only if something else does."""
TRIALS = {
    "matmul": "matrix product",
    "nf4": "4-bit layer, forward and backward",
    "loss": "TRL's loss, forward and backward",
}
"""Checks of the preflight whose id is not what a person calls them."""


def doctor(request: DoctorRequest) -> DoctorReport:
    """Check what works on this machine, what does not, and name the command for each.

    A purpose works if nothing that it needs is missing or broken.
    """
    checks = [*machine.checks()]
    # Some seconds of real work: only where training is what has to work.
    checks += trials() if {"train", "gpu"} & set(request.purposes) else ()
    checks += hub_and_clients.hub() if request.hub else ()
    checks += hub_and_clients.clients() if request.clients else ()
    purposes: tuple[Purpose, ...] = get_args(Purpose)
    works = [purpose for purpose in purposes if _works(purpose, checks)]
    return DoctorReport(
        works=works,
        does_not_work=[purpose for purpose in purposes if purpose not in works],
        checks=checks,
        asked_and_missing=[purpose for purpose in request.purposes if purpose not in works],
    )


def trials() -> Iterator[Check]:
    """Yield what a QLoRA run would do here, tried in small: the preflight of a training run."""
    try:
        device = find_device()
    except FineTuningError:
        # Reported by the checks of the machine.
        return
    for one in preflight.tried(device, quantized=True).checks:
        what = TRIALS.get(one.id, one.id)
        if one.id == "memory":
            yield check("trial_memory", free=one.free_gib or 0, total=one.total_gib or 0)
        elif one.state != "failed":
            yield check(f"trial_{one.state}", what=what, model=device.model)
        else:
            fields = preflight.fields(one, device)
            found, fix = message_and_cure(f"preflight_{one.id}", **fields)
            yield check("trial_failed", what=what, found=found, fix=fix)


def _works(purpose: Purpose, checks: list[Check]) -> bool:
    if not all(_works(other, checks) for other in NEEDS[purpose]):
        return False
    prevented = ("missing", "broken")
    return not any(c.state in prevented and purpose in c.needed_for for c in checks)
