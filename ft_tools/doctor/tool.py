"""doctor: look at everything, then say what works."""

from typing import get_args

from ft_tools.doctor import hub_and_clients, machine, packages, trial
from ft_tools.doctor.report import Check, DoctorReport, DoctorRequest, Purpose

NEEDS: dict[Purpose, tuple[Purpose, ...]] = {
    "advice": (),
    "data": ("advice",),
    "train": ("advice",),
    "eval": ("train",),
    "gguf": ("train",),
    "gpu": ("train",),
}
"""What works only if something else does."""


def doctor(request: DoctorRequest) -> DoctorReport:
    """Check what works on this machine, what does not, and name the command for each.

    Args:
        request: What has to work.

    Returns:
        The report; a purpose works if nothing that it needs is missing or broken.
    """
    checks = [*machine.checks(), *packages.checks()]
    # Some seconds of real work: only where training is what has to work.
    checks += trial.checks() if {"train", "gpu"} & set(request.purposes) else ()
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


def _works(purpose: Purpose, checks: list[Check]) -> bool:
    if not all(_works(other, checks) for other in NEEDS[purpose]):
        return False
    prevented = ("missing", "broken")
    return not any(c.state in prevented and purpose in c.needed_for for c in checks)
