r"""Read JSON: one value per line, an array, or values that follow one another.

Lines end at `\n` only: `str.splitlines` would cut inside strings that hold U+2028. A line that
cannot be parsed is a row with the id of its finding. Arrays are read by ijson, which cannot resume
behind an error, so a broken array is refused; it reads a lone surrogate as `?`, and of a name that
is repeated in an object the last value.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import ijson

from ft_tools.errors import BadData
from ft_tools.formats.readers.rows import ROW_BYTES, Row

CHUNK = 1 << 16
MOST_DEPTH = 200
"""Levels of a row; Python's own parser stops at about a thousand."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_lines(stream: BinaryIO) -> Iterator[Row]:
    """Yield a row for each line that is not blank; the number is the line's."""
    number = 0
    decoder = _Decoder()
    while line := stream.readline(ROW_BYTES + 1):
        number += 1
        if len(line) > ROW_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(CHUNK)) and not rest.endswith(b"\n"):
                pass
            yield Row(number, None, "row_too_long")
            continue
        line = line.strip(b" \t\r\n")
        if not line:
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            yield Row(number, None, "not_utf8")
            continue
        yield decoder.row(number, text)


def parse(text: str) -> Row:
    """Parse JSON that is in a string, as strictly as a line of a file; the number is 0."""
    return _Decoder().row(0, text)


class _Decoder:
    """Parses JSON, and notes whether an object in it has a name twice."""

    def __init__(self) -> None:
        self._repeats = False
        self._json = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=self._object)

    def row(self, number: int, text: str) -> Row:
        self._repeats = False
        try:
            value = self._json.decode(text)
        except (ValueError, RecursionError):
            return Row(number, None, "unreadable_line")
        # A lone surrogate loads, and fails when it is written; only an escape can make one.
        is_escaped = ESCAPED_SURROGATE.search(text) is not None
        if is_escaped and SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            return Row(number, None, "invalid_unicode")
        return Row(number, value, None, ("repeated_key",) if self._repeats else (), len(text))

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        self._repeats = self._repeats or len(made) != len(pairs)
        return made


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_values(stream: BinaryIO, path: Path, of: str = "") -> Iterator[Row]:
    """Yield the values of an array, or with an empty `of` values that follow one another.

    Args:
        stream: UTF-8 text.
        path: Of the file, for errors.
        of: Where the array is, as ijson has it: `item`, or `PATH.item` in an object.

    Raises:
        BadData: It is not JSON, or a value is longer than `ROW_BYTES`.
    """
    number = 0
    # An object that holds its rows is not longer than may be read at once.
    bounded = _BoundedStream(stream, path) if of in {"", "item"} else stream
    values = ijson.items(bounded, of, use_float=True, multiple_values=not of)
    while True:
        try:
            value = next(values)
        except StopIteration:
            return
        except (ijson.JSONError, ValueError, RecursionError) as error:
            raise _not_json(path, number) from error
        number += 1
        if isinstance(bounded, _BoundedStream):
            bounded.reset(number)
        if not _is_within(value, MOST_DEPTH):
            yield Row(number, None, "unreadable_line")
        else:
            yield Row(number, value, None)


class _BoundedStream:
    """A stream of which only so much is read until the next row comes."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self._number, self._left = 0, ROW_BYTES

    def read(self, size: int) -> bytes:
        if self._left <= 0:
            raise BadData(
                self._path,
                f"has a row longer than {ROW_BYTES / 2**20:.0f} MiB, behind row {self._number}",
                "split or remove it, or save the file as JSON lines, where such a row is reported",
            )
        data = self._stream.read(size)
        self._left -= len(data)
        return data

    def reset(self, number: int) -> None:
        self._number, self._left = number, ROW_BYTES


def _is_within(value: Any, depth: int) -> bool:
    """Return whether a value has at most so many levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        if isinstance(one, dict | list) and (not depth or not _is_within(one, depth - 1)):
            return False
    return True


def _not_json(path: Path, number: int) -> BadData:
    return BadData(
        path,
        f"is not valid JSON behind row {number} (not UTF-8, cut off, or a number of over 64 bits?)",
        "save it again, or as JSON lines (one value per line), where each bad row is reported",
    )
