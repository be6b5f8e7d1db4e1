"""The audit as a page for people: verdict, findings with quoted examples, plots."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ft_tools.data.judge.verdict import too_much_removed
from ft_tools.data.page_examples import ABOUT, SOUND, STYLE, TONES, quoted_examples
from ft_tools.data.read.scanned import Scan
from ft_tools.data.report import AuditReport, Finding
from ft_tools.data.understand.languages import UNKNOWN
from ft_tools.formats.example import Example
from ft_tools.formats.masking import MaskedSequence
from ft_tools.views.page import (
    Html,
    badge,
    bar_chart,
    escape,
    histogram,
    key_values,
    note,
    number,
    page,
    table,
    text,
)

VERDICTS = {
    "ready": ("Ready to train on", "good"),
    "ready_after_cleaning": ("Ready after cleaning", "warn"),
    "not_ready": ("Not ready", "bad"),
    "pending": ("Still running", "neutral"),
}
MOST_BARS, NUM_BINS, NUM_LANGUAGES = 12, 24, 10
SCORE_STEP = 5
"""Hundredths of a score that are one bar."""
Facts = dict[str, str | int | float | bool | None]


def audit_page(
    report: AuditReport, scanned: Scan, masks: Callable[[Example], list[MaskedSequence]]
) -> str:
    """Return the report as one self-contained HTML document."""
    quoted = quoted_examples(scanned, masks)
    sound = quoted.get((SOUND, False), "")
    parts = {
        "Findings": _findings(report, quoted),
        "Duplicates": _duplicates(report, scanned),
        "Lengths": _lengths(report, scanned),
        "Languages": _languages(scanned),
        "Chosen against rejected": _pairs(report, scanned),
        "What trainers would do with the file as it is": _survival(report),
        "Enough examples?": _size(report),
        "Examples in which nothing was found": sound and note(ABOUT) + sound,
        "Assumptions": "".join(map(note, report.assumptions)),
    }
    subtitle = f"{number(report.num_examples)} examples, {report.detected_format}"
    return page("Dataset audit", parts, lead=_verdict(report), subtitle=subtitle, style=STYLE)


def _verdict(report: AuditReport) -> str:
    says, tone = VERDICTS[report.verdict]
    removed = report.num_examples - report.num_usable
    lead = (
        f'<p class="lead">{badge(says, tone)} {number(report.num_usable)} of '
        f"{number(report.num_examples)} examples are usable; {number(removed)} "
        f"{'is' if removed == 1 else 'are'} left out.</p>"
    )
    if report.reasons:
        rows = [(r.rule, r.observed, r.threshold) for r in report.reasons]
        lead += table(["Why it is not ready", "Seen", "Limit"], rows)
    if too_much_removed(report.reasons):
        lead += text(
            "So much would go that nothing was written. Decide about the reasons below, one by "
            "one: fix the file, change what counts as a duplicate, or agree to the loss with "
            "max_removed_fraction."
        )
    facts: Facts = {
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
    chart = _bars(list(report.removed_by.items()), "Left out, by reason", "examples")
    return lead + key_values(facts) + chart


def _findings(report: AuditReport, quoted: Mapping[tuple[str, bool], str]) -> str:
    if not report.findings:
        return note("Nothing was found.")
    shown = "".join(
        _finding(one) + quoted.get((one.id, bool(one.in_validation)), "") + "</article>"
        for one in report.findings
    )
    return note(ABOUT) + shown


def _finding(finding: Finding) -> str:
    where = " in the validation file" if finding.in_validation else ""
    outcome = "left out of the cleaned files" if finding.removed else "kept"
    share = f", {finding.fraction:.1%}" if finding.fraction else ""
    lines = ""
    if finding.lines:
        more = ", ..." if finding.count > len(finding.lines) else ""
        lines = note(f"Lines {', '.join(map(str, finding.lines))}{more}")
    source, link = finding.source or "", ""
    if source.startswith("https://"):
        link = f' <a href="{escape(source)}" rel="noreferrer">Source</a>'
    return (
        f'<article class="finding"><h3>{badge(finding.severity, TONES[finding.severity])} '
        f"{escape(finding.id)}</h3>"
        f'<p class="note">{number(finding.count)} examples{share}{where}, {outcome}</p>'
        f"<p>{escape(finding.cure[:1].upper() + finding.cure[1:])}.{link}</p>{lines}"
    )


def _duplicates(report: AuditReport, scanned: Scan) -> str:
    if report.duplicates is None:
        return ""
    facts: Facts = {
        "Copies of an earlier example": report.duplicates.num_exact,
        "Near-duplicates of a kept one": report.duplicates.num_near,
        "Examples whose prompt has another answer too": report.duplicates.num_conflicting,
        "How near is meant": report.duplicates.method,
    }
    ledger = scanned.ledger
    near: Counter[int] = Counter()
    for index, (_, score) in ledger.original.items():
        if index >= ledger.num_validation and ledger.reason_of(index) == "near_duplicate":
            near[min(99, int(score * 100)) // SCORE_STEP * SCORE_STEP] += 1
    scores = [(f"{at / 100:.2f} to {(at + SCORE_STEP) / 100:.2f}", near[at]) for at in sorted(near)]
    return key_values(facts) + _bars(scores, "How alike near-duplicates are", "examples")


def _lengths(report: AuditReport, scanned: Scan) -> str:
    tokens = report.tokens
    if tokens is None:
        return note("No example is usable.")
    kept = scanned.ledger.kept(validation=False)
    top = max(16, tokens.p95 * 2)
    width = max(1, top // NUM_BINS)
    columns = {
        "Lengths of whole examples": scanned.ledger.tokens,
        "Lengths of the last answers": scanned.ledger.answer_tokens,
    }
    charts = ""
    for title, column in columns.items():
        bins = Counter(min(column[index], top) // width for index in kept)
        curve = [(float(at * width), float(bins[at])) for at in range(top // width + 1)]
        charts += histogram(curve, title=title, x_label="tokens", y_label="examples")
    facts: Facts = {
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
    return charts + key_values(facts)


def _languages(scanned: Scan) -> str:
    spoken = scanned.languages.counts.most_common(NUM_LANGUAGES)
    named = [("not known" if name == UNKNOWN else name, count) for name, count in spoken]
    return _bars(named, "Languages of the answers", "answers")


def _pairs(report: AuditReport, scanned: Scan) -> str:
    if "length_auc" not in report.shape:
        return ""
    names = {"length": "how long", "format": "how much is formatted", "lexical": "which words"}
    rows = [
        (says, report.shape[f"{name}_effect_size"], report.shape[f"{name}_auc"])
        for name, says in names.items()
        if f"{name}_auc" in report.shape
    ]
    about = note(
        "Effect size: Cohen's d of chosen minus rejected. AUC: how well this alone tells chosen "
        "from rejected; a half is chance."
    )
    cells = [(m.word, f"{m.chosen:.0%}", f"{m.rejected:.0%}") for m in scanned.pairs.markers()]
    words = table(["Word (^ begins the answer)", "In chosen", "In rejected"], cells)
    return table(["What differs", "Effect size", "AUC"], rows) + about + (words if cells else "")


def _survival(report: AuditReport) -> str:
    bars = [(one.trainer, one.trained) for one in report.trainer_survival]
    rows = [
        (
            one.trainer,
            ", ".join(f"{_plain(why)}: {number(n)}" for why, n in one.not_trained.items()) or "-",
            Html(f'<a href="{escape(one.source)}" rel="noreferrer">rules</a>'),
        )
        for one in report.trainer_survival
    ]
    chart = _bars(bars, "Examples each would train on", "examples")
    return chart + table(["Trainer", "Not the rest, because", "By its"], rows)


def _size(report: AuditReport) -> str:
    if report.size_verdict is None:
        return ""
    goals = [(goal, _plain(verdict)) for goal, verdict in report.size_verdict.goals.items()]
    rules = [(r.rule, r.source) for r in report.size_verdict.reasons]
    return table(["Goal", "Verdict"], goals) + table(["Rule", "Source"], rules)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _bars(rows: Sequence[tuple[str, int]], title: str, unit: str) -> str:
    if not rows:
        return ""
    bars: list[tuple[str, float | None]] = [(name, float(n)) for name, n in rows[:MOST_BARS]]
    return bar_chart(bars, title=title, x_label=unit)
