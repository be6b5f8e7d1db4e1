"""The audit as a page for people: verdict, findings with quoted examples, lengths.

At most `MOST` examples of bounded length: a page quotes data, and never holds the whole file.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ft_tools.data.judge.findings import Severity
from ft_tools.data.judge.readiness import too_much_removed
from ft_tools.data.map.masking import mask_example
from ft_tools.data.read.scan import Scan
from ft_tools.data.report import AuditReport, Finding
from ft_tools.formats.example import Example, content_of
from ft_tools.formats.quoting import cut_to
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
    turn,
)

VERDICTS = {
    "ready": "Ready to train on",
    "ready_after_cleaning": "Ready after cleaning",
    "not_ready": "Not ready",
    "pending": "Still running",
}
TONES: dict[Severity, str] = {"error": "bad", "warning": "warn", "info": "neutral"}
MOST_BARS, NUM_BINS = 12, 10
MOST, EACH, NUM_SOUND = 60, 3, 8
"""Quoted examples in all, of a finding, and without any finding, spread over the file."""
TURN_CHARS, MOST_TURNS, PREVIEW_CHARS = 1200, 12, 90
SOUND = "nothing found"
QUOTED = note("Quoted data, not instructions. Keys and personal data are masked, long texts cut.")
TOO_MUCH = (
    "So much would be removed that nothing was written. Decide about the reasons below, one by "
    "one: fix the file, change what counts as a duplicate, or agree to the loss with "
    "max_removed_fraction."
)


def audit_page(report: AuditReport, scanned: Scan) -> str:
    """Return the report as one self-contained HTML document."""
    quoted = _quoted(report, scanned)
    sound = quoted.get(SOUND, [])
    removed = report.num_examples - report.num_usable
    findings = [_finding(one, quoted) for one in report.findings]
    reasons = [(r.rule, r.observed, r.threshold) for r in report.reasons]
    removed_by = list(report.removed_by.items())[:MOST_BARS]
    return page(
        "Dataset audit",
        {
            "Why it is not ready": [
                table(["Rule", "Observed", "Limit"], reasons),
                TOO_MUCH if too_much_removed(report.reasons) else "",
            ],
            "Findings": [QUOTED, *findings] if findings else note("Nothing was found."),
            "Lengths": _lengths(report, scanned),
            "Examples in which nothing was found": [QUOTED, sound] if sound else "",
            "The file": _facts(report, removed),
        },
        lead=f"{VERDICTS[report.verdict]}: {number(report.num_usable)} of "
        f"{number(report.num_examples)} examples are usable, {number(removed)} left out.",
        picture=bar_chart(removed_by, title="Left out, by reason", x_label="examples"),
        example=sound[0] if sound else "",
        subtitle=f"{number(report.num_examples)} examples, {report.detected_format}",
    )


def _quoted(report: AuditReport, scanned: Scan) -> dict[str, list[Part]]:
    """Return some examples by finding: each with its gravest; those without are under `SOUND`."""
    ledger = scanned.ledger
    chosen: dict[int, str] = {}
    for name in dict.fromkeys(finding.id for finding in report.findings):
        for at in sorted(set(scanned.found.get(name, ())))[:EACH]:
            if len(chosen) < MOST - NUM_SOUND:
                chosen.setdefault(at, name)
    flawed = {index for indices in scanned.found.values() for index in indices}
    sound = [at for at in ledger.kept(validation=False) if at not in flawed]
    chosen |= dict.fromkeys(sound[:: max(1, len(sound) // NUM_SOUND)][:NUM_SOUND], SOUND)
    made: dict[str, list[Part]] = defaultdict(list)
    for index, row, example in scanned.examples_at(chosen):
        mask_example(example)
        turns = [] if row.problem is not None else _turns(example)
        asked = next((text for role, text in turns if role != "system"), "could not be read")
        rows = "Validation row" if index < ledger.num_validation else "Row"
        summary = f"{rows} {ledger.lines[index]} {cut_to(' '.join(asked.split()), PREVIEW_CHARS)}"
        parts = [_why(scanned, index)]
        parts += [turn(role, cut_to(text, TURN_CHARS)) for role, text in turns[:MOST_TURNS]]
        made[chosen[index]].append(details(summary, parts, kind="example"))
    return made


def _turns(example: Example) -> list[tuple[str, str]]:
    """Return who says what."""
    if example.text is not None:
        return [("text", example.text)]
    sides = {"chosen": example.chosen, "rejected": example.rejected}
    if example.task == "kto":
        sides = {"liked" if example.label else "disliked": example.chosen}
    turns = [(str(m["role"]), content_of(m)) for m in example.messages]
    return [*turns, *((name, content_of(m)) for name, side in sides.items() for m in side)]


def _why(scanned: Scan, index: int) -> Part:
    """Return why an example is left out, if it is."""
    ledger = scanned.ledger
    if not (why := ledger.reason_of(index)):
        return ""
    original = ""
    if index in ledger.original:
        kept, score = ledger.original_of(index)
        other = "validation row" if kept < ledger.num_validation else "row"
        original = f", like {other} {ledger.lines[kept]}, which is kept (score {score:.2f})"
    return note(f"Left out: {why.replace('_', ' ')}{original}.")


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


def _finding(finding: Finding, quoted: Mapping[str, Sequence[Part]]) -> Part:
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
            quoted.get(finding.id, []),
        ],
    )


def _lengths(report: AuditReport, scanned: Scan) -> Part:
    tokens = report.tokens
    if tokens is None:
        return note("No example is usable.")
    kept = scanned.ledger.kept(validation=False)
    width = max(1, math.ceil(1.2 * tokens.p95 / NUM_BINS))
    bins = Counter(min(scanned.ledger.tokens[at] // width, NUM_BINS - 1) for at in kept)
    ends = [f"{number(at * width)} to {number((at + 1) * width)}" for at in range(NUM_BINS)]
    ends[-1] = f"{number((NUM_BINS - 1) * width)} and more"
    rows = [(ends[at], bins[at]) for at in range(min(bins), max(bins) + 1)]
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
    chart = bar_chart(rows, title="Lengths of examples, in tokens", x_label="examples")
    return [chart, key_values(facts)]
