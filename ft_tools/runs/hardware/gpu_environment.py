"""The variables that decide which GPUs a worker sees, and how CUDA and NCCL use them."""

import os
from collections.abc import Mapping, Sequence

from ft_tools.runs.hardware import devices
from ft_tools.runs.hardware.device_slots import CPU
from ft_tools.runs.state.records import RunInfo

HIDING = dict.fromkeys(("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), "")


# Memory that was freed in pieces can be used for a larger piece; the name since torch 2.9.
# Source: https://docs.pytorch.org/docs/stable/notes/cuda.html, environment variables.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


EXPANDABLE = "expandable_segments:True"
# These cards can't reach each other's memory, which older drivers do not say.
# Source: accelerate 1.15, utils/environment.py, check_cuda_p2p_ib_support.
NO_PEERS, PEERS_SINCE = "RTX 40", (550, 40, 7)


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
    if len(taken) > 1 and any(_lacks_peers(card) for card in devices.find_cards()):
        found |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    return found


def lacks_peers(model: str, driver: str) -> bool:
    """Tell whether GPUs of this kind can't reach each other's memory with this driver.

    >>> lacks_peers("NVIDIA GeForce RTX 4090", "535.54.03"), lacks_peers("NVIDIA L4", "535.54.03")
    (True, False)
    >>> lacks_peers("NVIDIA GeForce RTX 4090", "550.54.14")
    False
    """
    version = tuple(int(part) for part in driver.split(".") if part.isdigit())
    return NO_PEERS in model and bool(version) and version < PEERS_SINCE


def _lacks_peers(card: devices.Card) -> bool:
    return lacks_peers(card.model, card.driver)
