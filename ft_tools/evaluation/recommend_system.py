"""What an evaluation of systems concludes: the target, the cheapest that meets it, what to try."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ft_tools.contract import NextStep
from ft_tools.errors import FineTuningError
from ft_tools.evaluation.report import (
    EvaluationReport,
    Ranked,
    SystemResult,
    words_of,
)
from ft_tools.runs.state.directory import RUN_ID, find, read_json

# The file with the classifier, in the run's folder.
CLASSIFIER = "classifier.py"
LEARNED = {"tf_idf", "nearest_example"}
ASK_AFRESH = " First ask it questions in new wordings, which it may miss."
SAID = {"met": "met by", "not_shown": "not shown for", "not_met": "not met by"}


@dataclass(frozen=True)
class Asked:
    """The call that a report answers, for the calls that follow it."""

    run_id: str
    arguments: Mapping[str, Any]
    """What was given; a run id stands for its systems."""
    learned_from: str = ""
    """A training file that was learned from or shown."""
    has_classes: bool = False
    """The expected answers are a few classes."""
    has_few_wordings: bool = False
    """Most held-out questions follow few templates."""

    def again(self, why: str, **changed: Any) -> NextStep:
        """Return the same call with other arguments."""
        return NextStep(tool="evaluate", arguments={**self.arguments, **changed}, why=why)

    def advice(self, why: str) -> NextStep:
        """Return the call that judges by what was measured."""
        arguments = {"evaluations": [self.run_id]}
        return NextStep(tool="recommend_approach", arguments=arguments, why=why)

    def training(self, why: str, report: EvaluationReport) -> NextStep:
        """Return the call that asks whether training would reach what a prompt misses.

        With what is known here: the model and the rows to train, and that classes are told wrongly.
        """
        known: dict[str, Any] = {"considering": ["sft"]}
        if self.has_classes:
            known["considering"] = ["sft", "small_model_fine_tuning"]
            if {one.target for one in report.systems} == {"not_met"}:
                known["symptoms"] = ["classification"]
        untrained = (one for one in report.systems if one.kind == "model" and not one.is_trained)
        models = {one.model for one in untrained} - {""}
        if len(models) == 1:
            known["model"] = models.pop()
        if self.learned_from:
            known["dataset"] = self.learned_from
        step = self.advice(why)
        return step.model_copy(update={"arguments": {**step.arguments, **known}})

    def audit(self, why: str) -> NextStep:
        """Return the audit of what was learned from, where that is known."""
        arguments = {"path": self.learned_from} if self.learned_from else {}
        return NextStep(tool="audit_dataset", arguments=arguments, why=why)


def target_sentence(report: EvaluationReport) -> str:
    """Return the verdict on the target; empty without one."""
    if not report.target:
        return ""
    wanted = " and ".join(
        f"{name} {_sign(name, report)} {value:g}" for name, value in report.target.items()
    )
    parts = []
    for verdict, said in SAID.items():
        named = [one for one in report.systems if one.target == verdict]
        if named:
            parts.append(f"{said} " + ", ".join(_with_scores(one, report) for one in named))
    return f"Target {wanted}: {'; '.join(parts)}."


def fresh_sentence(report: EvaluationReport) -> str:
    """Say what the scores are without questions that resemble learned ones; empty without such."""
    if report.num_fresh is None or report.contamination is None:
        return ""
    num_alike, num_worded = report.contamination.num_alike, report.contamination.num_same_wording
    seen = f"{num_alike} of {num_alike + report.num_fresh} held-out questions resemble a "
    seen += "training row"
    if num_worded:
        seen += f", {num_worded} of them as one template filled with other words"
    if not report.num_fresh:
        unshown = ", so no target is shown to be met by what learned" if report.target else ""
        return f"{seen}: no score here says how new questions are answered{unshown}."
    scores = [
        f"{one.name} {one.fresh.value:.3g} [{one.fresh.ci_low:.3g}, {one.fresh.ci_high:.3g}]"
        for one in report.systems
        if one.fresh is not None
    ]
    rest = f"on the other {report.num_fresh}, {report.main_metric} is"
    return f"{seen}; {rest} {', '.join(scores)}."


def comparison_sentence(report: EvaluationReport) -> str:
    """Return what the main metric says of each system compared with the reference."""
    rows = [row for row in report.comparisons if row.metric == report.main_metric]
    parts = [
        f"{row.system} {words_of(row)} ({row.baseline:.3g} -> {row.tuned:.3g}, "
        f"{row.difference:+.3g} [{row.ci_low:+.3g}, {row.ci_high:+.3g}])"
        for row in rows
    ]
    num = rows[0].num_examples if rows else 0
    about = f"{report.main_metric} compared with {report.baseline} on {num} examples, with 95%"
    return f"{about} intervals: {'; '.join(parts)}."


def choice_sentence(report: EvaluationReport, asked: Asked) -> str:
    """Return which system to use; without a target, which is best and which is cheaper."""
    if not report.ranking:
        what = next_steps_of(report, asked)[0].why
        return f"No system is shown to meet the target. {what}"
    best = next(one.name for one in report.ranking if one.versus_best == "best")
    cheapest = _cheapest(report)
    by = "cheapest" if _has_prices(report) else "fastest (set price to rank by cost)"
    interval = ""
    if cheapest.name != best:
        interval = f"({cheapest.difference:+.3g}, 95% interval [{cheapest.ci_low:+.3g}, "
        interval += f"{cheapest.ci_high:+.3g}])"
    if not report.target:
        said = f"{best} has the best {report.main_metric}{_beside_majority(report, best)}"
        if interval:
            said += f"; the {by} that is not shown to be worse is {cheapest.name} {interval}"
        return f"{said}."
    if not interval:
        beside = f", and it has the best {report.main_metric}"
    elif cheapest.versus_best == "not_distinguishable":
        beside = f"; it cannot be distinguished from the best, {best} {interval}"
    else:
        beside = f"; {best} scores higher {interval}"
    said = f"Use {cheapest.name}: the {by} that meets the target{beside}."
    return said + _no_training(report, asked)


def _cheapest(report: EvaluationReport) -> Ranked:
    """Return the cheapest system; without a target, of those that are not worse than the best."""
    good = [one for one in report.ranking if report.target or one.versus_best != "worse"]
    return good[0]


def _beside_majority(report: EvaluationReport, best: str) -> str:
    """Say where the best system is not shown to beat a constant answer; empty if it is."""
    score = _result(report, best).scores.get(report.main_metric)
    most = report.majority_fraction
    is_fraction_right = report.main_metric in {"accuracy", "exact_match"}
    if most is None or score is None or score.ci_low is None or not is_fraction_right:
        return ""
    if score.ci_low > most:
        return ""
    return (
        f" ({score.value:.3g} [{score.ci_low:.3g}, {score.ci_high:.3g}]), which is not shown to "
        f"beat always answering the most frequent class ({most:.3g})"
    )


def next_steps_of(report: EvaluationReport, asked: Asked) -> list[NextStep]:
    """Return the calls that make sense after a comparison of systems."""
    if report.target and report.ranking:
        return [_with_what_meets_the_target(report, asked)]
    if not report.target:
        why = "Set target, so that the report says which system is good enough."
        return [asked.again(why, target={report.main_metric: 0.9})]
    if _needs_new_questions(report):
        why = "Name a dataset whose questions resemble no training row: these may be remembered."
        return [asked.again(why)]
    if any(one.target == "not_shown" for one in report.systems):
        why = "Add held-out examples to dataset: that narrows the intervals around the target."
        return [asked.again(why)]
    trained = [one for one in report.systems if one.is_trained]
    if trained:
        # What its curves show goes first: the data may be good, and the training too short.
        if step := _proposed_by_run(trained[-1].model):
            why = f"The trained model misses the target, and its run says: {step.why}"
            return [step.model_copy(update={"why": why})]
        return [asked.audit("The trained model misses the target: check its training data.")]
    if not any(one.has_examples for one in report.systems):
        why = "Few-shot examples are cheaper than training: try the nearest five with a schema."
        return [asked.again(why)]
    why = "Prompting with examples misses the target: check whether training would reach it."
    return [asked.training(why, report)]


def _needs_new_questions(report: EvaluationReport) -> bool:
    """Tell whether a target is open for what learned because every question was learned from."""
    undecided = (one for one in report.systems if one.target == "not_shown")
    return report.num_fresh == 0 and any(one.has_learned for one in undecided)


def _with_what_meets_the_target(report: EvaluationReport, asked: Asked) -> NextStep:
    chosen = _result(report, _cheapest(report).name)
    if chosen.is_trained:
        why = f"{chosen.name} meets the target: merge and quantize it to serve it."
        why += ASK_AFRESH if asked.has_few_wordings else ""
        source = {"source": chosen.model}
        return NextStep(tool="merge_and_quantize", arguments=source, why=why)
    why = f"{chosen.name} meets the target without training: use it, do not train."
    if chosen.kind == "tf_idf":
        why += f" {CLASSIFIER}, in the run's folder, learns from the same file and answers."
    if chosen.kind in LEARNED or asked.has_few_wordings:
        why += ASK_AFRESH
    return asked.advice(why)


def with_classifier(
    steps: list[NextStep], report: EvaluationReport, asked: Asked
) -> list[NextStep]:
    """Offer to measure a classifier if answers are classes and none was measured."""
    is_measured = any(one.kind == "tf_idf" for one in report.systems)
    if not (asked.has_classes and asked.learned_from) or is_measured:
        return steps
    learned = {"path": asked.learned_from}
    systems = [
        {"name": kind, "baseline": kind, "examples": learned} for kind in ("majority", "tf_idf")
    ]
    kept = {k: v for k, v in asked.arguments.items() if k in {"dataset", "target", "max_examples"}}
    why = "The answers are classes: a simple classifier may do, and takes seconds to measure."
    return [*steps, NextStep(tool="evaluate", arguments={**kept, "systems": systems}, why=why)]


def _proposed_by_run(run_id: str) -> NextStep | None:
    """Return the call that a training run's diagnosis proposes; None if it proposes none."""
    if not RUN_ID.fullmatch(run_id):
        return None
    with contextlib.suppress(FineTuningError, ValidationError):
        report = read_json(find(run_id) / "report.json") or {}
        steps = [NextStep.model_validate(step) for step in report.get("next_steps") or ()]
        return steps[0] if report.get("diagnosis") and steps else None
    return None


def notes_on_systems(systems: Sequence[SystemResult]) -> list[str]:
    """Return what limits the numbers of single systems."""
    notes = []
    for one in systems:
        if len(one.served_by) > 1:
            notes.append(
                f"{one.name}: the endpoint reported {len(one.served_by)} different models or "
                "fingerprints, so the remote model changed while it was measured"
            )
        if one.cut_off_fraction > 0.05:
            notes.append(
                f"{one.name}: {one.cut_off_fraction:.0%} of its answers were cut off: raise "
                "max_new_tokens, or train with whole answers if it did not learn to end them"
            )
    return notes


def _with_scores(one: SystemResult, report: EvaluationReport) -> str:
    found = []
    for name in report.target:
        score = one.scores.get(name)
        if score is not None and score.ci_low is not None:
            found.append(f"{score.value:.3g} [{score.ci_low:.3g}, {score.ci_high:.3g}]")
    return f"{one.name} ({', '.join(found)})"


def _sign(name: str, report: EvaluationReport) -> str:
    rows = [row for row in report.comparisons if row.metric == name]
    return "<=" if rows and not rows[0].higher_is_better else ">="


def _has_prices(report: EvaluationReport) -> bool:
    return all(
        _result(report, ranked.name).usd_per_1000_calls is not None for ranked in report.ranking
    )


def _no_training(report: EvaluationReport, asked: Asked) -> str:
    trained = [one for one in report.systems if one.is_trained]
    chosen = _result(report, _cheapest(report).name)
    if chosen.is_trained:
        return ""
    said = " Training is not needed" if trained else " There is no need to train"
    is_narrow = chosen.kind in LEARNED or asked.has_few_wordings
    return said + (" for questions like these." if is_narrow else ".")


def _result(report: EvaluationReport, name: str) -> SystemResult:
    return next(one for one in report.systems if one.name == name)
