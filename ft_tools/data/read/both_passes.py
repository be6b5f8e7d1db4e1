"""The rows of the data in the same order in both passes; a file that changed between is noticed."""

from collections.abc import Iterator
from pathlib import Path

from ft_tools.data.read.scanned import Scan
from ft_tools.errors import BadData
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import Source, find_sources, read


def rows_of(
    path: Path, files: "list[tuple[Source, int]] | None" = None, *, is_validation: bool = False
) -> Iterator[tuple[Source, Row, int]]:
    """Yield (file, row, number through all files) of a file or folder."""
    before = 0
    for source in find_sources(path):
        if files is not None and not is_validation:
            files.append((source, before))
        last = 0
        for row in read(source):
            last = row.number
            yield source, row, before + row.number
        before += last


def read_again(scanned: Scan) -> Iterator[tuple[int, Row]]:
    """Yield (index, row) of everything that was scanned, in the same order.

    Raises:
        BadData: A file is not what it was when it was scanned.
    """
    index, ledger = 0, scanned.ledger
    for part in reversed(scanned.inputs):
        if part is None:
            continue
        changed = BadData(part, "changed while it was read", "audit it again")
        if not versions_of(part).items() <= scanned.versions.items():
            raise changed
        for _, row, number in rows_of(part):
            if index >= len(ledger) or ledger.lines[index] != number:
                raise changed
            yield index, row
            index += 1
        if not versions_of(part).items() <= scanned.versions.items():
            raise changed
    if index != len(ledger):
        raise BadData(scanned.inputs[0], "changed while it was read", "audit it again")


def versions_of(part: Path) -> dict[Path, tuple[int, int]]:
    """Return the size and time of change of each file of a file or folder."""
    found = {}
    for source in find_sources(part):
        status = source.path.stat()
        found[source.path] = (status.st_size, status.st_mtime_ns)
    return found
