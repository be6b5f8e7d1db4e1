"""Turn what was scanned into the findings and lengths of a report."""

from collections import Counter
from typing import Any

from ft_tools.data.judge import privacy
from ft_tools.data.judge.findings import RULES, SEVERITIES, UNDECIDED, Severity
from ft_tools.data.judge.row_kinds import NO_EXAMPLE, main_format
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.read.scan import Scan
from ft_tools.data.report import Finding, Tokens
from ft_tools.data.request import AuditRequest, PrepareRequest

FIRST_LINES = 5
MOST_COLUMNS = 20
# Below these shares a finding is milder: template code has braces, and a few refusals are usual.
MILDER_BELOW: dict[str, tuple[float, Severity]] = {
    "unfilled_placeholder": (0.05, "warning"),
    "refusal": (0.01, "info"),
}


def mark_lengths(scan: Scan, max_length: int) -> None:
    """Note the kept examples that are longer than max_length."""
    for index, tokens in enumerate(scan.ledger.tokens):
        if tokens > max_length and not scan.ledger.removal[index]:
            scan.note("over_max_length", index)
            if tokens - scan.ledger.answer_tokens[index] >= max_length:
                scan.note("answer_cut_off", index)


def findings_of(scan: Scan, request: AuditRequest | PrepareRequest) -> list[Finding]:
    """Return every finding, errors first and the most frequent first among equals."""
    findings = []
    num_validation = scan.ledger.num_validation
    for name, indices in scan.found.items():
        ordered = sorted(set(indices))
        for in_validation in (False, True):
            part = [at for at in ordered if (at < num_validation) == in_validation]
            findings += [_of_rows(scan, request, name, part, in_validation)] if part else []
    if columns := undecided_columns(scan):
        count = max(column.num_rows for column in scan.unread.undecided())
        findings.append(_of_the_file(scan, UNDECIDED, count, columns=columns[:MOST_COLUMNS]))
    counted = [*scan.pairs.findings(), *scan.added_facts.findings()]
    counted += [("few_wordings", scan.num_templated)] if scan.num_templated else []
    findings += [_of_the_file(scan, name, count) for name, count in counted]
    return sorted(
        findings,
        key=lambda f: (SEVERITIES.index(f.severity), -f.count, f.id, bool(f.in_validation)),
    )


def undecided_columns(scan: Scan) -> list[str]:
    """Return the columns that somebody has to use or ignore, each with what it holds.

    Where no format is known, any column may be what is asked or answered: a mapping says so first.
    """
    is_known = scan.reads_by_mapping or main_format(scan) not in NO_EXAMPLE
    columns = scan.unread.undecided() if is_known else []
    return [privacy.mask(column.described) for column in columns]


def _of_the_file(scan: Scan, name: str, count: int, **others: Any) -> Finding:
    """Report what is no fault of single rows; nothing is removed for it."""
    total = len(scan.ledger) - scan.ledger.num_validation
    fraction = round(min(1.0, count / max(1, total)), 4)
    return _finding(name, count=count, fraction=fraction, **others)


def _of_rows(
    scan: Scan,
    request: AuditRequest | PrepareRequest,
    name: str,
    indices: list[int],
    in_validation: bool,
) -> Finding:
    ledger = scan.ledger
    total = ledger.num_validation if in_validation else len(ledger) - ledger.num_validation
    if name == "conflicting_targets":
        # As the verdict counts: of what stays. A rule that was chosen leaves only what it removed.
        is_open = not request.contradictions or request.contradictions == "keep"
        total = len(ledger.kept(validation=False)) if is_open else total
        indices = [at for at in indices if is_open or ledger.removal[at]]
    fraction = len(indices) / total
    rule, removed = RULES[name], all(ledger.removal[index] for index in indices)
    limit, mild = MILDER_BELOW.get(name, (0.0, rule.severity))
    kept = {} if removed or not rule.cure_if_kept else {"cure": rule.cure_if_kept}
    first, most = 0, FIRST_LINES
    if isinstance(request, AuditRequest) and request.response_format == "detailed":
        first, most = request.offset, request.limit
    return _finding(
        name,
        severity="info" if kept else mild if fraction < limit else rule.severity,
        count=len(indices),
        fraction=round(fraction, 4),
        rows=[ledger.lines[index] for index in indices[first : first + most]],
        removed=removed,
        in_validation=in_validation or None,
        **kept,
    )


def _finding(name: str, **numbers: Any) -> Finding:
    """Fill in a row of the table."""
    rule = RULES[name]
    row: dict[str, Any] = {"message": rule.message, "cure": rule.cure, "source": rule.source}
    row |= {"severity": rule.severity, "rows": [], "removed": False}
    return Finding(**({"id": name} | row | numbers))


def tokens_of(ledger: Ledger, max_length: int, method: str) -> Tokens | None:
    """Summarise the lengths of the kept training examples."""
    kept = ledger.kept(validation=False)
    if not kept:
        return None
    # numpy comes with it, which tools that count nothing do without.
    import numpy as np

    whole, answers = (
        np.array([column[at] for at in kept]) for column in (ledger.tokens, ledger.answer_tokens)
    )
    p05, p50, p95 = np.quantile(whole, (0.05, 0.5, 0.95), method="inverted_cdf")
    is_cut = whole > max_length
    return Tokens(
        method=method,
        p05=int(p05),
        p50=int(p50),
        p95=int(p95),
        max=int(whole.max()),
        total=int(whole.sum()),
        answer_p50=int(np.quantile(answers, 0.5, method="inverted_cdf")),
        max_length=max_length,
        num_truncated=int(is_cut.sum()),
        num_without_answer=int((is_cut & (whole - answers >= max_length)).sum()),
    )


def removed_by(ledger: Ledger) -> dict[str, int]:
    """Count the rows that are left out by their reason, the most frequent first."""
    reasons = Counter(ledger.reason_of(at) for at in range(ledger.num_validation, len(ledger)))
    return {name: count for name, count in reasons.most_common() if name is not None}
