"""The preflight of a training run, as the doctor prints it."""

from collections.abc import Iterator

from ft_tools.doctor.report import Check
from ft_tools.errors import FineTuningError
from ft_tools.runs.hardware.devices import find_device
from ft_tools.training import preflight
from ft_tools.training.findings import message_and_cure

TITLES = {
    "device": "device",
    "matmul": "matrix product",
    "nf4": "4-bit layer, forward and backward",
    "attention": "attention",
    "loss": "TRL's loss, forward and backward",
}


def checks() -> Iterator[Check]:
    """Yield what a QLoRA run would do here, tried in small."""
    try:
        device = find_device()
    except FineTuningError:
        # Said by the checks of the machine.
        return
    for one in preflight.tried(device, quantized=True).checks:
        name = f"trial: {TITLES.get(one.id, one.id)}"
        if one.id == "memory":
            found = f"{one.free_gib or 0:.1f} of {one.total_gib or 0:.1f} GiB are free to CUDA"
            yield Check(name=name, state="ok", found=found)
        elif one.state == "passed":
            yield Check(name=name, state="ok", found=f"works on {device.model}")
        elif one.state == "skipped":
            found = "not tried: out of memory, or it took longer than 20 seconds"
            yield Check(name=name, state="note", found=found)
        else:
            fields = preflight.fields(one, device)
            found, fix = message_and_cure(f"preflight_{one.id}", **fields)
            yield Check(name=name, state="broken", found=found, fix=fix, needed_for=["train"])
