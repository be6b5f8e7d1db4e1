"""What an evaluation concludes: summary, notes, next steps."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.evaluation.findings import sentence, warning
from ft_tools.evaluation.report import GENERAL_LOSS, EvaluationReport, RankedSystem
from ft_tools.metrics.table import METRICS
from ft_tools.metrics.verdicts import ALPHA, examples_needed
from ft_tools.next_steps import next_step, tool_of

MILLER = "https://arxiv.org/abs/2411.00640"
CUT_OFF = 0.05
MOST_CHARACTERS = 500
"""Of one argument that a next step repeats."""
TARGETS = {"met": "met by", "not_shown": "not shown for", "not_met": "not met by"}


@dataclass(frozen=True)
class Call:
    """The call that a report answers, for the calls that follow it."""

    run_id: str
    arguments: Mapping[str, Any]
    """What was given."""
    learned_from: str = ""
    """A training file that was learned from or shown."""
    has_classes: bool = False
    """The expected answers are a few classes."""


def concluded(report: EvaluationReport, smallest_effect: float, call: Call) -> EvaluationReport:
    """Return the report with notes, summary, reasons and next steps."""
    rows = [row for row in report.decisive if row.metric == report.main_metric]
    reasons = [
        Reason(
            id=row.metric,
            rule=sentence("rule", metric=row.metric, alpha=ALPHA),
            observed=f"p {row.p_adjusted:.3g}, interval [{row.ci_low:.3g}, {row.ci_high:.3g}], "
            f"detectable {row.minimum_detectable_effect:.3g}",
            threshold=smallest_effect,
            source=MILLER,
        )
        for row in (rows or report.decisive)[:1]
    ]
    steps = [_next_step(report, smallest_effect, call), *_classifier_step(report, call)]
    made = {"summary": [*_summary(report)], "reasons": reasons, "next_steps": steps}
    return report.model_copy(update={**made, "notes": [*report.notes, *_notes(report)]})


def _summary(report: EvaluationReport) -> Iterator[str]:
    """Yield what breaks, the verdict on the target, what changed, and which system is chosen."""
    tried = [one for system in report.systems for one in system.stress if one.num_changed]
    losses = [
        f"{system.name} falls from {one.plain:.3g} to {one.score.words} under {one.change}"
        for system in report.systems
        if (one := system.worst_stress) is not None and one.score is not None
    ]
    if losses:
        yield f"{report.main_metric}: {'; '.join(losses)}."
    elif tried:
        names = ", ".join(dict.fromkeys(one.change for one in tried))
        yield sentence("no_stress_loss", names=names, most=-min(0.0, *(x.ci_low for x in tried)))
    if report.target:
        yield _target_sentence(report)
    overlap = report.contamination
    if report.num_fresh is not None and overlap is not None:
        num = overlap.num_exact + overlap.num_near
        fresh = [f"{one.name} {one.fresh.words}" for one in report.systems if one.fresh]
        row = "fresh" if report.num_fresh else "nothing_fresh"
        found = {"num": num, "total": num + report.num_fresh, "scores": ", ".join(fresh)}
        yield sentence(row, metric=report.main_metric, **found)
    if report.alone:
        system = report.systems[0]
        values = ", ".join(f"{name} {score.words}" for name, score in system.scores.items())
        yield sentence("alone", system=system.name, values=values)
    elif report.compares_systems:
        yield _choice_sentence(report)
    else:
        yield from _changes(report)
        yield _general_sentence(report)


def _target_sentence(report: EvaluationReport) -> str:
    """Return the verdict on the target."""
    wanted = " and ".join(
        f"{name} {'>=' if METRICS[name].sign > 0 else '<='} {value:g}"
        for name, value in report.target.items()
    )
    parts = []
    for verdict, words in TARGETS.items():
        scores = [
            f"{one.name} ({', '.join(one.scores[name].words for name in report.target)})"
            for one in report.systems
            if one.target == verdict
        ]
        parts += [f"{words} {', '.join(scores)}"] if scores else []
    return f"Target {wanted}: {'; '.join(parts)}."


def _changes(report: EvaluationReport) -> Iterator[str]:
    """Yield what changed from the base model, and what is not shown to."""
    shown = [f"{r.metric} {r.verdict}: {r.change}" for r in report.decisive if r.is_shown]
    rest = [f"{r.metric}: {r.words}, {r.change}" for r in report.decisive if not r.is_shown]
    yield f"{'; '.join(shown)}." if shown else sentence("no_change")
    if rest:
        yield f"{'; '.join(rest)}."


def _general_sentence(report: EvaluationReport) -> str:
    """Return what became of a tuned model's general ability."""
    found = {one.metric: one.verdict for one in report.general_ability}
    is_accepted = GENERAL_LOSS in report.accepted
    rows = {"regressed": "accepted" if is_accepted else "general_regressed"}
    for verdict, row in (rows | {"underpowered": "general_underpowered"}).items():
        if names := ", ".join(name for name, own in found.items() if own == verdict):
            return sentence(row, names=names)
    return sentence("general_kept" if found else "general_unwatched")


def _choice_sentence(report: EvaluationReport) -> str:
    """Return the cheapest system that meets the target, or else is not shown to be worse."""
    if not report.ranking:
        return sentence("none_meets")
    chosen, best = _cheapest(report), next(r for r in report.ranking if r.versus_best == "best")
    priced = all(report.system(r.name).usd_per_1000_calls is not None for r in report.ranking)
    by = "cheapest" if priced else "fastest (set price to rank by cost)"
    rule = "that meets the target" if report.target else "that is not shown to be worse"
    text = f"Use {chosen.name}: the {by} {rule}"
    if chosen is best or chosen.difference is None:
        return f"{text}, and it has the best {report.main_metric}."
    differs = "differs from" if chosen.versus_best == "worse" else "cannot be distinguished from"
    interval = f"[{chosen.ci_low:+.3g}, {chosen.ci_high:+.3g}]"
    return f"{text}; it {differs} the best, {best.name} ({chosen.difference:+.3g} {interval})."


def _cheapest(report: EvaluationReport) -> RankedSystem:
    """Return the cheapest system; without a target, of those that are not worse than the best."""
    return next(one for one in report.ranking if report.target or one.versus_best != "worse")


def _next_step(report: EvaluationReport, smallest_effect: float, call: Call) -> NextStep:
    """Return the call that makes sense after this evaluation: of the rows that apply, the first."""
    verdicts = {row.verdict for row in report.decisive}
    is_pair = not (report.alone or report.compares_systems)
    is_worse = is_pair and (bool(report.lost_abilities) or "regressed" in verdicts)
    chosen = report.system(_cheapest(report).name) if report.target and report.ranking else None
    is_trained = chosen is not None and chosen.is_trained
    is_missed = bool(report.target and report.systems)
    shown = report.compares_systems and not any(one.has_examples for one in report.systems)
    follows = {
        "audit_before_training": is_trained and is_worse,
        "ship_chosen": is_trained,
        "use_untrained": chosen is not None,
        "more_rows": is_missed and any(one.target == "not_shown" for one in report.systems),
        "trained_misses": is_missed and report.trained_system is not None,
        "try_few_shot": is_missed and shown,
        "would_training_help": is_missed or report.alone,
        "set_target": report.compares_systems,
        "ship_improved": not is_worse and "improved" in verdicts,
        "enough_rows": bool(verdicts & {"underpowered", "not_confirmed"}),
    }
    step = next((name for name, holds in follows.items() if holds), "audit_before_training")
    by_tool: dict[str, dict[str, Any]] = {
        "evaluate": dict(call.arguments),
        "recommend_approach": {"evaluations": [call.run_id]},
        "audit_dataset": {"path": call.learned_from},
        "merge_and_quantize": {"source": chosen.model if chosen else report.tuned},
    }
    arguments = by_tool[tool_of(step)]
    if step == "would_training_help":
        # What an evaluation knows for the decision to train: the model, the rows, the kind.
        kinds = ["sft", "small_model_fine_tuning"] if call.has_classes else ["sft"]
        models = {one.model for one in report.systems if one.kind == "model" and not one.is_trained}
        model = models.pop() if len(models) == 1 else ""
        arguments |= {"considering": kinds, "model": model, "dataset": call.learned_from}
    if step == "set_target":
        arguments["target"] = {report.main_metric: 0.9}
    needed = examples_needed(smallest_effect, facts.number("evaluation.discordance"))
    # Long prompts would leave no room for the report itself.
    long = [key for key, value in arguments.items() if len(json.dumps(value)) > MOST_CHARACTERS]
    return next_step(
        step,
        {key: value for key, value in arguments.items() if key not in long},
        "as_before" if long else "",
        left_out=", ".join(long),
        name=chosen.name if chosen else "",
        effect=smallest_effect,
        needed=needed,
    )


def _classifier_step(report: EvaluationReport, call: Call) -> list[NextStep]:
    """Return the measurement of a classifier if answers are classes and none was measured."""
    is_measured = any(one.kind == "tf_idf" for one in report.systems)
    if not (call.has_classes and call.learned_from) or is_measured:
        return []
    kinds, learned = ("majority", "tf_idf"), {"path": call.learned_from}
    systems = [{"name": kind, "baseline": kind, "examples": learned} for kind in kinds]
    kept = {k: v for k, v in call.arguments.items() if k in {"dataset", "target", "max_examples"}}
    return [next_step("try_classifier", {**kept, "systems": systems})]


def _notes(report: EvaluationReport) -> Iterator[str]:
    """Yield findings on single systems."""
    total, most = report.num_examples, report.majority_fraction
    for one in report.systems:
        if len(one.served_by) > 1:
            yield warning("endpoint_changed", system=one.name, num=len(one.served_by))
        if one.cut_off_fraction > CUT_OFF:
            yield warning("answers_cut_off", system=one.name, fraction=one.cut_off_fraction)
        score = one.scores.get("accuracy")
        is_learned = one.kind != "majority"
        if is_learned and most and score and score.ci_low is not None and score.ci_low <= most:
            yield warning("not_above_majority", system=one.name, score=score.words, most=most)
        exact = one.scores.get("exact_match")
        num = one.trivial_differences.get("null_or_empty", 0)
        if num and exact is not None:
            values = {"without": exact.value, "value": exact.value + num / total}
            yield warning("trivially_different", system=one.name, num=num, total=total, **values)
        for lost in one.stress:
            if lost.is_loss and lost.score is not None:
                found = {"plain": lost.plain, "score": lost.score.words, "num": lost.num_changed}
                yield warning("stress_loss", system=one.name, change=lost.change, **found)
