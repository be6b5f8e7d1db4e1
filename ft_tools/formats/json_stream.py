r"""Read JSON lines, or JSON values and arrays in a row, one value at a time and within a cap.

Lines end at `\n` only: `str.splitlines` would cut inside strings that hold U+2028. A value that
cannot be parsed is a row with the id of its finding; reading goes on behind it.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, NoReturn

# Ours: a row of text is far shorter.
ROW_BYTES = 4 * 2**20
CHUNK = 1 << 20
FIRST_ITEMS = 5
"""Of a list that are looked at, to see whether it holds rows."""
SPACE = re.compile(r"[ \t\r\n]*")
BETWEEN = re.compile(r"[ \t\r\n,]*")
IN_OBJECT = re.compile(r"[ \t\r\n,:]*")
STRUCTURE = re.compile(r'["{}\[\]]|,')
IN_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
SURROGATE = re.compile(r"[\ud800-\udfff]")
UNDECODED = re.compile(r"[\udc80-\udcff]")
"""What a byte that is not UTF-8 becomes while it is read."""
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Row(NamedTuple):
    """A row of a file: a value, or the finding that stands for it."""

    number: int
    value: Any
    problem: str | None
    notes: tuple[str, ...] = ()
    """Findings that hold for a row that could be read."""
    num_chars: int | None = None
    """As it stands in a file of JSON; of other files it is not known."""
    about: tuple[str, ...] = ()
    """Sentences about the table, with its first row: its sheet, its header."""


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
        yield _parse(decoder, number, text)


def parse(text: str) -> Row:
    """Parse JSON that is in a string, as strictly as a line of a file; the number is 0."""
    return _parse(_Decoder(), 0, text)


def _parse(decoder: "_Decoder", number: int, text: str) -> Row:
    try:
        value, repeats = decoder.decode(text)
    except (ValueError, RecursionError):
        return Row(number, None, "unreadable_line")
    return _checked(number, value, text, repeats=repeats)


def _checked(number: int, value: Any, text: str, *, repeats: bool) -> Row:
    # A lone surrogate loads, and fails when it is written; only an escape can make one.
    if ESCAPED_SURROGATE.search(text) and SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        return Row(number, None, "invalid_unicode")
    return Row(number, value, None, ("repeated_key",) if repeats else (), len(text))


def read_values(stream: BinaryIO, *, wrapped: bool = False) -> Iterator[Row]:
    """Yield JSON values that follow one another, and of an array its elements.

    Args:
        stream: UTF-8 text.
        wrapped: The stream begins with an array that is part of an object. What else the object
            holds is passed over, but for further lists of rows: each is a row that is not read.
    """
    buffer = _Buffer(stream)
    decoder = _Decoder()
    number, in_array, beside, is_read = 0, False, False, True
    while not buffer.lost:
        buffer.skip(BETWEEN if in_array else IN_OBJECT if beside else SPACE)
        if buffer.at_end():
            if in_array and is_read:
                # The file was cut off between two values, as a download may be.
                yield Row(number + 1, None, "unreadable_line")
            return
        char = buffer.peek()
        if in_array and char == "]":
            in_array, beside = False, wrapped
            buffer.advance(1)
        elif beside and char == "}":
            wrapped = beside = False
            buffer.advance(1)
        elif char == "[" and not in_array and not beside:
            in_array = True
            buffer.advance(1)
        else:
            row = _value(decoder, buffer, number + 1)
            is_read = row.problem is None
            if not beside:
                number += 1
                yield row
            elif row.problem or _holds_rows(row.value):
                number += 1
                yield Row(number, None, row.problem or "unreadable_line")


class Member(NamedTuple):
    """A value of an object that is all of a file; of a list only its first items."""

    value: Any
    num_objects: int = 0
    """Objects in the list."""


def members(stream: BinaryIO) -> dict[str, Member]:
    """Look at an object that is all of a stream, a list's item at a time.

    Returns:
        Name -> value; empty if the stream is anything else. An object that is cut off counts.
    """
    buffer, decoder = _Buffer(stream), _Decoder()
    found: dict[str, Member] = {}
    for name in _names(decoder, buffer):
        if buffer.peek() == "[":
            first: list[Any] = []
            count = 0
            for row in _items(decoder, buffer):
                count += isinstance(row.value, dict)
                first += [row.value] if len(first) < FIRST_ITEMS else []
            found[name] = Member(first, count)
        else:
            found[name] = Member(_value(decoder, buffer, 0).value)
    buffer.skip(SPACE)
    return found if buffer.at_end() else {}


def read_member(stream: BinaryIO, wanted: str) -> Iterator[Row]:
    """Yield the items of a list of an object that is all of a stream, as `members` names them."""
    buffer, decoder = _Buffer(stream), _Decoder()
    for name in _names(decoder, buffer):
        if buffer.peek() == "[":
            rows = _items(decoder, buffer)
            if name == wanted:
                yield from rows
                return
            for _ in rows:
                pass
        else:
            _value(decoder, buffer, 0)


def _names(decoder: "_Decoder", buffer: "_Buffer") -> Iterator[str]:
    """Yield the names of an object; each value has to be read before the next one."""
    buffer.skip(SPACE)
    if buffer.at_end() or buffer.peek() != "{":
        return
    buffer.advance(1)
    while not buffer.lost:
        buffer.skip(BETWEEN)
        if buffer.at_end():
            return
        if buffer.peek() == "}":
            buffer.advance(1)
            return
        name = _value(decoder, buffer, 0).value
        buffer.skip(IN_OBJECT)
        if not isinstance(name, str) or buffer.at_end():
            buffer.lost = True
            return
        yield name


def _items(decoder: "_Decoder", buffer: "_Buffer") -> Iterator[Row]:
    """Yield the items of the list at the front, and a row that is not read if it is cut off."""
    buffer.advance(1)
    number, is_read = 0, True
    while not buffer.lost:
        buffer.skip(BETWEEN)
        if buffer.at_end():
            if is_read:
                yield Row(number + 1, None, "unreadable_line")
            return
        if buffer.peek() == "]":
            buffer.advance(1)
            return
        number += 1
        row = _value(decoder, buffer, number)
        is_read = row.problem is None
        yield row


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _value(decoder: "_Decoder", buffer: "_Buffer", number: int) -> Row:
    """Parse the value at the front; read more while it may only be cut off."""
    size = CHUNK // 16
    while True:
        buffer.fill(size)
        problem = "unreadable_line"
        try:
            value, end, repeats = decoder.raw_decode(buffer.text, buffer.at)
            # A number or word at the very end may go on in what is not read yet.
            if end < len(buffer.text) or buffer.exhausted:
                text = buffer.text[buffer.at : end]
                buffer.advance(end - buffer.at)
                if not text.isascii() and UNDECODED.search(text):
                    return Row(number, None, "not_utf8")
                return _checked(number, value, text, repeats=repeats)
        except RecursionError:
            break
        except ValueError:
            pass
        if buffer.exhausted:
            break
        if size >= ROW_BYTES:
            problem = "row_too_long"
            break
        size *= 4
    _skip_value(buffer)
    return Row(number, None, problem)


def _skip_value(buffer: "_Buffer") -> None:
    """Move behind a value that cannot be parsed, by its brackets.

    The scan is bounded: beyond 64 row caps the rest of the file is given up.
    """
    depth, scanned = 0, 0
    while not buffer.at_end() and scanned < 64 * ROW_BYTES:
        buffer.fill(CHUNK)
        found = STRUCTURE.search(buffer.text, buffer.at)
        if found is None:
            scanned += len(buffer.text) - buffer.at
            buffer.advance(len(buffer.text) - buffer.at)
            continue
        scanned += found.end() - buffer.at
        char = found.group()
        if depth == 0 and char in ",]}":
            # A stray bracket where a value should be is the whole of what is skipped.
            buffer.advance(max(1, found.start() - buffer.at))
            return
        buffer.advance(found.end() - buffer.at)
        if char == '"':
            scanned += _skip_string(buffer)
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
            if depth == 0:
                return
    buffer.lost = True


def _skip_string(buffer: "_Buffer") -> int:
    """Move behind the string whose opening quote was just passed."""
    size = CHUNK
    while True:
        buffer.fill(size)
        found = IN_STRING.match(buffer.text, buffer.at)
        if found:
            length = found.end() - buffer.at
            buffer.advance(length)
            return length
        if buffer.exhausted or size >= ROW_BYTES:
            rest = len(buffer.text) - buffer.at
            buffer.advance(rest)
            return rest
        size *= 2


class _Buffer:
    """The part of a stream that is being parsed, as text."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self.text = ""
        self.at = 0
        self.exhausted = False
        self.lost = False

    def fill(self, wanted: int) -> None:
        """Have at least this many characters ahead, if the stream has them."""
        if len(self.text) - self.at >= wanted or self.exhausted:
            return
        parts = [self.text[self.at :]]
        have = len(parts[0])
        while have < wanted:
            data = self._stream.read(CHUNK)
            text = self._decoder.decode(data, final=not data)
            parts.append(text)
            have += len(text)
            if not data:
                self.exhausted = True
                break
        self.text = "".join(parts)
        self.at = 0

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Move over what the pattern matches."""
        while True:
            self.fill(1024)
            found = pattern.match(self.text, self.at)
            moved = found.end() - self.at if found else 0
            self.at += moved
            if self.at < len(self.text) or self.exhausted or not moved:
                return

    def peek(self) -> str:
        """Return the next character."""
        return self.text[self.at]

    def advance(self, count: int) -> None:
        """Move on."""
        self.at += count

    def at_end(self) -> bool:
        """Tell whether nothing is left."""
        if self.at >= len(self.text):
            self.fill(1)
        return self.at >= len(self.text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _Decoder:
    """Parses JSON, and tells whether an object in it has a name twice."""

    def __init__(self) -> None:
        self._repeats = False
        self._json = json.JSONDecoder(
            parse_constant=_refuse_constant, object_pairs_hook=self._object
        )

    def decode(self, text: str) -> tuple[Any, bool]:
        """Return the value of a whole text, and whether a name is repeated in it."""
        self._repeats = False
        return self._json.decode(text), self._repeats

    def raw_decode(self, text: str, at: int) -> tuple[Any, int, bool]:
        """Return the value that begins at `at`, where it ends, and whether a name is repeated."""
        self._repeats = False
        value, end = self._json.raw_decode(text, at)
        return value, end, self._repeats

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        self._repeats = self._repeats or len(made) != len(pairs)
        return made
