"""What an evaluation says: three sentences, the next calls, and a model-card section."""

from collections.abc import Sequence

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.evaluation.intervals.paired import ALPHA
from ft_tools.evaluation.intervals.proportions import examples_needed
from ft_tools.evaluation.reports import TOO_FEW, Comparison, EvaluationReport, change_of

MILLER = "https://arxiv.org/abs/2411.00640"


def summarise(report: EvaluationReport) -> list[str]:
    """Return three sentences: what was shown, what was not, what to do."""
    main = [*report.comparisons, *report.benchmarks]
    if report.alone:
        values = ", ".join(f"{row.metric} {row.tuned:.3g} (n={row.num_examples})" for row in main)
        return [
            f"{report.tuned} alone: {values}.",
            "There was no baseline, so nothing is said of a change.",
            "If this meets the target, do not train; else train and evaluate the run.",
        ]
    shown = [row for row in main if row.verdict in {"improved", "regressed"}]
    open_ = [row for row in main if row.verdict not in {"improved", "regressed"}]
    first = (
        "; ".join(f"{row.metric} {row.verdict}: {change_of(row)}" for row in shown)
        or "No measure shows a change between baseline and tuned model"
    )
    second = (
        "; ".join(
            f"{row.metric}: {row.verdict.replace('_', ' ')}, {change_of(row)}" for row in open_
        )
        or "No measure was left open"
    )
    lost = [row.metric for row in report.general_ability if row.verdict == "regressed"]
    if lost:
        third = f"General ability fell ({', '.join(lost)}): do not ship before that is looked into"
    elif any(row.verdict == "regressed" for row in main):
        third = "Do not ship: something got worse; look at the worst regressions in report.html"
    elif any(row.verdict == "improved" for row in main):
        general = _about_general(report.general_ability)
        third = f"The gain holds on these {main[0].num_examples} examples{general}"
    elif any(row.verdict == "underpowered" for row in main):
        third = "Collect more held-out examples before claiming anything"
    else:
        third = "A change of the size that matters would have been seen, so there is none"
    return [f"{sentence}." for sentence in (first, second, third)]


def notes_that_hold(report: EvaluationReport) -> list[str]:
    """Return the notes without the plan's fear of too few examples, where they were enough."""
    missed = any(row.verdict == "underpowered" for row in report.comparisons)
    return [note for note in report.notes if missed or TOO_FEW not in note]


def reasons(report: EvaluationReport, smallest_effect: float) -> list[Reason]:
    """Return the rule behind each verdict."""
    return [
        Reason(
            rule=f"{row.metric}: a change when Holm's p < {ALPHA} and the 95% interval excludes 0; "
            "else underpowered when the detectable effect exceeds what matters",
            observed=f"p {row.p_adjusted:.3g}, interval [{row.ci_low:.3g}, {row.ci_high:.3g}], "
            f"detectable {row.minimum_detectable_effect:.3g}",
            threshold=smallest_effect,
            source=MILLER,
        )
        for row in [*report.comparisons, *report.benchmarks]
    ]


def next_steps(report: EvaluationReport, smallest_effect: float) -> list[NextStep]:
    """Return the calls that make sense after this evaluation."""
    rows = [*report.comparisons, *report.benchmarks]
    if report.alone:
        why = "Says whether what is missing is a matter for training at all."
        return [NextStep(tool="recommend_approach", arguments={}, why=why)]
    verdicts = {row.verdict for row in [*rows, *report.general_ability]}
    if "regressed" in verdicts or "improved" not in verdicts:
        if "underpowered" in verdicts:
            needed = examples_needed(smallest_effect, facts.number("evaluation.discordance"))
            why = f"Needs about {needed} held-out examples to show a change of {smallest_effect:g}."
            return [NextStep(tool="evaluate", arguments={"model": report.tuned}, why=why)]
        why = "Look at the data again before training again."
        return [NextStep(tool="audit_dataset", arguments={}, why=why)]
    why = "The model is better than its baseline: make it small enough to serve."
    return [NextStep(tool="merge_and_quantize", arguments={"source": report.tuned}, why=why)]


def model_card(report: EvaluationReport) -> str:
    """Return the evaluation as a Markdown section for a model card."""
    lines = [
        "## Evaluation",
        "",
        f"`{report.tuned}` against `{report.baseline}`, the same held-out prompts, greedy.",
        "",
        "| measure | baseline | tuned | difference [95% interval] | examples | verdict |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.metric} ({row.unit}) | {row.baseline:.4g} | {row.tuned:.4g} | "
        f"{row.difference:+.4g} [{row.ci_low:+.4g}, {row.ci_high:+.4g}] | {row.num_examples} | "
        f"{row.verdict.replace('_', ' ')} |"
        for row in [*report.comparisons, *report.benchmarks, *report.general_ability]
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in report.notes)]).rstrip() + "\n"


def _about_general(rows: Sequence[Comparison]) -> str:
    if not rows:
        return "; general ability was not measured (general_ability_unwatched): do that first"
    said = " and general ability shows no loss"
    unsure = [row.metric for row in rows if row.verdict == "underpowered"]
    return said + (f" (a small one of {', '.join(unsure)} could be missed)" if unsure else "")
