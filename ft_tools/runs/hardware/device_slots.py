"""The line in front of the devices: a run takes as many as it needs, in the order of launch.

A slot is a lock on a GPU's UUID, or on `cpu`; so is a place in the line: both are free again when
their holder dies. A run may take any of its candidates that no earlier run waits for.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools.errors import Missing
from ft_tools.publish import private_folder
from ft_tools.runs.hardware import devices
from ft_tools.runs.state import locks
from ft_tools.runs.state.records import RunInfo
from ft_tools.workspace import cache_dir

CPU = devices.CPU
HIDING = dict.fromkeys((devices.SHOWN_VARIABLE, "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), "")
# Memory that was freed in pieces can be used for a larger piece; the name since torch 2.9.
# Source: https://docs.pytorch.org/docs/stable/notes/cuda.html, environment variables.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
EXPANDABLE = "expandable_segments:True"


class Line:
    """A run's place in the line.

    Args:
        slots: Folder that all runs of this user share.
        candidates: Names of the slots that it may take, best first.
        count: How many of them it needs.
        place: What the line is sorted by.
    """

    def __init__(self, slots: Path, candidates: Sequence[str], count: int, place: str) -> None:
        self._slots = slots
        self._candidates = list(candidates)
        self._count = count
        self._place = slots / f"{place}.place"
        held = locks.take(self._place)
        assert held is not None, "a place is its run's alone"
        self._held = held
        os.truncate(held, 0)
        os.pwrite(held, json.dumps(self._candidates).encode(), 0)

    def take_slots(self) -> dict[str, int] | None:
        """Take the slots if enough of them are free and nobody who lives came earlier for them.

        Returns:
            Slot name -> open descriptor that holds it, or None. Descriptors, not pids.
        """
        waited_for: set[str] = set()
        for other in self._slots.glob("*.place"):
            if other.name >= self._place.name:
                continue
            if not locks.is_held(other):
                # Its owner was killed; a place that is just being made loses only its turn.
                other.unlink(missing_ok=True)
                continue
            try:
                waited_for |= set(json.loads(other.read_bytes()))
            except (OSError, ValueError):
                # It has not said yet what it waits for.
                return None
        taken: dict[str, int] = {}
        for name in self._candidates:
            if name in waited_for or is_taken(name, self._slots):
                continue
            if (lock := locks.take(_slot(self._slots, name))) is not None:
                taken[name] = lock
            if len(taken) == self._count:
                return taken
        for lock in taken.values():
            os.close(lock)
        return None

    def leave(self) -> None:
        """Give up the place."""
        self._place.unlink(missing_ok=True)
        os.close(self._held)


def folder() -> Path:
    """Return the folder of the slots, which all runs of this user share."""
    slots = cache_dir() / "devices"
    private_folder(slots)
    return slots


def is_taken(name: str, slots: Path) -> bool:
    """Return whether a run holds a slot."""
    return locks.is_held(_slot(slots, name))


def candidates(info: RunInfo) -> list[str]:
    """Return the slots that a run may take, those with the most free memory first.

    Raises:
        Missing: GPUs of the plan are not visible now.
    """
    names = info.slots if info.slots is not None else [info.device] if info.device else []
    if info.device in {None, CPU}:
        return names
    may = [card for card in devices.find_cards() if card.uuid in names]
    if len(may) < info.num_slots:
        raise Missing(
            f"the plan uses {info.num_slots} of the GPUs {', '.join(names)}, and {len(may)} of "
            "them are visible now; check nvidia-smi and CUDA_VISIBLE_DEVICES, then resume_run"
        )
    may.sort(key=lambda card: (card.used_gib - card.memory_gib, card.index))
    return [card.uuid for card in may]


def slots_for(place: str) -> dict[str, Any]:
    """Return the `device`, `slots` and `num_slots` of a run that loads a model in a place.

    That is cpu, where nothing is waited for; cuda:N, which may be any GPU like that one; or auto,
    spread over all of them.
    """
    if place == CPU:
        return {"device": CPU, "slots": []}
    cards = devices.find_cards()
    if not place.startswith("cuda:"):
        return {"device": "cuda", "slots": [c.uuid for c in cards], "num_slots": len(cards)}
    meant = cards[int(place.removeprefix("cuda:"))]
    return {"device": "cuda", "slots": [card.uuid for card in cards if card.is_like(meant)]}


def used_by_others_gib(device: devices.Device) -> float:
    """Return the GPU memory that other programs use on the emptiest GPU that a run may take.

    What runs of this user hold they will give back.
    """
    if not device.cards:
        return 0.0
    slots = folder()
    cards = [card for card in devices.find_cards() if card.uuid in device.cards]
    return min((0.0 if is_taken(c.uuid, slots) else c.used_gib for c in cards), default=0.0)


def _slot(slots: Path, name: str) -> Path:
    return slots / f"{name.replace(':', '-').replace('/', '-')}.lock"


def environment(
    info: RunInfo, taken: Sequence[str], given: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables of a worker that decide which devices it sees.

    They have to be there before the process starts: libraries look at the GPUs while they are
    imported, and what CUDA shows is fixed then. `taken` are the UUIDs of the GPUs that the run
    holds, none where a scheduler gives them; `given` the variables that it gets anyway.
    """
    if info.device is None:
        return {}
    if info.device == CPU:
        return dict(HIDING)
    # A scheduler may show more than were asked for, and one process must not see several.
    shown = taken or given.get(devices.SHOWN_VARIABLE, "").split(",")[: info.num_slots]
    found = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if any(shown):
        found[devices.SHOWN_VARIABLE] = ",".join(shown)
    if not any(given.get(name) for name in ALLOCATOR):
        found[ALLOCATOR[0]] = EXPANDABLE
    return found
