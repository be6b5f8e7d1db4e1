"""Open what is prepared: one file, one sheet or one query, row by row."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ft_tools import workspace
from ft_tools.data.prepare.mapping import ColumnMapping
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.turns import joined
from ft_tools.errors import BadData, BadInput
from ft_tools.examples.encodings import HEAD_BYTES, text_encoding
from ft_tools.examples.source import Source, find_sources, read
from ft_tools.examples.text_kinds import refuse_what_is_not_text

TEXT_TABLES = {".csv": "csv", ".tsv": "tsv"}
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
    kind = TEXT_TABLES.get(path.suffix.lower())
    if path.is_file() and (request.encoding is not None or kind is not None):
        encoding = request.encoding or text_encoding(path)
        if request.encoding is None and encoding not in ("utf-8", "utf-16"):
            with workspace.open_file(path) as stream:
                refuse_what_is_not_text(path, stream.read(HEAD_BYTES))
        if encoding != "utf-8":
            return Source(path, kind or "csv", False, path.stat().st_size, encoding=encoding)
    sources = find_sources(path)
    if len(sources) != 1:
        raise BadInput(f"path={request.path!r} is a folder of {len(sources)} files; name one file")
    return replace(sources[0], select=request.query or request.sheet)


def rows_of(source: Source) -> Rows:
    """Yield the number of every row, and the row or None.

    Raises:
        BadData: Many rows are in another encoding.
    """
    undecoded = 0
    for count, row in enumerate(read(source), 1):
        is_row = row.problem is None and isinstance(row.value, dict)
        if row.problem == "not_utf8":
            undecoded += 1
            if count >= 100 and undecoded > MAX_UNDECODED * count:
                raise BadData(
                    source.path,
                    "is not UTF-8",
                    "pass encoding, such as 'cp1252' (Western Windows), and check the examples",
                    row.number,
                )
        yield row.number, row.value if is_row else None


@dataclass(frozen=True)
class Reader:
    """How the rows of a file are read under a mapping."""

    source: Source
    mapping: ColumnMapping

    def rows(self) -> Rows:
        """Yield every row; turns are joined to conversations."""
        rows = rows_of(self.source)
        return joined(self.mapping, rows) if self.mapping.turns else rows
