"""The audit as a page for people: verdict, findings with quoted examples, plots."""

import math
from collections import Counter
from collections.abc import Sequence

from ft_tools.data.judge.findings import Severity
from ft_tools.data.judge.readiness import too_much_removed
from ft_tools.data.page_examples import SOUND, Quoted, quoted_examples
from ft_tools.data.read.scanned import Scan
from ft_tools.data.report import AuditReport, Finding
from ft_tools.views.charts import bar_chart
from ft_tools.views.page import (
    Cell,
    Part,
    badge,
    card,
    details,
    key_values,
    link,
    note,
    number,
    page,
    table,
)

VERDICTS = {
    "ready": "Ready to train on",
    "ready_after_cleaning": "Ready after cleaning",
    "not_ready": "Not ready",
    "pending": "Still running",
}
TONES: dict[Severity, str] = {"error": "bad", "warning": "warn", "info": "neutral"}
MOST_BARS, NUM_BINS = 12, 10
QUOTED = note("Quoted data, not instructions. Keys and personal data are masked, long texts cut.")
TOO_MUCH = (
    "So much would be removed that nothing was written. Decide about the reasons below, one by "
    "one: fix the file, change what counts as a duplicate, or agree to the loss with "
    "max_removed_fraction."
)


def audit_page(report: AuditReport, scanned: Scan) -> str:
    """Return the report as one self-contained HTML document."""
    quoted = quoted_examples(scanned)
    sound = quoted.get((SOUND, False), [])
    removed = report.num_examples - report.num_usable
    findings = [
        _finding(one, quoted.get((one.id, bool(one.in_validation)), [])) for one in report.findings
    ]
    reasons = [(r.rule, r.observed, r.threshold) for r in report.reasons]
    size = report.size_verdict
    return page(
        "Dataset audit",
        {
            "Why it is not ready": [
                table(["Rule", "Observed", "Limit"], reasons),
                TOO_MUCH if too_much_removed(report.reasons) else "",
            ],
            "Findings": [QUOTED, *findings] if findings else note("Nothing was found."),
            "Lengths": _lengths(report, scanned),
            "Enough examples?": [
                table(["Goal", "Verdict"], [(g, _plain(v)) for g, v in size.goals.items()]),
                table(["Rule", "Source"], [(r.rule, r.source) for r in size.reasons]),
            ]
            if size
            else "",
            "Examples in which nothing was found": [QUOTED, _folded(sound)] if sound else "",
            "The file": _facts(report, removed),
        },
        lead=f"{VERDICTS[report.verdict]}: {number(report.num_usable)} of "
        f"{number(report.num_examples)} examples are usable, {number(removed)} left out.",
        picture=_bars(list(report.removed_by.items()), "Left out, by reason", "examples"),
        example=sound[0] if sound else "",
        subtitle=f"{number(report.num_examples)} examples, {report.detected_format}",
    )


def _folded(quoted: Sequence[Quoted]) -> Part:
    return [details(summary, content, kind="example") for summary, content in quoted]


def _facts(report: AuditReport, removed: int) -> Part:
    facts: dict[str, Cell] = {
        "Format": f"{report.detected_format} ({report.format_fraction:.1%} of rows)",
        "Task": report.task,
    }
    if made := report.outputs:
        theirs = made.num_removed - removed
        of_theirs = f" ({number(theirs)} of them from the validation file)" if theirs else ""
        facts["Cleaned files"] = (
            f"{number(made.num_train)} for training, {number(made.num_validation)} for "
            f"validation, {number(made.num_removed)} removed{of_theirs}, each with its reason"
        )
    return [key_values(facts), *map(note, report.assumptions)]


def _finding(finding: Finding, quoted: Sequence[Quoted]) -> Part:
    where = " in the validation file" if finding.in_validation else ""
    outcome = "left out of the cleaned files" if finding.removed else "kept"
    share = f", {finding.fraction:.1%}" if finding.fraction else ""
    more = ", ..." if finding.count > len(finding.rows) else ""
    is_page = (finding.source or "").startswith("https://")
    return card(
        finding.id,
        badge(finding.severity, TONES[finding.severity]),
        [
            note(f"{number(finding.count)} examples{share}{where}, {outcome}"),
            f"{finding.cure[:1].upper()}{finding.cure[1:]}.",
            link("Source", finding.source or "") if is_page else "",
            note(f"Rows {', '.join(map(str, finding.rows))}{more}") if finding.rows else "",
            _folded(quoted),
        ],
    )


def _lengths(report: AuditReport, scanned: Scan) -> Part:
    tokens = report.tokens
    if tokens is None:
        return note("No example is usable.")
    kept = scanned.ledger.kept(validation=False)
    width = max(1, math.ceil(1.2 * tokens.p95 / NUM_BINS))
    top = NUM_BINS * width
    bins = Counter(min(scanned.ledger.tokens[index], top - 1) // width for index in kept)
    ends = [f"{number(at * width)} to {number((at + 1) * width)}" for at in range(NUM_BINS)]
    ends[-1] = f"{number((NUM_BINS - 1) * width)} and more"
    rows = [(ends[at], bins[at]) for at in range(min(bins), max(bins) + 1)]
    chart = _bars(rows, "Lengths of examples, in tokens", "examples")
    facts: dict[str, Cell] = {
        "How counted": tokens.method,
        "5%, median, 95%": ", ".join(map(number, (tokens.p05, tokens.p50, tokens.p95))),
        "Longest": tokens.max,
        "All together": tokens.total,
        f"Longer than {number(tokens.max_length)}": tokens.num_truncated,
        "Of these without any answer": tokens.num_without_answer,
    }
    trained = report.shape.get("num_trained_tokens")
    if trained is not None and tokens.total:
        facts["Tokens in the loss"] = f"{number(trained)} ({trained / tokens.total:.0%})"
    return [chart, key_values(facts)]


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _bars(rows: Sequence[tuple[str, int]], title: str, unit: str) -> Part:
    return bar_chart(rows[:MOST_BARS], title=title, x_label=unit)
