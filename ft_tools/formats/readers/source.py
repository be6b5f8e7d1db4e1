"""Recognise a data file by its first bytes, and read its rows with the reader of its kind.

A row is what a reader yields: its number, and either a value or the id of a finding. Reading is
streamed; what is held at once is bounded by `ROW_BYTES` and a read buffer.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from ft_tools import abandoned_calls, workspace
from ft_tools.errors import BadData, BadInput, NotFound, require_installed
from ft_tools.formats.column_counts import shown
from ft_tools.formats.json_text import parse_json
from ft_tools.formats.readers.csv_rows import read_csv
from ft_tools.formats.readers.decompressed import decoded_cap, gunzip
from ft_tools.formats.readers.encodings import BYTE_ORDER_MARKS, encoding_of
from ft_tools.formats.readers.encodings import HEAD_BYTES as ENCODING_BYTES
from ft_tools.formats.readers.file_kinds import (
    KINDS,
    SUFFIXES,
    TEXT_TABLES,
    Lists,
    lists_of_rows,
    refuse_what_is_not_text,
    suffix_of,
    text_kind,
)
from ft_tools.formats.readers.json_rows import CHUNK, read_lines, read_values
from ft_tools.formats.readers.rows import ROW_BYTES, Row
from ft_tools.formats.readers.sqlite_rows import read_sqlite
from ft_tools.formats.readers.workbook import is_workbook, read_sheet

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
WORKBOOK_EXPANSION = 8
"""About how many times a workbook's text is larger than the packed file. Judgement."""
HEAD_BYTES = 65536
MOST_OBJECT_BYTES = 128 * 2**20
"""Of an object whose lists are looked for: it takes about eight times that. Judgement."""
MAX_FILES = 10_000
MOST_LISTS = 5
"""Names of lists that are repeated."""
# What the library datasets and the Hub write beside the data.
ABOUT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
PARTS = ("train.jsonl", "removed.jsonl")
"""What every folder holds that this package wrote for training."""
HELD_OUT = re.compile(r"(?<![a-z])(?:test|validation|valid|val|dev|eval)(?![a-z])")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")


@dataclass(frozen=True)
class Source:
    """One data file, recognised."""

    path: Path
    kind: str
    """Of `file_kinds.KINDS`."""
    gzipped: bool
    size_bytes: int
    is_array: bool = False
    """Whether a file of JSON is an array."""
    lists: Lists = ()
    """Name and length of each list of rows in an object that is all of the file, longest first."""
    inner_lists: Lists = ()
    """The same, with dotted names, of lists in the object's objects."""
    select: str | None = None
    """A workbook's sheet, an object's list, or a SELECT for a database; None: the only one, the
    longest list, or the first."""
    encoding: str = "utf-8"

    @property
    def is_plain(self) -> bool:
        """Return whether it is a file as training, evaluation and creation read it."""
        return not self.gzipped and (self.kind == "jsonl" or self.is_array)

    member: tuple[Path, int] | None = None
    """The folder and its number there, if its name could say something: errors do not repeat it."""


def find_sources(path: Path, encoding: str | None = None) -> list[Source]:
    """Return the data files of a path: itself, or those of a folder in the order of their names.

    Raises:
        BadData: A file is not data, or a folder has none.
    """
    if not path.is_dir():
        return [recognise(path, encoding)]
    if _holds_parts(path):
        cure = f"name one of its files, such as {path.name}/{PARTS[0]}"
        raise BadData(path, "holds the parts that prepare_dataset or audit_dataset wrote", cure)
    files = list(files_in(path, _is_data))
    if not files and any(path.rglob("*.arrow")):
        cure = "save it as JSONL: datasets.load_from_disk(FOLDER), and .to_json(FILE) of each split"
        raise BadData(path, "holds Arrow files, as save_to_disk writes them", cure)
    if not files:
        listed = ", ".join(sorted(SUFFIXES))
        raise BadData(path, "holds no data file", f"put files ending in {listed} in it")
    return [_recognise_in(path, number, file) for number, file in enumerate(files, 1)]


def files_in(folder: Path, is_named: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield the files of a folder that are named so, in the order of their names.

    Those that are hidden, empty or written by this package are left out.

    Raises:
        BadData: There are too many.
    """
    num = 0
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or not (is_named(file) and file.is_file() and file.stat().st_size > 0):
            continue
        if not is_ours(folder, file):
            num += 1
            yield file
        if num > MAX_FILES:
            raise BadData(folder, f"has more than {MAX_FILES} files", "name a smaller folder")


def is_ours(folder: Path, file: Path) -> bool:
    """Return whether this package wrote a file in a folder: of runs, caches, training files."""
    ours = (workspace.roots()[0] / "runs", workspace.cache_dir())
    is_beside = any(file.is_relative_to(o) and not folder.is_relative_to(o) for o in ours)
    between = (one for one in file.parents if one != folder and one.is_relative_to(folder))
    return is_beside or any(map(_holds_parts, between))


def _holds_parts(folder: Path) -> bool:
    """Return whether this package wrote a folder, whose rows are those of other files."""
    return all((folder / name).is_file() for name in PARTS)


def has_data(path: Path) -> bool:
    """Return whether a path is a data file by its name, or a folder with one."""
    return any(files_in(path, _is_data)) if path.is_dir() else _is_data(path)


def _is_data(file: Path) -> bool:
    return suffix_of(file) in SUFFIXES and file.name not in ABOUT_DATA


def _recognise_in(folder: Path, number: int, file: Path) -> Source:
    """Recognise a file of a folder.

    Raises:
        BadData: It is not data.
        OutsideWorkspace: It is a link that leads out of the workspace.
    """
    plain = all(map(PLAIN_NAME.fullmatch, file.relative_to(folder).parts))
    with _unnamed(None if plain else (folder, number)):
        found = workspace.existing(str(file))
    # A link may lead to a file of any name.
    member = None if plain and found == file else (folder, number)
    with _unnamed(member):
        try:
            return replace(recognise(found), member=member)
        except BadData as error:
            cure = f"{error.cure}, take it out of the folder, or name the other files one by one"
            raise BadData(found, error.problem, cure) from error


@contextmanager
def _unnamed(member: tuple[Path, int] | None) -> Iterator[None]:
    """Turn an error about a file of a folder into one that does not repeat the file's name."""
    try:
        yield
    except (BadInput, NotFound) as error:
        if member is None:
            raise
        folder, number = member
        problem = f"its file number {number} (in order of names) cannot be read as data"
        raise BadData(folder, problem, "name it alone to see why, or take it out") from error


def recognise(path: Path, encoding: str | None = None) -> Source:
    """Find out from its first bytes what a file is; the name only decides between text kinds.

    Raises:
        BadData: It is empty, binary, not in the encoding, or has to be converted first.
    """
    source = Source(path, "", gzipped=False, size_bytes=path.stat().st_size)
    suffix = suffix_of(path)
    with _open_text(source) as stream:
        if stream.read(2) == GZIP:
            source = replace(source, gzipped=True)
    if source.gzipped and encoding not in {None, "utf-8"}:
        raise BadData(path, "is compressed", "unpack it first, or remove encoding")
    with _open_text(source) as stream:
        head, is_whole = _head(stream, suffix)
    if not head:
        empty = "is an empty gzip file" if source.gzipped else "is empty"
        raise BadData(path, empty, "name a file with examples")
    if not source.gzipped:
        if binary := _binary_kind(path, head):
            return replace(source, kind=binary)
        named = SUFFIXES.get(suffix, "csv" if encoding else "")
        if named in TEXT_TABLES and (found := _encoding(path, encoding)) != "utf-8":
            return replace(source, kind=named, encoding=found)
    refuse_what_is_not_text(path, head, "" if source.gzipped else suffix)
    kind = text_kind(head, suffix, is_whole=is_whole)
    if kind == "csv" and SUFFIXES.get(suffix) not in TEXT_TABLES:
        cure = "give JSONL (one object per line), JSON, CSV, a workbook or Parquet"
        raise BadData(path, "does not begin with JSON", cure)
    is_array = kind == "json_values" and head.lstrip().startswith(b"[")
    source = replace(source, kind=kind, is_array=is_array)
    if kind != "json_values" or is_array:
        return source
    lists, inner = _lists_of(source, path.stat().st_mtime_ns)
    return replace(source, lists=lists, inner_lists=inner)


def _encoding(path: Path, named: str | None) -> str:
    """Return how a table of text is encoded.

    Raises:
        BadData: It is no text, or not in the encoding that is named.
    """
    with workspace.open_file(path) as stream:
        head = stream.read(ENCODING_BYTES)
    encoding = named or encoding_of(head)
    if encoding == "utf-16":
        if not head.startswith(BYTE_ORDER_MARKS) and b"\0" not in head:
            raise BadData(path, "is not UTF-16", "remove encoding: it is recognised from the bytes")
    elif named is None and encoding != "utf-8":
        refuse_what_is_not_text(path, head)
    return encoding


@lru_cache(maxsize=100)
def _lists_of(source: Source, changed_ns: int) -> tuple[Lists, Lists]:
    """Read a file whole for its lists of rows; `changed_ns` has it read again."""
    with _open_text(source) as stream:
        content = stream.read(MOST_OBJECT_BYTES + 1)
    whole = parse_json(content) if len(content) <= MOST_OBJECT_BYTES else None
    return lists_of_rows(whole) if isinstance(whole, dict) else ((), ())


def _binary_kind(path: Path, head: bytes) -> str | None:
    """Return the kind of table that is no text; None if it is none."""
    found = (name for name, kind in KINDS.items() if kind.starts and head.startswith(kind.starts))
    name = next(found, None)
    return None if head.startswith(ZIP) and not is_workbook(path) else name


def _head(stream: BinaryIO, suffix: str) -> tuple[bytes, bool]:
    """Return the first bytes that are not blank, of JSON lines at least the first line.

    Returns:
        The bytes, and whether they are the rest of the file.
    """
    head = stream.read(HEAD_BYTES)
    while not head.strip() and (more := stream.read(HEAD_BYTES)):
        abandoned_calls.require_waiting()
        head = more
    if SUFFIXES.get(suffix) == "jsonl" and b"\n" not in head.lstrip():
        head += stream.readline(ROW_BYTES)
    return head, not stream.read(1)


def is_held_out(source: Source) -> bool:
    """Return whether a file is named as a part that is not for training.

    >>> [is_held_out(Source(Path(name), "jsonl", False, 1)) for name in ("test-0.json", "latest")]
    [True, False]
    """
    return HELD_OUT.search(source.path.name.lower()) is not None


def read(source: Source) -> Iterator[Row]:
    """Yield the rows of a file in order, numbered from 1: lines for JSONL, rows for the rest.

    Raises:
        BadData: It decodes to more than the cap, or is damaged beyond reading on.
        MissingExtra: It is Parquet and pyarrow is not installed.
        Abandoned: Nobody waits for the call that reads it.
    """
    with _unnamed(source.member):
        for row in _rows(source):
            abandoned_calls.require_waiting()
            yield row


def _rows(source: Source) -> Iterator[Row]:
    path, cap = source.path, decoded_cap(source.size_bytes)
    if source.kind == "sheet":
        yield from read_sheet(path, source.select)
        return
    if source.kind == "sqlite":
        yield from read_sqlite(path, source.select, cap)
        return
    with _open_text(source) as stream:
        match source.kind:
            case "parquet":
                yield from _parquet().read(stream, path, cap)
            case "jsonl":
                yield from read_lines(stream)
            case "csv" | "tsv":
                yield from read_csv(stream, "\t" if source.kind == "tsv" else "", source.encoding)
            case _ if source.lists or source.select:
                yield from _of_list(source, stream)
            case _:
                yield from read_values(stream, path, "item" if source.is_array else "")


def _parquet() -> ModuleType:
    """Return the reader of Parquet, which loads pyarrow."""
    require_installed("data", "pyarrow")
    from ft_tools.formats.readers import parquet

    return parquet


def _of_list(source: Source, stream: BinaryIO) -> Iterator[Row]:
    """Yield the rows of a list of an object, with the first of them which it is."""
    wanted = source.select or source.lists[0][0]
    others = [one for one in source.lists if one[0] != wanted and source.select is None]
    said = f"the rows are the list {shown(wanted)} of the object that the file is"
    if others:
        listed = ", ".join(f"{shown(name)} {count} rows" for name, count in others[:MOST_LISTS])
        said += f"; it has {len(others)} more ({listed}): `sheet` reads another"
    about: tuple[str, ...] = (said,)
    tables = (wanted, *(name for name, _ in others)) if others else ()
    for row in read_values(stream, source.path, f"{wanted}.item"):
        yield row._replace(about=about, tables=tables)
        about, tables = (), ()


RAW_CHARS = 2_000


def raw_line(source: Source, number: int) -> str:
    """Return the beginning of a line of JSON lines as it stands in the file; else nothing."""
    if source.kind != "jsonl":
        return ""
    with _open_text(source) as stream:
        at = 0
        while line := stream.readline(CHUNK):
            if at + 1 == number:
                return line[: 4 * RAW_CHARS].decode("utf-8", "replace").strip()[:RAW_CHARS]
            at += line.endswith(b"\n")
    return ""


def decoded_size(sources: Iterable[Source], most: int) -> int:
    """Return how many bytes files decode to, at most a little above `most`; of Parquet, about.

    Raises:
        BadData: One is damaged.
        MissingExtra: One is Parquet and pyarrow is not installed.
    """
    size = 0
    for source in sources:
        with _unnamed(source.member), closing(_sizes(source)) as sizes:
            for one in sizes:
                size += one
                if size > most:
                    return size
    return size


def _sizes(source: Source) -> Generator[int]:
    """Yield the bytes that the parts of a file decode to."""
    if source.kind == "sqlite":
        # A query, or a view, may make more rows than the file holds.
        yield from (row.num_chars or 0 for row in _rows(source))
    elif source.kind == "sheet":
        yield source.size_bytes * WORKBOOK_EXPANSION
    elif source.kind == "parquet" or source.gzipped:
        with _open_text(source) as stream:
            if source.kind == "parquet":
                yield _parquet().decoded_size(stream, source.path)
            else:
                yield from map(len, iter(lambda: stream.read(1 << 20), b""))
    else:
        yield source.size_bytes


def _open_text(source: Source) -> BinaryIO:
    """Open a file behind UTF-8's byte order mark, if it has one."""
    path = source.path
    opened = gunzip(path, source.size_bytes) if source.gzipped else workspace.open_file(path)
    if isinstance(opened, BufferedReader) and opened.peek(3).startswith(BOM_UTF8):
        opened.read(3)
    return opened
