"""What an evaluation concludes: sentences, next steps, and a model-card section."""

from typing import Any

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.evaluation import recommend_system
from ft_tools.evaluation.intervals.comparison_verdict import ALPHA
from ft_tools.evaluation.intervals.sample_size import examples_needed
from ft_tools.evaluation.recommend_system import Asked
from ft_tools.evaluation.report import EvaluationReport, change_of, lost_abilities, words_of

# What a short report leaves out of a comparison.
NOT_SHOWN = dict.fromkeys(("unit", "method"), "") | dict.fromkeys(
    ("standard_error", "num_better", "num_worse")
)
MILLER = "https://arxiv.org/abs/2411.00640"


def summarise(report: EvaluationReport, asked: Asked) -> list[str]:
    """Return the verdict on the target, if there is one, then what was shown and what to do."""
    first = [recommend_system.target_sentence(report), recommend_system.fresh_sentence(report)]
    rest = _of_pair(report)
    if report.compares_systems:
        rest = [
            recommend_system.comparison_sentence(report),
            recommend_system.choice_sentence(report, asked),
        ]
    return [*filter(None, first), *rest]


def _of_pair(report: EvaluationReport) -> list[str]:
    """Return three sentences on a model and its baseline."""
    main = [*report.comparisons, *report.benchmarks]
    if report.alone:
        values = ", ".join(f"{row.metric} {row.tuned:.3g} (n={row.num_examples})" for row in main)
        return [
            f"{report.tuned} alone: {values}.",
            "There was no baseline, so no change can be reported.",
            "If this is good enough, do not train; otherwise train and evaluate the run.",
        ]
    shown = [row for row in main if row.verdict in {"improved", "regressed"}]
    open_ = [row for row in main if row.verdict not in {"improved", "regressed"}]
    first = (
        "; ".join(f"{row.metric} {row.verdict}: {change_of(row)}" for row in shown)
        or "No metric shows a change between baseline and tuned model"
    )
    second = (
        "; ".join(f"{row.metric}: {words_of(row)}, {change_of(row)}" for row in open_)
        or "Every metric shows a change"
    )
    lost = lost_abilities(report)
    if lost:
        third = f"General ability regressed ({', '.join(lost)}): find out why before shipping"
    elif any(row.verdict == "regressed" for row in main):
        third = "Do not ship: a metric regressed; read the worst regressions in report.html"
    elif report.target and not report.ranking:
        third = "Improved or not, the target is not shown to be met: do not ship yet"
    elif any(row.verdict == "improved" for row in main):
        general = _about_general(report)
        third = f"The gain is significant on these {main[0].num_examples} examples{general}"
    elif any(row.verdict == "underpowered" for row in main):
        third = "Collect more held-out examples before drawing a conclusion"
    else:
        third = "A change of the size that matters would have been detected, so there is none"
    return [f"{sentence}." for sentence in (first, second, third)]


def concluded(
    report: EvaluationReport, size_warning: str, smallest_effect: float, asked: Asked
) -> EvaluationReport:
    """Return the report with notes, summary, reasons and next steps."""
    report = report.model_copy(
        update={
            "notes": [
                *notes(report, size_warning),
                *recommend_system.notes_on_systems(report.systems),
            ]
        }
    )
    return report.model_copy(
        update={
            "summary": summarise(report, asked),
            "reasons": reasons(report, smallest_effect),
            "next_steps": recommend_system.with_classifier(
                next_steps(report, smallest_effect, asked), report, asked
            ),
        }
    )


def without_details(report: EvaluationReport) -> EvaluationReport:
    """Return a short report of systems: the metrics that decide, in three digits.

    The page and samples.jsonl, which the run names, have the rest.
    """
    if not report.compares_systems:
        return report
    shown = {report.main_metric, *report.target}
    rows = [row for row in report.comparisons if row.metric in shown]
    kept = {row.metric for row in rows}
    names = [one for one in report.reasons if one.id in kept]
    systems = [
        one.model_copy(update={"scores": {k: v for k, v in one.scores.items() if k in shown}})
        for one in report.systems
    ]
    short = report.model_copy(
        update={
            "systems": systems,
            "comparisons": [row.model_copy(update=NOT_SHOWN) for row in rows],
            "reasons": names[:1],
            "samples": [],
            "outputs": {},
            "confusion": {},
            "report_html": "",
            "samples_jsonl": "",
        }
    )
    return EvaluationReport.model_validate(_rounded(short.model_dump()))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def notes(report: EvaluationReport, size_warning: str) -> list[str]:
    """Return the report's notes, with the plan's warning of too few examples if it came true."""
    missed = any(row.verdict == "underpowered" for row in report.comparisons)
    return [size_warning, *report.notes] if missed and size_warning else list(report.notes)


def reasons(report: EvaluationReport, smallest_effect: float) -> list[Reason]:
    """Return the rule behind each verdict."""
    return [
        Reason(
            id=row.metric,
            rule=f"{row.metric}: a change if the Holm-corrected p < {ALPHA} and the 95% interval "
            "excludes 0; otherwise underpowered if the detectable effect exceeds what matters",
            observed=f"p {row.p_adjusted:.3g}, interval [{row.ci_low:.3g}, {row.ci_high:.3g}], "
            f"detectable {row.minimum_detectable_effect:.3g}",
            threshold=smallest_effect,
            source=MILLER,
        )
        for row in [*report.comparisons, *report.benchmarks]
    ]


def next_steps(report: EvaluationReport, smallest_effect: float, asked: Asked) -> list[NextStep]:
    """Return the calls that make sense after this evaluation."""
    rows = [*report.comparisons, *report.benchmarks]
    if report.compares_systems or (report.target and not report.alone and not report.ranking):
        return recommend_system.next_steps_of(report, asked)
    if report.alone:
        why = "Checks whether training would fix what is missing."
        return [asked.training(why, report)]
    verdicts = {str(row.verdict) for row in rows}
    if lost_abilities(report):
        verdicts.add("regressed")
    if "regressed" in verdicts or "improved" not in verdicts:
        if "underpowered" in verdicts:
            needed = examples_needed(smallest_effect, facts.number("evaluation.discordance"))
            effect = f"{smallest_effect:g}"
            why = f"Detecting a change of {effect} takes about {needed} held-out examples."
            return [asked.again(why)]
        return [asked.audit("Check the training data before training again.")]
    why = "The model is better than its baseline: merge and quantize it to serve it."
    why += recommend_system.ASK_AFRESH if asked.has_few_wordings else ""
    return [NextStep(tool="merge_and_quantize", arguments={"source": report.tuned}, why=why)]


def model_card(report: EvaluationReport) -> str:
    """Return the evaluation as a Markdown section for a model card."""
    lines = [
        "## Evaluation",
        "",
        f"`{report.tuned}` compared with `{report.baseline}`: same held-out prompts, greedy.",
        "",
        "| metric | baseline | tuned | difference [95% interval] | examples | verdict |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.metric} ({row.unit}) | {row.baseline:.4g} | {row.tuned:.4g} | "
        f"{row.difference:+.4g} [{row.ci_low:+.4g}, {row.ci_high:+.4g}] | {row.num_examples} | "
        f"{row.verdict.replace('_', ' ')} |"
        for row in [*report.comparisons, *report.benchmarks, *report.general_ability]
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in report.notes)]).rstrip() + "\n"


def _about_general(report: EvaluationReport) -> str:
    rows = report.general_ability
    lost = [row.metric for row in rows if row.verdict == "regressed"]
    if lost:
        return f"; general ability regressed ({', '.join(lost)}), which was accepted"
    if not rows:
        unwatched = "general ability was not measured (general_ability_unwatched)"
        return f"; {unwatched}: measure it before shipping"
    said = ", and general ability shows no loss"
    unsure = [row.metric for row in rows if row.verdict == "underpowered"]
    return said + (f" (a small loss of {', '.join(unsure)} could be missed)" if unsure else "")
