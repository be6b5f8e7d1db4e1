"""The header of a GGUF file: its values and the types of its tensors, without its vocabulary.

The reader of the `gguf` package makes objects of each token and merge, and cannot be told to pass
them over: 2.7 seconds for a vocabulary of 49,000, of which this takes 0.01.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput

STRING, ARRAY = 8, 9
SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""Number of a kind of value, as the `struct` module names it."""
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Of the tensors' data, in bytes, where general.alignment is not given."""

Value = str | int | float | bool


@dataclass(frozen=True)
class Header:
    """Values by key, arrays left out, and the number of each tensor's type by the tensor's name."""

    values: dict[str, Value]
    tensors: dict[str, int]
    last_tensor_at: int = field(default=0, compare=False)
    """Where its data begins in the file; 0 without tensors."""


def require_whole(path: Path, cure: str) -> None:
    """Refuse a GGUF file that is damaged, or that ends before its last tensor.

    Raises:
        BadInput: With the problem, and the cure.
    """
    try:
        if read_header(path).last_tensor_at < path.stat().st_size:
            return
        problem = "is cut short: its last tensors are missing"
    except (ValueError, OverflowError) as error:
        problem = f"cannot be used: {error}"
    except RecursionError:
        problem = "cannot be used: its lists lie within one another too deeply"
    raise BadInput(f"{path} {problem}; {cure}")


def read_header(path: Path) -> Header:
    """Read a file's header.

    Raises:
        ValueError: It is no GGUF file of a known version, is cut short, or has a kind of value that
            the format does not know.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data, path.name)
        magic, version, num_tensors, num_values = reader.take("4sIQQ")
        if magic != b"GGUF" or version not in VERSIONS:
            raise ValueError(f"{path.name} is no GGUF file of version 2 or 3")
        read = ((reader.string(), reader.value(*reader.take("I"))) for _ in range(num_values))
        values = {key: value for key, value in read if value is not None}
        tensors, last = {}, -1
        for _ in range(num_tensors):
            name = reader.string()
            *_, kind, offset = reader.take(f"{reader.take('I')[0]}QIQ")
            tensors[name], last = kind, max(last, offset)
        to = values.get("general.alignment", ALIGNMENT)
        step = to if isinstance(to, int) and to > 0 else ALIGNMENT
        return Header(values, tensors, 0 if last < 0 else -(-reader.at // step) * step + last)


class _Reader:
    """Takes one thing after the other out of a file."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self._data = data
        self.at = 0
        self._name = name

    def take(self, form: str) -> tuple[Any, ...]:
        """Return values of these kinds; all of them are little-endian and lie side by side."""
        return struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")))

    def string(self) -> str:
        return self._bytes(self.take("Q")[0]).decode("utf-8")

    def value(self, kind: int) -> Value | None:
        """Return a value, or pass over an array and return None."""
        if kind == STRING:
            return self.string()
        if kind in SCALARS:
            found: Value = self.take(SCALARS[kind])[0]
            return found
        if kind != ARRAY:
            raise ValueError(f"{self._name} has a value of kind {kind}, which GGUF has not")
        of, count = self.take("IQ")
        if of in SCALARS:
            self._pass(count * struct.calcsize(f"<{SCALARS[of]}"))
        elif of == STRING:
            self._pass_strings(count)
        else:
            for _ in range(count):
                self.value(of)
        return None

    def _bytes(self, count: int) -> bytes:
        start = self.at
        self._pass(count)
        return self._data[start : self.at]

    def _pass(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise ValueError(f"{self._name} is cut short: it says that there is more than it has")

    def _pass_strings(self, count: int) -> None:
        length, data, at, end = struct.Struct("<Q"), self._data, self.at, len(self._data) - 8
        for _ in range(count):
            if at > end:
                self._pass(len(data) + 1)  # which refuses it
            at += 8 + length.unpack_from(data, at)[0]
        self.at = at
        self._pass(0)
