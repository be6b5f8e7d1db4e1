"""Files of logits, which are compared token by token: larger than memory may be."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ft_tools.publish import disk_full_is_named


def new_logits(path: Path, num_tokens: int, vocabulary: int) -> np.memmap[Any, Any]:
    """Make such a file, (tokens, vocabulary), to write through memory.

    On Linux its space is taken first: a disk that is full later would end the process by a signal.

    Raises:
        DiskFull: There is no space for it.
    """
    shape = (num_tokens, vocabulary)
    if sys.platform != "linux":
        return np.memmap(path, dtype=np.float32, mode="w+", shape=shape)
    with disk_full_is_named(path), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 4 * num_tokens * vocabulary)
    return np.memmap(path, dtype=np.float32, mode="r+", shape=shape)
