"""Decide whether data is ready for its purpose, and say why not."""

from collections.abc import Iterable

from ft_tools.contract import Reason
from ft_tools.data.judge.count_findings import removed_by
from ft_tools.data.judge.findings import RULES, UNDECIDED
from ft_tools.data.map.apply_mapping import LEFT_OUT
from ft_tools.data.read.scan import Scan
from ft_tools.data.report import Finding, Verdict
from ft_tools.data.request import AuditRequest
from ft_tools.data.split.choose import can_hold_out
from ft_tools.reasons import reason

SPLIT_FRACTION = 0.1
FEWEST = 50
"""Examples for a fixed format of answers, the most modest goal; pairs of one trait take as many."""
FEWEST_SOURCE = "https://developers.openai.com/api/docs/guides/fine-tuning-best-practices.md"
# Above this share of contradictions the answers teach chance. Judgement.
MAX_CONFLICTING_FRACTION = 0.02
TOO_MANY_REMOVED = "too_many_removed"
"""The id of the reason why nothing is written."""


def judge(
    scan: Scan,
    findings: Iterable[Finding],
    request: AuditRequest,
) -> tuple[Verdict, list[Reason]]:
    """Decide whether the data is ready for its purpose, and why not."""
    ledger = scan.ledger
    total = len(ledger) - ledger.num_validation
    usable = len(ledger.kept(validation=False))
    # What the caller decided to leave out is no surprise.
    expected = total - sum(n for why, n in removed_by(ledger).items() if why in LEFT_OUT)
    removed = 1 - usable / expected if expected else 1.0
    reasons = _missing(scan, request) if request.purpose == "train" else []
    if removed > request.max_removed_fraction:
        reasons.append(reason(TOO_MANY_REMOVED, round(removed, 4), request.max_removed_fraction))
    reasons += [
        Reason(
            id=finding.id,
            rule=f"{finding.id} needs a person",
            observed=finding.count,
            threshold=0,
            source=finding.source or "ft_tools/data/findings.toml",
        )
        for finding in findings
        if finding.severity == "error" and not RULES[finding.id].removes
    ]
    if reasons:
        return "not_ready", reasons
    return ("ready_after_cleaning" if usable < total else "ready"), []


def _missing(scan: Scan, request: AuditRequest) -> list[Reason]:
    """Return what a training needs and this data lacks: examples, a validation part, agreement."""
    ledger = scan.ledger
    kept = ledger.kept(validation=False)
    reasons = []
    if len(kept) < FEWEST:
        reasons.append(reason("too_few_for_any_goal", len(kept), FEWEST, source=FEWEST_SOURCE))
    is_given = request.validation_path is not None
    fraction = request.validation_fraction or SPLIT_FRACTION
    if kept and not is_given and not can_hold_out(ledger, kept, fraction):
        reasons.append(reason("no_validation_part", 0, 1))
    left = sum(not ledger.removal[at] for at in scan.found.get("conflicting_targets", ()))
    open_fraction = left / max(1, len(kept))
    if request.contradictions == "keep" and open_fraction > MAX_CONFLICTING_FRACTION:
        reasons.append(reason("contradictions", round(open_fraction, 4), MAX_CONFLICTING_FRACTION))
    return reasons


def too_much_removed(reasons: Iterable[Reason]) -> bool:
    """Return whether more examples would be removed than `max_removed_fraction` allows."""
    return any(reason.id == TOO_MANY_REMOVED for reason in reasons)


def is_undecided(reasons: Iterable[Reason]) -> bool:
    """Return whether columns are left that somebody has to use or ignore."""
    return any(reason.id == UNDECIDED for reason in reasons)
