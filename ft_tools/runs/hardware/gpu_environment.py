"""The variables that decide which GPUs a worker sees, and how CUDA and NCCL use them."""

import os
from collections.abc import Mapping, Sequence

from ft_tools.runs.hardware.device_slots import CPU
from ft_tools.runs.state.records import RunInfo

HIDING = dict.fromkeys(("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), "")


# Memory that was freed in pieces can be used for a larger piece; the name since torch 2.9.
# Source: https://docs.pytorch.org/docs/stable/notes/cuda.html, environment variables.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


EXPANDABLE = "expandable_segments:True"


def environment(
    info: RunInfo, taken: Sequence[str], given: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables of a worker that decide which devices it sees.

    They have to be there before the process starts: libraries look at the GPUs while they are
    imported, and what CUDA shows is fixed then.

    Args:
        info: The run.
        taken: UUIDs of the GPUs that it holds; empty where a scheduler gives them.
        given: The variables that it gets anyway.
    """
    if info.device is None:
        return {}
    if info.device == CPU:
        return dict(HIDING)
    found = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if taken:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    elif given.get("CUDA_VISIBLE_DEVICES"):
        # A scheduler may show more than were asked for, and one process must not see several.
        shown = given["CUDA_VISIBLE_DEVICES"].split(",")
        found["CUDA_VISIBLE_DEVICES"] = ",".join(shown[: info.num_slots])
    if not any(given.get(name) for name in ALLOCATOR):
        found[ALLOCATOR[0]] = EXPANDABLE
    return found
