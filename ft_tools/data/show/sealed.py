"""Whether a file is a test part that was set aside, whose rows nobody reads before a claim."""

from itertools import islice
from pathlib import Path

from ft_tools.data.read.rows import Reader
from ft_tools.data.request import FileRequest
from ft_tools.errors import Refused
from ft_tools.formats.formats import normalise
from ft_tools.formats.remembered_test_sets import known_test_rows

LOOKED_AT = 200
"""Rows that decide. Judgement."""
MOSTLY = 0.5
"""Of them that are test rows: a file from which a test part was drawn has fewer."""
SEALED = (
    "is a test part that was set aside, so its rows are not quoted: whoever reads them fits the "
    "work to them. Read the training part; pass unseal=true if it is no test part any more"
)


def is_sealed(request: FileRequest, path: Path) -> bool:
    """Return whether most rows of a file are rows of a test set of the workspace, by content."""
    known = known_test_rows()
    if not known:
        return False
    reader = Reader(request, path)
    rows = (row for source in reader.sources for row in reader.raw(source) if not row.problem)
    found = [normalise(row.number, row.value) in known for row in islice(rows, LOOKED_AT)]
    return bool(found) and sum(found) > MOSTLY * len(found)


def refused(path: Path) -> Refused:
    """Return the error for whoever asks for rows of a sealed file."""
    return Refused(f"{path.name} {SEALED}")
