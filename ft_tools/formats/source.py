"""Open a data file: find out what it really is, undo gzip, and never read more than a cap.

A row is what a reader yields: its number, and either a JSON value or the id of a finding. Reading
is streamed; what is held at once is bounded by `ROW_BYTES` and a read buffer.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from ft_tools import abandoned_calls, workspace
from ft_tools.errors import BadData, BadInput, MissingExtra, NotFound
from ft_tools.formats.columns import PLAIN_NAME as PLAIN_KEY
from ft_tools.formats.csv_rows import read_csv
from ft_tools.formats.decompressed import decoded_cap, gunzip
from ft_tools.formats.file_kinds import LINES, lists_of_rows, refuse_what_is_not_text, text_kind
from ft_tools.formats.json_stream import (
    CHUNK,
    ROW_BYTES,
    Row,
    members,
    read_lines,
    read_member,
    read_values,
)
from ft_tools.formats.spreadsheet import is_workbook, read_sheet
from ft_tools.formats.sqlite_rows import read_sqlite

TABLES = {".csv", ".tsv", ".parquet", ".xlsx", ".xls", ".ods", ".sqlite", ".db"}
SUFFIXES = {*LINES, ".json", *TABLES}
LFS_POINTER = b"version https://git-lfs"
ZIP, OLE, SQLITE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"SQLite format 3\0"
WORKBOOK_EXPANSION = 8
"""About how many times a workbook's text is larger than the packed file. Ours."""
HEAD_BYTES = 65536
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
    """jsonl, json_values, csv, tsv, parquet, sheet (a workbook) or sqlite."""
    gzipped: bool
    size_bytes: int
    has_bom: bool = False
    array_starts: int = 0
    """Bytes before the `[` of a JSON array that is wrapped in an object; 0 if none is."""

    lists: tuple[tuple[str, int], ...] = ()
    """Name and length of each list of rows in an object that is all of the file, longest first."""
    select: str | None = None
    """A workbook's sheet, an object's list, or a SELECT for a database; None: the only one, the
    longest list, or the first."""
    encoding: str = "utf-8"

    @property
    def is_plain_lines(self) -> bool:
        """Tell whether it is what the launch tools read."""
        return self.kind == "jsonl" and not self.gzipped

    member: tuple[Path, int] | None = None
    """The folder and its number there, if its name could say something: errors do not repeat it."""


def find_sources(path: Path) -> list[Source]:
    """Return the data files of a path: itself, or those of a folder in the order of their names.

    Raises:
        BadData: A file is not data, or a folder has none.
    """
    if not path.is_dir():
        return [recognise(path)]
    if all((path / name).is_file() for name in PARTS):
        cure = f"name one of its files, such as {path.name}/{PARTS[0]}"
        raise BadData(path, "holds the parts that prepare_dataset or audit_dataset wrote", cure)
    files: list[Path] = []
    for file in sorted(path.rglob("*")):
        if len(files) > MAX_FILES:
            raise BadData(path, f"has more than {MAX_FILES} data files", "merge them")
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        is_data = _suffix(file)[0] in SUFFIXES and file.name not in ABOUT_DATA
        if not hidden and is_data and file.is_file() and file.stat().st_size:
            files.append(file)
    if not files and any(path.rglob("*.arrow")):
        cure = "save it as JSONL: datasets.load_from_disk(FOLDER), and .to_json(FILE) of each split"
        raise BadData(path, "holds Arrow files, as save_to_disk writes them", cure)
    if not files:
        listed = ", ".join(sorted(SUFFIXES))
        raise BadData(path, "holds no data file", f"put files ending in {listed} in it")
    return [_recognise_in(path, number, file) for number, file in enumerate(files, 1)]


def has_data(path: Path) -> bool:
    """Tell whether a path is a data file by its name, or a folder with one."""
    if not path.is_dir():
        return _suffix(path)[0] in SUFFIXES
    return any(_suffix(f)[0] in SUFFIXES and f.name not in ABOUT_DATA for f in path.rglob("*"))


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


def recognise(path: Path) -> Source:
    """Find out from its first bytes what a file is; the name only decides between text kinds.

    Raises:
        BadData: It is empty, binary, or something that has to be converted first.
    """
    size = path.stat().st_size
    suffix, named_gzip = _suffix(path)
    with workspace.open_file(path) as stream:
        head, is_whole, skipped = _head(stream, suffix)
    if not head:
        raise BadData(path, "is empty", "name a file with examples")
    if head.startswith(LFS_POINTER):
        raise BadData(path, "is a Git LFS pointer, not the data", "run: git lfs pull")
    gzipped = head.startswith(b"\x1f\x8b")
    if named_gzip and not gzipped:
        raise BadData(path, "is named .gz but is not gzip", "rename it or compress it")
    if gzipped:
        with gunzip(path, size) as stream:
            head, is_whole, skipped = _head(stream, suffix)
        if not head:
            raise BadData(path, "is an empty gzip file", "name a file with examples")
    if head.startswith(b"PAR1"):
        if gzipped:
            raise BadData(path, "is a gzipped Parquet file", "unpack it: gunzip")
        return Source(path, "parquet", gzipped, size)
    if not gzipped and (kind := _binary_kind(path, head)):
        return Source(path, kind, gzipped, size)
    refuse_what_is_not_text(path, head, "" if gzipped else suffix)
    has_bom = head.startswith(b"\xef\xbb\xbf") and not skipped
    kind, starts = text_kind(head[3:] if has_bom else head, suffix, is_whole=is_whole)
    if kind == "csv" and suffix not in {".csv", ".tsv"}:
        raise BadData(
            path,
            "does not begin with JSON",
            "give JSONL (one object per line), JSON, CSV, a workbook or Parquet",
        )
    found = Source(path, kind, gzipped, size, has_bom, starts and starts + skipped)
    return _with_lists(found) if head[3 * has_bom :].lstrip().startswith(b"{") else found


def _with_lists(source: Source) -> Source:
    """Return a file that begins with an object with the lists of rows in it."""
    if source.kind != "json_values" or source.array_starts:
        return source
    return replace(source, lists=_lists_of(source, source.path.stat().st_mtime_ns))


@lru_cache(maxsize=100)
def _lists_of(source: Source, changed_ns: int) -> tuple[tuple[str, int], ...]:
    """Read a file through once for its lists of rows; `changed_ns` has it read again."""
    with _open_text(source) as stream:
        return lists_of_rows(members(stream))


def _binary_kind(path: Path, head: bytes) -> str | None:
    """Name a kind of table that is no text: a workbook or a database."""
    if head.startswith(OLE) or (head.startswith(ZIP) and is_workbook(path)):
        return "sheet"
    return "sqlite" if head.startswith(SQLITE) else None


def _head(stream: BinaryIO, suffix: str) -> tuple[bytes, bool, int]:
    """Return the first bytes that are not blank, of JSON lines at least the first line.

    Returns:
        The bytes, whether they are the rest of the file, and how many blank ones stand before them.
    """
    head, skipped = stream.read(HEAD_BYTES), 0
    while not head.strip() and (more := stream.read(HEAD_BYTES)):
        abandoned_calls.require_waiting()
        skipped += len(head)
        head = more
    if suffix in LINES and b"\n" not in head.lstrip():
        head += stream.readline(ROW_BYTES)
    return head, not stream.read(1), skipped


def is_held_out(source: Source) -> bool:
    """Tell whether a file is named as a part that is not for training.

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
    if source.kind == "parquet":
        _require_pyarrow()
        from ft_tools.formats import parquet

        with workspace.open_file(source.path) as stream:
            yield from parquet.read(stream, source.path, decoded_cap(source.size_bytes))
        return
    if source.kind == "sheet":
        yield from read_sheet(source.path, source.select)
        return
    if source.kind == "sqlite":
        cap = decoded_cap(source.size_bytes)
        yield from read_sqlite(source.path, source.select, cap)
        return
    with _open_text(source) as stream:
        if source.kind == "jsonl":
            yield from read_lines(stream)
        elif source.lists:
            yield from _of_list(source, stream)
        elif source.kind == "json_values":
            stream.read(source.array_starts)
            yield from read_values(stream, wrapped=source.array_starts > 0)
        else:
            separator = "\t" if source.kind == "tsv" else ""
            yield from read_csv(stream, separator, source.encoding)


def _of_list(source: Source, stream: BinaryIO) -> Iterator[Row]:
    """Yield the rows of a list of an object, with the first of them which it is."""
    wanted = source.select or source.lists[0][0]
    others = [name for name, _ in source.lists if name != wanted]
    plain = [name if PLAIN_KEY.fullmatch(name) else "one of an unusual name" for name in others]
    said = f"the rows are the list {wanted!r}" if PLAIN_KEY.fullmatch(wanted) else ""
    said = said or "the rows are the longest list, of an unusual name,"
    said += " of the object that the file is"
    if others:
        said += (
            f"; it has {len(others)} more ({', '.join(plain[:MOST_LISTS])}): prepare_dataset reads "
            "another with sheet"
        )
    about: tuple[str, ...] = (said,)
    for row in read_member(stream, wanted):
        yield row._replace(about=about)
        about = ()


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


def decoded_size(source: Source, most: int) -> int:
    """Return how many bytes a file decodes to, at most a little above `most`; of Parquet, about.

    Raises:
        BadData: It is damaged.
        MissingExtra: It is Parquet and pyarrow is not installed.
    """
    with _unnamed(source.member):
        return _decoded_size(source, most)


def _decoded_size(source: Source, most: int) -> int:
    if source.kind == "parquet":
        _require_pyarrow()
        from ft_tools.formats import parquet

        with workspace.open_file(source.path) as stream:
            return parquet.decoded_size(stream, source.path)
    if source.kind == "sheet":
        return source.size_bytes * WORKBOOK_EXPANSION
    if source.kind == "sqlite" and source.size_bytes <= most:
        # A query, or a view, may make more rows than the file holds.
        size = 0
        rows = _rows(source)
        while size <= most and (row := next(rows, None)):
            size += row.num_chars or 0
        return size
    if not source.gzipped:
        return source.size_bytes
    with gunzip(source.path, source.size_bytes) as stream:
        size = 0
        while size <= most and (data := stream.read(1 << 20)):
            size += len(data)
    return size


def _require_pyarrow() -> None:
    if find_spec("pyarrow") is None:
        raise MissingExtra("data", "pyarrow")


def _open_text(source: Source) -> BinaryIO:
    opened = (
        gunzip(source.path, source.size_bytes)
        if source.gzipped
        else workspace.open_file(source.path)
    )
    if source.has_bom:
        opened.read(3)
    return opened


def _suffix(path: Path) -> tuple[str, bool]:
    name = path.name.lower()
    gzipped = name.endswith((".gz", ".gzip"))
    stem = name.rsplit(".", 1)[0] if gzipped else name
    return (f".{stem.rsplit('.', 1)[-1]}" if "." in stem else "", gzipped)
