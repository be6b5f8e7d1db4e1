"""The audit as a page for people: counts, lengths and line numbers, no text of the data."""

from collections import Counter

from ft_tools.data.ledger import Ledger
from ft_tools.data.reports import AuditReport
from ft_tools.page import Section, bar_chart, key_values, line_chart, note, page, table

VERDICTS = {
    "ready": "Ready to train on",
    "ready_after_cleaning": "Ready after cleaning",
    "not_ready": "Not ready",
    "pending": "Still running",
}
NUM_BINS = 24


def audit_page(report: AuditReport, ledger: Ledger) -> str:
    """Return the report as one self-contained HTML document."""
    sections = [
        Section("Verdict", _verdict(report)),
        Section("Findings", _findings(report)),
        Section("Lengths", _lengths(report, ledger)),
        Section("What trainers would do with the file as it is", _survival(report)),
        Section("Enough examples?", _size(report)),
    ]
    if report.assumptions:
        sections.append(Section("Assumptions", "".join(map(note, report.assumptions))))
    return page("Dataset audit", sections, subtitle=VERDICTS[report.verdict])


def _verdict(report: AuditReport) -> str:
    pairs: dict[str, str | int | float | bool | None] = {
        "Verdict": VERDICTS[report.verdict],
        "Examples read": report.num_examples,
        "Usable": report.num_usable,
        "Format": f"{report.detected_format} ({report.format_fraction:.1%} of rows)",
        "Task": report.task,
    }
    if report.duplicates:
        pairs |= {
            "Exact duplicates": report.duplicates.num_exact,
            "Near-duplicates": report.duplicates.num_near,
            "Conflicting answers": report.duplicates.num_conflicting,
            "Method": report.duplicates.method,
        }
    if report.outputs:
        pairs |= {
            "Train": report.outputs.num_train,
            "Validation": report.outputs.num_validation,
            "Removed": report.outputs.num_removed,
        }
    reasons = table(
        ["Why not", "Seen", "Limit"], [(r.rule, r.observed, r.threshold) for r in report.reasons]
    )
    return key_values(pairs) + (reasons if report.reasons else "")


def _findings(report: AuditReport) -> str:
    if not report.findings:
        return note("Nothing was found.")
    rows = [
        (
            finding.severity,
            finding.id + (" (validation)" if finding.in_validation else ""),
            finding.count,
            f"{finding.fraction:.1%}",
            ", ".join(map(str, finding.lines)),
            "removed" if finding.removed else "kept",
            finding.cure,
        )
        for finding in report.findings
    ]
    bars: list[tuple[str, float | None]] = [(f.id, float(f.count)) for f in report.findings[:15]]
    chart = bar_chart(bars, title="Findings", x_label="examples")
    return chart + table(["", "Finding", "Count", "Share", "First lines", "", "Cure"], rows)


def _lengths(report: AuditReport, ledger: Ledger) -> str:
    if report.tokens is None:
        return note("No example is usable.")
    kept = ledger.kept(validation=False)
    top = max(16, report.tokens.p95 * 2)
    width = max(1, top // NUM_BINS)
    series = {}
    for name, lengths in (("whole", ledger.tokens), ("answer", ledger.answer_tokens)):
        bins = Counter(min(lengths[index], top) // width for index in kept)
        series[name] = [(float(at * width), float(bins[at])) for at in range(top // width + 1)]
    chart = line_chart(series, title="Lengths", x_label="tokens", y_label="examples")
    tokens = report.tokens
    return chart + key_values(
        {
            "How counted": tokens.method,
            "5%, median, 95%": f"{tokens.p05}, {tokens.p50}, {tokens.p95}",
            "Longest": tokens.max,
            "All together": tokens.total,
            f"Longer than {tokens.max_length}": tokens.num_truncated,
            "Of these without any answer": tokens.num_without_answer,
        }
    )


def _survival(report: AuditReport) -> str:
    rows = [
        (
            one.trainer,
            one.trained,
            ", ".join(f"{why}: {count}" for why, count in one.not_trained.items()) or "-",
            one.source,
        )
        for one in report.trainer_survival
    ]
    return table(["Trainer", "Trained on", "Not, because", "Rules"], rows)


def _size(report: AuditReport) -> str:
    if report.size_verdict is None:
        return ""
    goals = table(["Goal", "Verdict"], list(report.size_verdict.goals.items()))
    reasons = table(
        ["Rule", "Here", "Source"],
        [(r.rule, r.observed, r.source) for r in report.size_verdict.reasons],
    )
    return goals + reasons
