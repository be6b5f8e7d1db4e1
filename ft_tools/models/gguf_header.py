"""The header of a GGUF file: its values and the types of its tensors, without its vocabulary.

The reader of the `gguf` package makes objects of each token and merge, and cannot be told to pass
them over: 2.7 seconds for a vocabulary of 49,000, of which this takes 0.01.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, cast

from ft_tools.errors import BadInput


class Kind(IntEnum):
    """What a value is."""

    UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = range(10)
    UINT64, INT64, FLOAT64 = range(10, 13)


SCALARS: dict[int, str] = {
    Kind.UINT8: "B", Kind.INT8: "b", Kind.UINT16: "H", Kind.INT16: "h", Kind.UINT32: "I",
    Kind.INT32: "i", Kind.FLOAT32: "f", Kind.BOOL: "?", Kind.UINT64: "Q", Kind.INT64: "q",
    Kind.FLOAT64: "d",
}  # fmt: skip
"""As the `struct` module names them."""
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
        values: dict[str, Value] = {}
        for _ in range(num_values):
            key = reader.string()
            value = reader.value(*reader.take("I"))
            if value is not None:
                values[key] = value
        found = [reader.tensor() for _ in range(num_tensors)]
        last = max((offset for _, _, offset in found), default=None)
        to = values.get("general.alignment", ALIGNMENT)
        step = to if isinstance(to, int) and to > 0 else ALIGNMENT
        return Header(
            values,
            {name: kind for name, kind, _ in found},
            0 if last is None else -(-reader.at // step) * step + last,
        )


class _Reader:
    """Takes one thing after the other out of a file."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self._data = data
        self.at = 0
        self._name = name

    def take(self, form: str) -> tuple[Any, ...]:
        """Return values of these kinds; all of them are little-endian and lie side by side."""
        start = self._pass(struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{form}", self._data, start)

    def string(self) -> str:
        (length,) = self.take("Q")
        start = self._pass(length)
        return self._data[start : self.at].decode("utf-8")

    def value(self, kind: int) -> Value | None:
        """Return a value, or pass over an array and return None."""
        if kind == Kind.STRING:
            return self.string()
        if kind != Kind.ARRAY:
            if kind not in SCALARS:
                raise ValueError(f"{self._name} has a value of kind {kind}, which GGUF has not")
            return cast("Value", self.take(SCALARS[kind])[0])
        of, count = self.take("IQ")
        if of in SCALARS:
            self._pass(count * struct.calcsize(f"<{SCALARS[of]}"))
        elif of == Kind.STRING:
            self._pass_strings(count)
        else:
            for _ in range(count):
                self.value(of)
        return None

    def tensor(self) -> tuple[str, int, int]:
        """Return a tensor's name, the number of its type, and where its data is."""
        name = self.string()
        (num_dimensions,) = self.take("I")
        *_, kind, offset = self.take(f"{num_dimensions}QIQ")
        return name, kind, offset

    def _pass(self, num_bytes: int) -> int:
        """Go so many bytes further, and return where they begin."""
        start, self.at = self.at, self.at + num_bytes
        if self.at > len(self._data):
            raise self._cut_short()
        return start

    def _pass_strings(self, count: int) -> None:
        length, data, at, end = struct.Struct("<Q"), self._data, self.at, len(self._data) - 8
        for _ in range(count):
            if at > end:
                raise self._cut_short()
            at += 8 + length.unpack_from(data, at)[0]
        self.at = at
        self._pass(0)

    def _cut_short(self) -> ValueError:
        return ValueError(f"{self._name} is cut short: it says that there is more than it has")
