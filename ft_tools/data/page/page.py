"""The audit as a page for people: verdict, findings, plots, and some examples, quoted."""

from collections import Counter
from collections.abc import Sequence

from ft_tools.data.judge.verdict import too_much_removed
from ft_tools.data.page.example_browser import STYLE, TONES, anchor, example_browser
from ft_tools.data.page.figures import Bars, Figures
from ft_tools.data.report import AuditReport, Finding
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
MOST_BARS = 12


def audit_page(report: AuditReport, figures: Figures) -> str:
    """Return the report as one self-contained HTML document."""
    parts = {
        "Verdict": _verdict(report),
        "Findings": _findings(report, figures),
        "Duplicates": _duplicates(report, figures),
        "Lengths": _lengths(report, figures),
        "Languages": _languages(figures),
        "Chosen against rejected": _pairs(report, figures),
        "What trainers would do with the file as it is": _survival(report),
        "Enough examples?": _size(report),
        "Examples": example_browser(figures.shown, _counts(report)),
        "Assumptions": "".join(map(note, report.assumptions)),
    }
    subtitle = f"{number(report.num_examples)} examples, {report.detected_format}"
    return page("Dataset audit", parts, subtitle=subtitle, style=STYLE)


def _counts(report: AuditReport) -> "Counter[str]":
    """Count the examples of each finding, those of the validation file too."""
    counts: Counter[str] = Counter()
    for finding in report.findings:
        counts[finding.id] += finding.count
    return counts


def _verdict(report: AuditReport) -> str:
    said, tone = VERDICTS[report.verdict]
    removed = report.num_examples - report.num_usable
    lead = (
        f'<p class="lead">{badge(said, tone)} {number(report.num_usable)} of '
        f"{number(report.num_examples)} examples are usable; {number(removed)} "
        f"{'is' if removed == 1 else 'are'} left out.</p>"
    )
    why = table(
        ["Why it is not ready", "Seen", "Limit"],
        [(r.rule, r.observed, r.threshold) for r in report.reasons],
    )
    facts: dict[str, str | int | float | bool | None] = {
        "Format": f"{report.detected_format} ({report.format_fraction:.1%} of rows)",
        "Task": report.task,
    }
    if report.outputs:
        theirs = report.outputs.num_removed - removed
        of_theirs = f" ({number(theirs)} of them from the validation file)" if theirs else ""
        facts |= {
            "Cleaned files": f"{number(report.outputs.num_train)} for training, "
            f"{number(report.outputs.num_validation)} for validation, "
            f"{number(report.outputs.num_removed)} removed{of_theirs}, each with its reason",
        }
    chart = _bars(list(report.removed_by.items()), "Left out, by reason", "examples")
    asks = ""
    if too_much_removed(report.reasons):
        asks = text(
            "So much would go that nothing was written. Decide about the reasons below, one by "
            "one: fix the file, change what counts as a duplicate, or agree to the loss with "
            "max_removed_fraction."
        )
    return lead + (why if report.reasons else "") + asks + key_values(facts) + chart


def _findings(report: AuditReport, figures: Figures) -> str:
    if not report.findings:
        return note("Nothing was found.")
    bars = [(f.id, f.count) for f in report.findings if not f.in_validation]
    chart = _bars(sorted(bars, key=lambda bar: -bar[1]), "Findings", "examples")
    shown = {(one.line, one.in_validation) for one in figures.shown}
    return chart + "".join(_finding(finding, shown) for finding in report.findings)


def _finding(finding: Finding, shown: set[tuple[int, bool]]) -> str:
    where = " in the validation file" if finding.in_validation else ""
    outcome = "left out of the cleaned files" if finding.removed else "kept"
    share = f", {finding.fraction:.1%}" if finding.fraction else ""
    lines = ", ".join(
        f'<a href="#{anchor(line, bool(finding.in_validation))}">{line}</a>'
        if (line, bool(finding.in_validation)) in shown
        else str(line)
        for line in finding.lines
    )
    more = ", ..." if finding.count > len(finding.lines) else ""
    at = f'<p class="lines">Lines {lines}{more}</p>' if finding.lines else ""
    source = finding.source or ""
    link = ""
    if source.startswith("https://"):
        link = f' <a href="{escape(source)}" rel="noreferrer">Source</a>'
    return (
        f'<article class="finding"><h3>{badge(finding.severity, TONES[finding.severity])} '
        f"{escape(finding.id)}</h3>"
        f'<p class="note">{number(finding.count)} examples{share}{where}, {outcome}</p>'
        f"<p>{escape(finding.cure[:1].upper() + finding.cure[1:])}.{link}</p>{at}</article>"
    )


def _duplicates(report: AuditReport, figures: Figures) -> str:
    if report.duplicates is None:
        return ""
    facts: dict[str, str | int | float | bool | None] = {
        "Copies of an earlier example": report.duplicates.num_exact,
        "Near-duplicates of a kept one": report.duplicates.num_near,
        "Examples whose prompt has another answer too": report.duplicates.num_conflicting,
        "How near is meant": report.duplicates.method,
    }
    charts = _bars(figures.groups, "Groups that say the same", "groups")
    charts += _bars(figures.scores, "How alike near-duplicates are", "examples")
    return key_values(facts) + charts


def _lengths(report: AuditReport, figures: Figures) -> str:
    tokens = report.tokens
    if tokens is None:
        return note("No example is usable.")
    titles = {"whole": "Lengths of whole examples", "answer": "Lengths of the last answers"}
    charts = "".join(
        histogram(bins, title=titles[name], x_label="tokens", y_label="examples")
        for name, bins in figures.lengths.items()
    )
    facts: dict[str, str | int | float | bool | None] = {
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


def _languages(figures: Figures) -> str:
    if not figures.languages:
        return ""
    return _bars(figures.languages, "Languages of the answers", "answers")


def _pairs(report: AuditReport, figures: Figures) -> str:
    if "length_auc" not in report.shape:
        return ""
    names = {"length": "how long", "format": "how much is formatted", "lexical": "which words"}
    rows = [
        (said, report.shape[f"{name}_effect_size"], report.shape[f"{name}_auc"])
        for name, said in names.items()
        if f"{name}_auc" in report.shape
    ]
    parts = [table(["What differs", "Effect size", "AUC"], rows)]
    parts.append(
        note(
            "Effect size: Cohen's d of chosen minus rejected. AUC: how well this alone tells "
            "chosen from rejected; a half is chance."
        )
    )
    if figures.markers:
        cells = [(m.word, f"{m.chosen:.0%}", f"{m.rejected:.0%}") for m in figures.markers]
        parts.append(table(["Word (^ begins the answer)", "In chosen", "In rejected"], cells))
    return "".join(parts)


def _survival(report: AuditReport) -> str:
    bars = [(one.trainer, one.trained) for one in report.trainer_survival]
    rows = [
        (
            one.trainer,
            ", ".join(f"{_said(why)}: {number(n)}" for why, n in one.not_trained.items()) or "-",
            Html(f'<a href="{escape(one.source)}" rel="noreferrer">rules</a>'),
        )
        for one in report.trainer_survival
    ]
    chart = _bars(bars, "Examples each would train on", "examples")
    return chart + table(["Trainer", "Not the rest, because", "By its"], rows)


def _size(report: AuditReport) -> str:
    if report.size_verdict is None:
        return ""
    goals = [(goal, _said(said)) for goal, said in report.size_verdict.goals.items()]
    rules = [(r.rule, r.source) for r in report.size_verdict.reasons]
    return table(["Goal", "Verdict"], goals) + table(["Rule", "Source"], rules)


def _said(name: str) -> str:
    return name.replace("_", " ")


def _bars(rows: Sequence[tuple[str, int]] | Bars, title: str, unit: str) -> str:
    if not rows:
        return ""
    bars: list[tuple[str, float | None]] = [(name, float(n)) for name, n in rows[:MOST_BARS]]
    return bar_chart(bars, title=title, x_label=unit)
