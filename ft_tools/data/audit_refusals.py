"""What an audit refuses: no examples, a decision about no column, a model without tokenizer."""

from collections.abc import Mapping
from pathlib import Path

from ft_tools.data.judge import row_kinds
from ft_tools.data.judge.findings import RULES
from ft_tools.data.read.both_passes import rows_of
from ft_tools.data.read.examples import good_labels
from ft_tools.data.read.scanned import Scan
from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadData, BadInput
from ft_tools.formats.columns import PLAIN_NAME, cells_of

MOST_NAMED = 20
"""Columns that an error names."""


def require_examples(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a file in which nothing is an example."""
    path = scanned.inputs[0]
    formats = scanned.formats
    total = sum(formats.values())
    if not total:
        raise BadData(path, "holds no row", "name a file with examples")
    if formats["unreadable"] == total:
        first = scanned.ledger.num_validation
        finding = scanned.ledger.reason_of(first) or ""
        line = scanned.ledger.lines[first]
        raise nothing_readable(path, finding, line)
    if request.columns and formats["unknown"] + formats["unreadable"] == total:
        columns = _columns_in(path)
        raise BadInput(
            f"columns={request.columns!r} fits no row of {path}; give our name -> the file's column"
            + (f", one of: {', '.join(columns)}" if columns else "")
        )
    _require_validation(request, scanned)


def _columns_in(path: Path) -> list[str]:
    """Return the columns of the first row that has any, those whose names may be repeated."""
    rows = (row.value for _, row, _ in rows_of(path) if isinstance(row.value, Mapping))
    names = [name for name, _ in cells_of(next(rows, {})) if PLAIN_NAME.fullmatch(name)]
    return names[:MOST_NAMED]


def nothing_readable(path: Path, finding: str, line: int) -> BadData:
    """Return what refuses a file of which no row can be read, with the reason of the first."""
    cure = RULES[finding].cure if finding in RULES else "give JSONL, JSON, CSV or Parquet"
    return BadData(path, f"no row can be read ({finding})", cure, line)


def require_verdicts(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a decision about a column that is not there, or whose values are not known.

    Raises:
        BadInput: With what to pass instead.
    """
    label = scanned.labels
    if label is not None and label.good_values and not good_labels(request):
        raise BadInput(
            f"columns={{'label': {label.name!r}}}: the column has {label.about}, and nobody said "
            f"which are good; pass verdicts={{{label.name!r}: {label.good_values!r}}}, too"
        )
    for name, use in request.verdicts.items():
        if name == request.label_column:
            continue
        column = scanned.unread.column(name)
        if column is None:
            raise BadInput(
                f"verdicts={{{name!r}: ...}}: no row has an unused column of this name; finding "
                "verdict_column lists the names"
            )
        if use not in ("filter", "drop_bad") or column.is_clear:
            continue
        given = f"verdicts={{{name!r}: {use!r}}}"
        if column.good_values:
            raise BadInput(
                f"{given}: the column has {column.about}, and nobody said which values are good; "
                f"pass them, such as {{{name!r}: {column.good_values!r}}}"
            )
        raise BadInput(
            f"{given}: some of its values are not known as good or bad; pass the list of good "
            "values, which show_examples quotes"
        )


def no_tokenizer(model: str) -> BadInput:
    """Return what refuses a model whose tokens cannot be counted."""
    return BadInput(
        f"model={model!r} has no tokenizer that can be loaded; name a folder with tokenizer.json, "
        "or leave `model` out for an estimate"
    )


def _require_validation(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a validation file in which nothing is an example: no leak would be found."""
    path, ledger = scanned.inputs[1], scanned.ledger
    read = range(ledger.num_validation)
    formats = {scanned.format_names[scanned.format_of[at]] for at in read}
    if path is None or not formats <= row_kinds.NO_EXAMPLE:
        return
    if not formats:
        raise BadData(path, "holds no row", "name a file with examples")
    cure = "give it the columns that the data has"
    if request.columns:
        cure = f"columns={request.columns!r} must fit its columns as well as those of the data"
    raise BadData(path, f"no row is an example ({ledger.reason_of(0)})", cure, ledger.lines[0])
