"""Open what is prepared: one file, one sheet or one query, row by row."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ft_tools import workspace
from ft_tools.data.prepare.column_mapping import ColumnMapping
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.turns import joined
from ft_tools.errors import BadData, BadInput
from ft_tools.formats.columns import PLAIN_NAME
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import Source, find_sources, read
from ft_tools.publish import sha256

READS = {
    "sheet": ({"sheet"}, "a workbook (Excel, OpenDocument) or an object of lists"),
    "query": ({"sqlite"}, "an SQLite file"),
    "encoding": ({"csv", "tsv"}, "a CSV or TSV file"),
}
"""Argument -> the kinds of files that it is for, and what they are called."""
MAX_UNDECODED = 0.1
"""Share of rows in another encoding above which the encoding is asked for. Ours."""

Rows = Iterator[tuple[int, dict[str, object] | None]]
"""Row number, and the row; None where it cannot be read."""


def source_of(request: PrepareRequest) -> Source:
    """Find and recognise the file that a request names.

    Raises:
        NotFound: It does not exist.
        BadInput: It is a folder of several files.
        BadData: It is no data.
    """
    path = workspace.existing(request.path)
    sources = find_sources(path, request.encoding)
    if len(sources) != 1:
        said = f"is a folder of {len(sources)} files"
        raise BadInput(f"path={request.path!r} {said}; name one file")
    source = sources[0]
    names = [name for name, _ in source.lists]
    if request.sheet is not None and names:
        if request.sheet not in names:
            plain = ", ".join(filter(PLAIN_NAME.fullmatch, names))
            raise BadInput(f"{request.path!r} has no list {request.sheet!r}; its lists: {plain}")
        return replace(source, select=request.sheet)
    for name, (kinds, what) in READS.items():
        if getattr(request, name) not in (None, source.encoding) and source.kind not in kinds:
            raise BadInput(f"{name} is for {what}, and {request.path!r} is none; remove {name}")
    return replace(source, select=request.query or request.sheet)


def rows_of(source: Source) -> Rows:
    """Yield the number of every row, and the row or None."""
    for row in decoded(source):
        yield row.number, None if row.problem else row.value


def decoded(source: Source) -> Iterator[Row]:
    """Yield every row: an object, or the finding that stands for it.

    Raises:
        BadData: Many rows are in another encoding.
    """
    undecoded = 0
    for count, row in enumerate(read(source), 1):
        if row.problem == "not_utf8":
            undecoded += 1
            if count >= 100 and undecoded > MAX_UNDECODED * count:
                raise BadData(
                    source.path,
                    "is not UTF-8",
                    "pass encoding, such as 'cp1252' (Western Windows), and check the examples",
                    row.number,
                )
        is_none = row.problem is None and not isinstance(row.value, dict)
        yield Row(row.number, None, "wrong_type") if is_none else row


@dataclass(frozen=True)
class Reader:
    """How the rows of a file are read under a mapping."""

    source: Source
    mapping: ColumnMapping

    @cached_property
    def content(self) -> str:
        """Return the sha256 of the file."""
        return sha256(self.source.path)

    def rows(self, left_out: "Counter[str] | None" = None) -> Rows:
        """Yield every row; turns are joined to conversations.

        Args:
            left_out: Is given how many turns are left out for which reason.
        """
        rows = rows_of(self.source)
        if not self.mapping.turns:
            return rows
        return joined(self.mapping, rows, Counter() if left_out is None else left_out)
