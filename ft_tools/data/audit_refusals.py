"""What an audit refuses: no examples, or a model without tokenizer."""

from pathlib import Path

from ft_tools.data.judge import row_kinds
from ft_tools.data.judge.findings import RULES
from ft_tools.data.read.scanned import Scan
from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadData, BadInput


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
    _require_validation(request, scanned)


def nothing_readable(path: Path, finding: str, line: int) -> BadData:
    """Return what refuses a file of which no row can be read, with the reason of the first."""
    rule = RULES.get(finding)
    why = f"{finding}: {rule.message}" if rule else finding
    cure = rule.cure if rule else "give JSONL, JSON, CSV or Parquet"
    return BadData(path, f"no row can be read ({why})", cure, line)


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
    if request.mapping:
        cure = "the mapping must fit its columns as well as those of the data"
    raise BadData(path, f"no row is an example ({ledger.reason_of(0)})", cure, ledger.lines[0])
