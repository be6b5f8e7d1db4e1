"""The line in front of a device: one run has it, the others wait in the order of their launch.

A slot is a lock, and so is a place in the line: both are free again when their holder dies.
"""

import contextlib
import os
from pathlib import Path

from ft_tools.runs import locks


class Line:
    """A run's place in the line of a device.

    Args:
        slots: Folder that all runs of this user share.
        device: The device: cpu, cuda:0 ...
        place: What the line is sorted by.
    """

    def __init__(self, slots: Path, device: str, place: str) -> None:
        name = device.replace(":", "-")
        self._slot = slots / f"{name}.lock"
        self._places = f"{name}.*.place"
        self._place = slots / f"{name}.{place}.place"
        self._held = locks.take(self._place)

    def take_slot(self) -> int | None:
        """Take the slot if nobody who lives came earlier and it is free.

        Returns:
            An open descriptor that holds it, or None. A descriptor, not a pid.
        """
        for other in self._slot.parent.glob(self._places):
            if other.name < self._place.name:
                if locks.is_held(other):
                    return None
                # Its owner was killed; a place that is just being made loses only its turn.
                other.unlink(missing_ok=True)
        return locks.take(self._slot)

    def leave(self) -> None:
        """Give up the place."""
        with contextlib.suppress(OSError):
            self._place.unlink(missing_ok=True)
        if self._held is not None:
            os.close(self._held)
            self._held = None
