"""The rows of a request in the same order in every pass; a file that changed is noticed."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.data.map.conditions import ByColumn, fits
from ft_tools.data.map.conversations import Joining, joined
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.request import FileRequest
from ft_tools.errors import BadData, BadInput
from ft_tools.formats.column_counts import cell_at, shown, text_of, turns_in
from ft_tools.formats.readers.file_kinds import KINDS, TEXT_TABLES
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import Source, find_sources, read
from ft_tools.formats.turns import as_turns
from ft_tools.publish import sha256

TAKEN_BY = {
    "sheet": "a workbook (Excel, OpenDocument) or an object of lists",
    "query": "an SQLite file",
    "encoding": "a CSV or TSV file",
}
"""Argument -> the files that it is for."""
MAX_UNDECODED = 0.1
"""Share of rows in another encoding above which the encoding is asked for. Judgement."""

Observe = Callable[[Row], None]
"""Called with each row of a file that is read, before turns are joined."""


class Reader:
    """Reads the rows that a request names, in one file or those of a folder."""

    def __init__(self, request: FileRequest, path: Path) -> None:
        self._request = request
        self.path = path
        mapping = getattr(request, "mapping", None)
        self._mapping: ColumnMapping = mapping or ColumnMapping()
        self.preferred: ByColumn = getattr(request, "preferred", {})
        """Columns that decide contradictions, with their values."""
        self.sources = sources_of(request, path)

    def rows(self, joining: Joining | None = None, observe: Observe | None = None) -> Iterator[Row]:
        """Yield the rows, numbered through all files; turns are joined to conversations."""
        rows = self._through_all(observe)
        if self._mapping.turns is None:
            return rows
        joining = joining or Joining()
        joining.roles = self._roles()
        return joined(self._mapping, rows, joining, self.preferred)

    def _through_all(self, observe: Observe | None) -> Iterator[Row]:
        for _, number, row in self.numbered():
            through = row if row.number == number else row._replace(number=number)
            if observe is not None:
                observe(through)
            yield through

    def numbered(self) -> Iterator[tuple[Source, int, Row]]:
        """Yield (file, number through all files, row as it is in the file)."""
        before = last = 0
        for source in self.sources:
            for row in self.raw(source):
                last = before + row.number
                yield source, last, row
            before = last

    def _roles(self) -> dict[str, str]:
        """Return who each speaker is, where a list in the rows or another list of the file says it.

        Raises:
            BadInput: The list or its keys are not there, or one speaker has two roles.
        """
        turns = self._mapping.turns
        if turns is None or (lookup := turns.role_from) is None:
            return {}
        roles: dict[str, str] = {}
        for one in self._listed(lookup.list):
            if isinstance(one, Mapping) and (speaker := text_of(cell_at(one, lookup.id))):
                role = text_of(cell_at(one, lookup.role))
                if roles.setdefault(speaker, role) != role:
                    raise BadInput(
                        f"mapping.turns.role_from: {shown(speaker)} has two roles in "
                        f"{shown(lookup.list)} ({shown(roles[speaker])}, {shown(role)})"
                    )
        if not any(roles.values()):
            raise BadInput(
                f"mapping.turns.role_from: no row of {shown(lookup.list)} has {lookup.id!r} and "
                f"{lookup.role!r}; show_examples with sheet={lookup.list!r} shows its keys"
            )
        return roles

    def _listed(self, name: str) -> Iterator[Any]:
        """Yield the items of a list: of one in the rows, else of another list of the file."""
        is_in_rows = False
        for _, _, row in self.numbered():
            cell = cell_at(row.value, name) if isinstance(row.value, Mapping) else None
            items = turns_in(as_turns(cell))
            is_in_rows |= items is not None
            yield from items or ()
        if not is_in_rows:
            again = FileRequest(path=self._request.path, sheet=name)
            for row in chain.from_iterable(map(read, sources_of(again, self.path))):
                yield row.value

    def versions(self) -> dict[Path, tuple[int, int]]:
        """Return the size and time of change of each file."""
        found = {}
        for source in self.sources:
            status = source.path.stat()
            found[source.path] = (status.st_size, status.st_mtime_ns)
        return found

    def raw(self, source: Source) -> Iterator[Row]:
        """Yield the rows of a file as they are, those that the request selects.

        Raises:
            BadData: Many rows of a table are not UTF-8.
        """
        undecoded = 0
        for count, row in enumerate(read(source), 1):
            if row.problem == "not_utf8" and source.kind in TEXT_TABLES:
                undecoded += 1
                if count >= 100 and undecoded > MAX_UNDECODED * count:
                    raise BadData(
                        source.path,
                        "is not UTF-8",
                        "pass encoding, such as 'cp1252' (Western Windows)",
                        row.number,
                    )
            where, value = self._request.where, row.value
            if where and not (isinstance(value, Mapping) and fits(value, where)):
                continue
            yield row


def sources_of(request: FileRequest, path: Path) -> list[Source]:
    """Find and recognise the files of a path, with the sheet, query or encoding of a request.

    Raises:
        BadInput: The request names a sheet, query or encoding of what has none.
        BadData: A file is no data.
    """
    sources = find_sources(path, request.encoding)
    if len(sources) > 1 and (request.query or request.encoding):
        raise BadInput(
            f"path={request.path!r} is a folder of {len(sources)} files; query and encoding "
            "are for one file: name it"
        )
    if len(sources) == 1:
        # Of several files, an object without lists of its own is a row.
        sources = [replace(one, lists=one.lists + one.inner_lists) for one in sources]
    if request.sheet is None and request.query is None and request.encoding is None:
        return sources
    return [_selected(request, source) for source in sources]


def _selected(request: FileRequest, source: Source) -> Source:
    names = list(dict.fromkeys(name for name, _ in source.lists + source.inner_lists))
    if request.sheet is not None and names:
        if request.sheet not in names:
            listed = ", ".join(map(shown, names))
            raise BadData(source.path, f"has no list {request.sheet!r}", f"its lists: {listed}")
        return replace(source, select=request.sheet)
    takes = KINDS[source.kind].takes
    for name, what in TAKEN_BY.items():
        if getattr(request, name) not in (None, source.encoding) and name != takes:
            raise BadInput(f"{name} is for {what}, and {request.path!r} is none; remove {name}")
    return replace(source, select=request.query or request.sheet)


def sources_of_one_kind(request: FileRequest) -> list[Source]:
    """Return the file that a request names, or the files of a folder, all of one kind.

    Raises:
        NotFound: It does not exist.
        BadInput: It is a folder of files of several kinds.
    """
    sources = sources_of(request, workspace.existing(request.path))
    kinds = Counter(KINDS[one.kind].title.split()[0] for one in sources)
    if len(kinds) > 1:
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise BadInput(
            f"path={request.path!r} is a folder of {len(sources)} files of several kinds "
            f"({listed}), and one mapping is for files of one kind; name a file, or a folder of one"
        )
    return sources


def sha256_of(sources: Sequence[Source]) -> str:
    """Return the hash of a file, or of all files of a folder in their order."""
    hashes = [sha256(source.path) for source in sources]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def changed(path: Path, cure: str) -> BadData:
    """Return what refuses a file that is not what it was when it was read first."""
    return BadData(path, "changed while it was read", cure)
