"""Tell from the first bytes of a file whether it is text, and which kind of rows it holds."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft_tools.errors import BadData
from ft_tools.formats.detect_format import detect
from ft_tools.formats.encodings import utf_16_of
from ft_tools.formats.json_stream import Member
from ft_tools.formats.speakers import are_turns
from ft_tools.formats.turns import is_conversation

LINES = {".jsonl", ".ndjson"}
MOST_CONTROL = 0.05
"""Share of control characters above which a file is binary. Ours."""
WRAPPERS = (b"data", b"examples", b"rows", b"train", b"instances", b"items")
KEY = re.compile(rb'"(?P<name>[^"\\]{1,100})"\s*:\s*')
ROWS = re.compile(rb"\[\s*[{\[]")

# First bytes of files that are not data -> what to say.
MAGIC: list[tuple[bytes, str, str]] = [
    (b"PK\x03\x04", "is a zip archive", "unpack it and name the file inside (or save as CSV)"),
    (b"PK\x05\x06", "is an empty zip archive", "name the data file itself"),
    (b"%PDF", "is a PDF", "recommend_approach with `documents` says what it is good for"),
    (b"ARROW1", "is an Arrow file", "save it as Parquet or JSONL"),
    (b"\xff\xff\xff\xff", "is an Arrow file", "save it as Parquet or JSONL"),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed", "unpack it: zstd -d"),
    (b"BZh", "is bzip2-compressed", "unpack it: bunzip2"),
    (b"\xfd7zXZ", "is xz-compressed", "unpack it: unxz"),
    (b"7z\xbc\xaf", "is a 7-zip archive", "unpack it and name the file inside"),
    (b"GGUF", "is a GGUF model", "name a data file"),
]
BINARY = dict.fromkeys([".xlsx", ".xls", ".ods"], "workbook")
BINARY |= {".parquet": "Parquet file", ".sqlite": "SQLite database", ".db": "SQLite database"}
"""Suffix -> what such a file is."""
HTML = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")


def refuse_what_is_not_text(path: Path, head: bytes, suffix: str = "") -> None:
    """Refuse a file by its first bytes, with how to make data of it.

    A file that is named as a binary table and begins as JSON is read as JSON all the same.

    Raises:
        BadData: It is another kind of file, binary, or holds only white space.
    """
    if suffix in BINARY and head.lstrip()[:1] not in {b"{", b"["}:
        problem = f"is named {suffix}, but is no {BINARY[suffix]}, or a damaged one"
        raise BadData(path, problem, "save it again, or as CSV (UTF-8)")
    for magic, problem, cure in MAGIC:
        if head.startswith(magic):
            raise BadData(path, problem, cure)
    if head.lstrip()[:20].lower().startswith(HTML):
        raise BadData(
            path,
            "is HTML or XML: a web page was saved instead of the data",
            "download the raw file (on the Hub: resolve/, not blob/)",
        )
    if utf_16 := utf_16_of(head):
        raise BadData(path, "is UTF-16", f"save it as UTF-8: iconv -f {utf_16} -t utf-8")
    if is_binary(head):
        raise BadData(path, "is a binary file", "give JSONL, JSON, CSV or Parquet")
    if not head.strip():
        raise BadData(path, "holds only white space", "name a file with examples")


def is_binary(head: bytes) -> bool:
    """Tell whether the first bytes of a file are no text."""
    sample = head[:8192]
    # Text has no NUL; a stray one in a long file is a finding, not a reason to refuse. Of random
    # bytes, 27 of 256 are such.
    control = sum(byte < 9 or 13 < byte < 32 for byte in sample)
    return control > len(sample) * MOST_CONTROL


def text_kind(head: bytes, suffix: str, *, is_whole: bool) -> tuple[str, int]:
    """Tell (kind, bytes before a wrapped array) from the first bytes of a text file."""
    if suffix in {".csv", ".tsv"}:
        return suffix[1:], 0
    start = head.lstrip()
    line, _, rest = start.partition(b"\n")
    first = _parsed(line)
    if start.startswith(b"["):
        return ("jsonl" if _is_of_lines(start, first, suffix) else "json_values"), 0
    if start.startswith(b"{"):
        array = _wrapped_array(start)
        is_alone = is_whole and not rest.strip()
        # A row may begin with such a list too; a wrapper is all of its file, and no example.
        if array and (first is None or (is_alone and detect(first) == "unknown")):
            return "json_values", len(head) - len(array)
        pretty = suffix == ".json" or line.strip() == b"{"
        return ("json_values" if pretty else "jsonl"), 0
    return ("jsonl" if suffix in {*LINES, ".json"} else "csv"), 0


def _parsed(line: bytes) -> Any:
    """Return the JSON value that a line is; None if it is none, or only part of one."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_of_lines(start: bytes, first: Any, suffix: str) -> bool:
    """Tell whether text that begins with a bracket is read line by line, not as an array of rows.

    A line may be a conversation, or `[INFO]` of a log; a row is an object or a list.
    """
    if is_conversation(first):
        return True
    return suffix in LINES and start[1:].lstrip()[:1] not in {b"{", b"[", b"]", b""}


def _wrapped_array(start: bytes) -> bytes:
    """Return the text from the `[` of an array of rows in an object; else empty.

    What stands before it says something about the file, such as its version, and is no list.
    """
    left = start[1:].lstrip()
    is_first = True
    while found := KEY.match(left):
        value = left[found.end() :]
        if found["name"] in WRAPPERS and (is_first or ROWS.match(value)):
            return value if value.startswith(b"[") else b""
        length = _length_beside(value)
        left = value[length:].lstrip()
        if not length or not left.startswith(b","):
            return b""
        left, is_first = left[1:].lstrip(), False
    return b""


def lists_of_rows(object_: Mapping[str, Member]) -> tuple[tuple[str, int], ...]:
    """Return the name and length of each list of rows in an object that is all of a file.

    Returns:
        Longest first; empty if the object is a row itself: an example, or with a conversation.
    """
    lists = {name: one for name, one in object_.items() if one.num_objects}
    beside = {name: one.value for name, one in object_.items() if name not in lists}
    if any(are_turns(one.value) for one in lists.values()) or detect(beside) != "unknown":
        return ()
    found = [(name, one.num_objects) for name, one in lists.items()]
    return tuple(sorted(found, key=lambda one: -one[1]))


def _length_beside(text: bytes) -> int:
    """Return how long the JSON value is that a text begins with; 0 if it may hold rows, or is cut.

    Any byte is a character of Latin-1, so a head that is cut in the middle of one can be read.
    """
    try:
        value, length = json.JSONDecoder().raw_decode(text.decode("latin-1"))
    except (ValueError, RecursionError):
        return 0
    holds_rows = isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
    return 0 if holds_rows else length
