"""Files of logits, which are compared token by token: larger than memory may be."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ft_tools.publish import disk_full_is_named


def write_logits(path: Path, parts: Iterable[npt.NDArray[np.float32]]) -> None:
    """Write logits, (tokens, vocabulary) each, one after the other.

    Written plainly: through a memory map a full disk would end the process by a signal.

    Raises:
        DiskFull: There is no space for them.
    """
    with disk_full_is_named(path), path.open("wb") as file:
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype=np.float32).data)


def read_logits(path: Path, vocabulary: int) -> npt.NDArray[np.float32]:
    """Return a file's logits, (tokens, vocabulary), which stay on the disk."""
    return np.memmap(path, dtype=np.float32, mode="r").reshape(-1, vocabulary)
