"""What an audit refuses after reading: a file without examples, a decision about no column."""

from ft_tools.data.judge import summary
from ft_tools.data.read.scan import Scan
from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadData, BadInput
from ft_tools.examples.verdicts import mark_of


def require_examples(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a file in which nothing is an example."""
    path = scanned.inputs[0]
    formats = scanned.formats
    total = sum(formats.values())
    if not total:
        raise BadData(path, "holds no row", "name a file with examples")
    if formats["unreadable"] == total:
        first = scanned.ledger.num_validation
        finding = scanned.ledger.reason_of(first)
        line = scanned.ledger.lines[first]
        raise BadData(
            path, f"no row can be read ({finding})", "give JSONL, JSON, CSV or Parquet", line
        )
    if request.columns and formats["unknown"] + formats["unreadable"] == total:
        raise BadInput(
            f"columns={request.columns!r} fits no row of {path}; give our name -> the file's column"
        )
    _require_validation(request, scanned)


def require_verdicts(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a decision about a column that is not there, or whose values are not known.

    Raises:
        BadInput: With what to pass instead.
    """
    for name, use in request.verdicts.items():
        column = scanned.unread.column(name)
        if column is None:
            raise BadInput(
                f"verdicts={{{name!r}: ...}}: no row has an unused column of this name; finding "
                "verdict_column lists the names"
            )
        unclear = sum(n for value, n in column.values.items() if mark_of(value) is None)
        if use in ("filter", "drop_bad") and unclear + column.num_other:
            raise BadInput(
                f"verdicts={{{name!r}: {use!r}}}: {unclear + column.num_other} of its values are "
                "not known as good or bad; pass the list of good values, such as ['4', '5'], which "
                "show_examples quotes"
            )


def _require_validation(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a validation file in which nothing is an example: no leak would be found."""
    path, ledger = scanned.inputs[1], scanned.ledger
    read = range(ledger.num_validation)
    formats = {scanned.format_names[scanned.format_of[at]] for at in read}
    if path is None or not formats <= summary.NO_EXAMPLE:
        return
    if not formats:
        raise BadData(path, "holds no row", "name a file with examples")
    cure = "give it the columns that the data has"
    if request.columns:
        cure = f"columns={request.columns!r} must fit its columns as well as those of the data"
    raise BadData(path, f"no row is an example ({ledger.reason_of(0)})", cure, ledger.lines[0])
