"""The table of file kinds, and which of them the first bytes of a file show."""

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ft_tools.errors import BadData
from ft_tools.formats.column_counts import MAX_DEPTH, items_of
from ft_tools.formats.formats import detect
from ft_tools.formats.json_text import parse_json
from ft_tools.formats.readers.encodings import BYTE_ORDER_MARKS
from ft_tools.formats.turns import is_conversation


class Kind(NamedTuple):
    """A kind of file; `source.read` has the reader of each."""

    title: str
    suffixes: tuple[str, ...]
    takes: str = ""
    """The argument that chooses what is read of it."""
    starts: tuple[bytes, ...] = ()
    """First bytes of a file that is no text."""


KINDS = {
    "jsonl": Kind("JSON lines", (".jsonl", ".ndjson")),
    "json_values": Kind("JSON", (".json",)),
    "csv": Kind("CSV", (".csv",), "encoding"),
    "tsv": Kind("TSV", (".tsv",), "encoding"),
    "parquet": Kind("Parquet", (".parquet",), "", (b"PAR1",)),
    "sheet": Kind(
        "workbook", (".xlsx", ".xls", ".ods"), "sheet", (b"\xd0\xcf\x11\xe0", b"PK\x03\x04")
    ),
    "sqlite": Kind("SQLite", (".sqlite", ".db"), "query", (b"SQLite format 3\0",)),
}
SUFFIXES = {suffix: name for name, kind in KINDS.items() for suffix in kind.suffixes}
TEXT_TABLES = ("csv", "tsv")
TABLES = {suffix for suffix, name in SUFFIXES.items() if not name.startswith("json")}
BINARY = {suffix: KINDS[name].title for suffix, name in SUFFIXES.items() if KINDS[name].starts}
"""Suffix -> what such a file is."""
Lists = tuple[tuple[str, int], ...]
WRAPPERS = frozenset({"data", "examples", "rows", "train", "instances", "items"})
"""Names of lists that the only line of a file of lines may wrap its rows in."""
FIRST_ITEMS = 5
"""Of a list that are looked at, to see whether it is a conversation."""
MOST_CONTROL = 0.05
"""Share of control characters above which a file is binary. Judgement."""

LFS_POINTER = b"version https://git-lfs"
# First bytes of files that are not data -> what to say.
MAGIC: list[tuple[bytes, str, str]] = [
    (LFS_POINTER, "is a Git LFS pointer, not the data", "run: git lfs pull"),
    (b"PK\x03\x04", "is a zip archive", "unpack it and name the file inside (or save as CSV)"),
    (b"%PDF", "is a PDF", "recommend_approach with `documents` says what it is good for"),
    (b"ARROW1", "is an Arrow file", "save it as Parquet or JSONL"),
    (b"\xff\xff\xff\xff", "is an Arrow file", "save it as Parquet or JSONL"),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed", "unpack it: zstd -d"),
    (b"BZh", "is bzip2-compressed", "unpack it: bunzip2"),
    (b"\xfd7zXZ", "is xz-compressed", "unpack it: unxz"),
    (b"PAR1", "is a compressed Parquet file", "unpack it"),
]
HTML = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")


def suffix_of(path: Path) -> str:
    """Return how a file is named, below a suffix that says that it is compressed."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".gzip")
    return f".{name.rsplit('.', 1)[-1]}" if "." in name else ""


def refuse_what_is_not_text(path: Path, head: bytes, suffix: str = "") -> None:
    """Refuse a file by its first bytes, with how to make data of it.

    A file that is named as a binary table and begins as JSON is read as JSON all the same.

    Raises:
        BadData: It is another kind of file, binary, or holds only white space.
    """
    # Large tables are what Git LFS is for.
    if suffix in BINARY and not head.lstrip().startswith((b"{", b"[", LFS_POINTER)):
        named = f"is named {suffix}, but is no {BINARY[suffix]} file, or a damaged one"
        raise BadData(path, named, "save it again, or as CSV (UTF-8)")
    for magic, problem, cure in MAGIC:
        if head.startswith(magic):
            raise BadData(path, problem, cure)
    if head.lstrip()[:20].lower().startswith(HTML):
        page = "is HTML or XML: a web page was saved instead of the data"
        raise BadData(path, page, "download the raw file (on the Hub: resolve/, not blob/)")
    if head.startswith(BYTE_ORDER_MARKS):
        raise BadData(path, "is UTF-16", "save it as UTF-8: iconv -f utf-16 -t utf-8")
    # Text has no NUL; a stray one in a long file is a finding, not a reason to refuse. Of random
    # bytes, 27 of 256 are such.
    sample = head[:8192]
    if sum(byte < 9 or 13 < byte < 32 for byte in sample) > len(sample) * MOST_CONTROL:
        cure = "give JSONL, JSON, CSV or Parquet; for a table in UTF-16 set `encoding`"
        raise BadData(path, "is a binary file", cure)
    if not head.strip():
        raise BadData(path, "holds only white space", "name a file with examples")


def text_kind(head: bytes, suffix: str, *, is_whole: bool) -> str:
    """Return which kind of rows the first bytes of a text file show.

    Returns:
        jsonl, json_values, csv or tsv.
    """
    named = SUFFIXES.get(suffix, "")
    if named in TEXT_TABLES:
        return named
    start = head.lstrip()
    line, _, rest = start.partition(b"\n")
    first = parse_json(line)
    is_named_lines = named == "jsonl"
    if start.startswith(b"["):
        # A line may be a conversation, or `[INFO]` of a log; a row is an object or a list.
        is_row = is_named_lines and start[1:].lstrip()[:1] not in {b"{", b"[", b"]", b""}
        return "jsonl" if is_row or is_conversation(first) else "json_values"
    if start.startswith(b"{"):
        if first is None:
            return "jsonl" if is_named_lines and line.strip() != b"{" else "json_values"
        is_alone = is_whole and not rest.strip()
        wraps = named == "json_values" or _wraps_rows(first, WRAPPERS if is_named_lines else first)
        return "json_values" if is_alone and wraps else "jsonl"
    return "jsonl" if named.startswith("json") else "csv"


def _wraps_rows(value: Any, names: Container[str]) -> bool:
    """Return whether an object is no example, and has a list of objects of one of some names."""
    pairs = value.items() if value else ()
    lists = [one for name, one in pairs if isinstance(one, list) and name in names]
    return detect(value) == "unknown" and any(isinstance(one[0], dict) for one in lists if one)


def lists_of_rows(object_: Mapping[str, Any]) -> tuple[Lists, Lists]:
    """Return the lists of rows in an object that is all of a file, and those inside its objects.

    Returns:
        Longest first; empty if the object is a row itself: an example, or with a conversation.
    """
    found = [
        (path, num_objects, one)
        for name, value in object_.items()
        for path, one in _lists_in(name, value)
        if (num_objects := sum(isinstance(item, Mapping) for item in one))
    ]
    lists = {path for path, *_ in found if path in object_}
    outer = [one for path, _, one in found if path in lists or not lists]
    beside = {name: value for name, value in object_.items() if name not in lists}
    if any(is_conversation(one[:FIRST_ITEMS]) for one in outer) or detect(beside) != "unknown":
        return (), ()
    sized = sorted(((path, num) for path, num, _ in found), key=lambda one: -one[1])
    return tuple(s for s in sized if s[0] in lists), tuple(s for s in sized if s[0] not in lists)


def _lists_in(path: str, value: Any, depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield the lists in an object with their dotted paths; objects by id are rows themselves."""
    if isinstance(value, list):
        yield path, value
    elif isinstance(value, Mapping) and items_of(value) is None and depth < MAX_DEPTH:
        for key, inner in value.items():
            yield from _lists_in(f"{path}.{key}", inner, depth + 1)
