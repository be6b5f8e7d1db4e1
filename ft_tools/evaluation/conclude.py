"""What an evaluation concludes: summary, notes, next steps, a short report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.evaluation.classes import only_worst
from ft_tools.evaluation.findings import warning
from ft_tools.evaluation.report import Comparison, EvaluationReport, RankedSystem, SystemResult
from ft_tools.formats.test_sets import MOST_LOOKS
from ft_tools.metrics.sample_size import examples_needed
from ft_tools.metrics.table import CHECK, METRICS, asked_for
from ft_tools.metrics.verdicts import ALPHA
from ft_tools.next_steps import next_step, tool_of

# The file with the classifier, in the run's folder.
CLASSIFIER = "classifier.py"
# What a short report leaves out of a comparison.
NOT_SHOWN = dict.fromkeys(("unit", "method"), "") | dict.fromkeys(
    ("standard_error", "num_better", "num_worse")
)
ON_THE_PAGE = {"outputs": {}, "confusion": {}, "report_html": "", "samples_jsonl": ""}
MILLER = "https://arxiv.org/abs/2411.00640"
RULE = (
    "a change if the Holm-corrected p < {alpha} and the interval excludes 0; otherwise "
    "underpowered if the detectable effect exceeds what matters"
)
CUT_OFF = 0.05
TARGETS = {"met": "met by", "not_shown": "not shown for", "not_met": "not met by"}


@dataclass(frozen=True)
class Call:
    """The call that a report answers, for the calls that follow it."""

    run_id: str
    arguments: Mapping[str, Any]
    """What was given; a run id stands for its systems."""
    learned_from: str = ""
    """A training file that was learned from or shown."""
    has_classes: bool = False
    """The expected answers are a few classes."""


def concluded(
    report: EvaluationReport, size_warning: str, smallest_effect: float, call: Call
) -> EvaluationReport:
    """Return the report with notes, summary, reasons and next steps."""
    is_missed = any(row.verdict == "underpowered" for row in report.comparisons)
    notes = [size_warning] if is_missed and size_warning else []
    return report.model_copy(
        update={
            "notes": [*notes, *report.notes, *_notes(report)],
            "summary": summarise(report),
            "reasons": [
                Reason(
                    id=row.metric,
                    rule=f"{row.metric}: {RULE.format(alpha=ALPHA)}",
                    observed=f"p {row.p_adjusted:.3g}, interval [{row.ci_low:.3g}, "
                    f"{row.ci_high:.3g}], detectable {row.minimum_detectable_effect:.3g}",
                    threshold=smallest_effect,
                    source=MILLER,
                )
                for row in report.decisive
            ],
            "next_steps": [
                _next_step(report, smallest_effect, call),
                *_classifier_step(report, call),
            ],
        }
    )


def summarise(report: EvaluationReport) -> list[str]:
    """Return what breaks, the verdict on the target, what was shown, and what to do."""
    sentences = [
        _stress_sentence(report),
        _target_sentence(report),
        _fresh_sentence(report),
        *_changes(report),
        _choice_sentence(report) if report.compares_systems else _pair_sentence(report),
        _limits_sentence(report),
    ]
    return [f"{sentence}." for sentence in sentences if sentence]


def without_details(report: EvaluationReport, requested: Sequence[str] = ()) -> EvaluationReport:
    """Return a short report of systems: the metrics that decide or were requested, in three digits.

    The page and samples.jsonl, which the run names, have the rest. One system keeps all its scores,
    and of a trained one, else the best, the worst classes are kept.
    """
    best = [one.name for one in report.ranking if one.versus_best == "best"]
    trained = report.trained_system
    matters = trained.name if trained else next(iter(best), report.baseline)
    report = report.model_copy(update={"systems": only_worst(report.systems, matters)})
    if report.alone:
        return report.model_copy(update=ON_THE_PAGE)
    if not report.compares_systems:
        return report
    named = (row.name for metric in requested for row in asked_for(metric))
    shown = {report.main_metric, *report.target, *named}
    systems = [
        one.model_copy(
            update={
                "scores": {
                    key: value
                    for key, value in one.scores.items()
                    if key in shown or key.startswith(CHECK)
                },
                "stress": [each for each in one.stress if each is one.worst_stress],
            }
        )
        for one in report.systems
    ]
    rows = [row for row in report.comparisons if row.metric in shown]
    short = report.model_copy(
        update={
            "systems": systems,
            "comparisons": [row.model_copy(update=NOT_SHOWN) for row in rows],
            "reasons": [one for one in report.reasons if one.id in shown][:1],
            **ON_THE_PAGE,
        }
    )
    return EvaluationReport.model_validate(_in_three_digits(short.model_dump()))


def _stress_sentence(report: EvaluationReport) -> str:
    """Return what breaks under which change, or that nothing is shown to; empty without stress."""
    tried = [one for system in report.systems for one in system.stress if one.num_changed]
    if not tried:
        return ""
    broken = [(one, worst) for one in report.systems if (worst := one.worst_stress) is not None]
    if not broken:
        lows = [min(0.0, one.ci_low) for one in tried]
        names = ", ".join(dict.fromkeys(one.change for one in tried))
        return f"No loss is shown under {names}; losses up to {-min(lows):.3g} are not excluded"
    parts = [
        f"{system.name} falls from {worst.plain:.3g} to {worst.score.words} under {worst.change}"
        for system, worst in broken
        if worst.score is not None
    ]
    return f"{report.main_metric}: {'; '.join(parts)}"


def _target_sentence(report: EvaluationReport) -> str:
    """Return the verdict on the target; empty without one."""
    if not report.target:
        return ""
    wanted = " and ".join(
        f"{name} {'>=' if METRICS[name].sign > 0 else '<='} {value:g}"
        for name, value in report.target.items()
    )
    parts = []
    for verdict, words in TARGETS.items():
        named = [one for one in report.systems if one.target == verdict]
        scores = [f"{one.name} ({_target_scores(report, one)})" for one in named]
        parts += [f"{words} {', '.join(scores)}"] if scores else []
    return f"Target {wanted}: {'; '.join(parts)}"


def _target_scores(report: EvaluationReport, one: SystemResult) -> str:
    """Return the scores that a target is about, and the one under the worst change."""
    scores = [one.scores[name].words for name in report.target]
    worst = one.worst_stress
    if worst is not None and worst.score is not None:
        scores.append(f"{worst.score.words} under {worst.change}")
    return ", ".join(scores)


def _fresh_sentence(report: EvaluationReport) -> str:
    """Return the scores without questions that resemble learned ones; empty without such."""
    overlap = report.contamination
    if report.num_fresh is None or overlap is None:
        return ""
    num_alike = overlap.num_exact + overlap.num_near
    seen = f"{num_alike} of {num_alike + report.num_fresh} held-out questions resemble a "
    seen += "training row"
    if not report.num_fresh:
        unshown = ", so no target is shown to be met by what learned" if report.target else ""
        return f"{seen}: no score here says how new questions are answered{unshown}"
    scores = [f"{one.name} {one.fresh.words}" for one in report.systems if one.fresh is not None]
    rest = f"on the other {report.num_fresh}, {report.main_metric} is"
    return f"{seen}; {rest} {', '.join(scores)}"


def _limits_sentence(report: EvaluationReport) -> str:
    """Return what limits the claim: where the rows come from, and how often they were seen."""
    parts = []
    if report.origin in {"written", "generated"}:
        parts.append(f"The rows were {report.origin}, not collected from use")
    if report.look > 1:
        parts.append(
            f"Look {report.look} at these rows: each interval over them is of "
            f"{report.coverage:.4g}, not 0.95, so that the best of all looks is covered in 95 of "
            "100 cases"
        )
    if report.look > MOST_LOOKS:
        parts.append("ask for fresh rows")
    return "; ".join(parts)


def _changes(report: EvaluationReport) -> list[str]:
    """Return what changed from the reference, and what is not shown to; of one system its scores.

    Of several systems only the main metric is named.
    """
    if report.alone:
        one = report.systems[0]
        values = ", ".join(f"{name} {score.words}" for name, score in one.scores.items())
        return [f"{one.name} alone: {values}, with 95% intervals; nothing was compared"]
    several = report.compares_systems
    rows = [r for r in report.decisive if not several or r.metric == report.main_metric]
    named = [(r, f"{r.system}, {r.metric}" if several else r.metric) for r in rows]
    shown = "; ".join(f"{name} {r.verdict}: {r.change}" for r, name in named if r.is_shown)
    rest = "; ".join(f"{name}: {r.words}, {r.change}" for r, name in named if not r.is_shown)
    compared = f", compared with {report.baseline}" if several else ""
    return [f"{shown}{compared}" if shown else "No change is shown", rest]


def _pair_sentence(report: EvaluationReport) -> str:
    """Return what to do about a model and its baseline; empty where nothing was compared."""
    rows = report.decisive
    verdicts = {row.verdict for row in rows}
    if report.alone:
        return ""
    if report.lost_abilities:
        lost = ", ".join(report.lost_abilities)
        return f"General ability regressed ({lost}): find out why before shipping"
    if "regressed" in verdicts:
        return "Do not ship: a metric regressed; read the worst regressions in report.html"
    if report.target and not report.ranking:
        return "Improved or not, the target is not shown to be met: do not ship yet"
    if "improved" in verdicts:
        clause = _general_clause(report.general_ability)
        return f"The gain is significant on these {rows[0].num_examples} examples{clause}"
    if verdicts & {"underpowered", "not_confirmed"}:
        return "Collect more held-out examples before drawing a conclusion"
    return "A change of the size that matters would have been detected, so there is none"


def _general_clause(rows: Sequence[Comparison]) -> str:
    if not rows:
        return (
            "; general ability was not measured (general_ability_unwatched): measure it before "
            "shipping"
        )
    lost = [row.metric for row in rows if row.verdict == "regressed"]
    if lost:
        return f"; general ability regressed ({', '.join(lost)}), which was accepted"
    unsure = [row.metric for row in rows if row.verdict == "underpowered"]
    missed = f" (a small loss of {', '.join(unsure)} could be missed)" if unsure else ""
    return f", and general ability shows no loss{missed}"


def _choice_sentence(report: EvaluationReport) -> str:
    """Return which system to use; without a target, which is best and which is cheaper."""
    if not report.ranking:
        return "No system is shown to meet the target"
    best = next(one.name for one in report.ranking if one.versus_best == "best")
    cheapest, metric = _cheapest(report), report.main_metric
    results = [report.system(one.name) for one in report.ranking]
    has_prices = all(one.usd_per_1000_calls is not None for one in results)
    by = "cheapest" if has_prices else "fastest (set price to rank by cost)"
    interval = (
        f"({cheapest.difference:+.3g}, 95% interval [{cheapest.ci_low:+.3g}, "
        f"{cheapest.ci_high:+.3g}])"
        if cheapest.name != best
        else ""
    )
    if not report.target:
        text = f"{best} has the best {metric}{_beside_majority(report, best)}"
        other = f"; the {by} that is not shown to be worse is {cheapest.name} {interval}"
        return text + (other if interval else "")
    beside = f", and it has the best {metric}"
    if interval and cheapest.versus_best == "not_distinguishable":
        beside = f"; it cannot be distinguished from the best, {best} {interval}"
    elif interval:
        beside = f"; {best} scores higher {interval}"
    return f"Use {cheapest.name}: the {by} that meets the target{beside}"


def _cheapest(report: EvaluationReport) -> RankedSystem:
    """Return the cheapest system; without a target, of those that are not worse than the best."""
    return next(one for one in report.ranking if report.target or one.versus_best != "worse")


def _beside_majority(report: EvaluationReport, best: str) -> str:
    """Return that the best system is not shown to beat a constant answer; empty if it is."""
    score = report.system(best).scores[report.main_metric]
    most = report.majority_fraction
    is_accuracy = report.main_metric in {"accuracy", "exact_match"}
    if most is None or score.ci_low is None or not is_accuracy or score.ci_low > most:
        return ""
    return (
        f" ({score.words}), which is not shown to beat always answering the most frequent class "
        f"({most:.3g})"
    )


def _next_step(report: EvaluationReport, smallest_effect: float, call: Call) -> NextStep:
    """Return the call that makes sense after this evaluation: of the rows that apply, the first."""
    verdicts = {row.verdict for row in report.decisive}
    is_pair = not (report.alone or report.compares_systems)
    is_worse = is_pair and (bool(report.lost_abilities) or "regressed" in verdicts)
    chosen = report.system(_cheapest(report).name) if report.target and report.ranking else None
    is_missed = bool(report.target and report.systems)
    undecided = [one for one in report.systems if is_missed and one.target == "not_shown"]
    learned = report.num_fresh == 0 and any(one.has_learned for one in undecided)
    shown = report.compares_systems and not any(one.has_examples for one in report.systems)
    is_trained, kind = (chosen.is_trained, chosen.kind) if chosen else (False, "")
    follows = {
        "audit_before_training": is_trained and is_worse,
        "ship_chosen": is_trained,
        "use_classifier": kind == "tf_idf",
        "use_untrained": chosen is not None,
        "rows_from_use": bool(undecided) and report.origin in {"written", "generated"},
        "rows_unlike_training": learned,
        "more_rows": bool(undecided),
        "trained_misses": is_missed and report.trained_system is not None,
        "try_few_shot": is_missed and shown,
        "prompting_misses": is_missed,
        "would_training_help": report.alone,
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
    if step in {"prompting_misses", "would_training_help"}:
        arguments |= _known(report, call)
    if step == "set_target":
        arguments["target"] = {report.main_metric: 0.9}
    return next_step(
        step,
        arguments,
        name=chosen.name if chosen else "",
        file=CLASSIFIER,
        origin=report.origin,
        effect=smallest_effect,
        needed=examples_needed(smallest_effect, facts.number("evaluation.discordance")),
    )


def _known(report: EvaluationReport, call: Call) -> dict[str, Any]:
    """Return what an evaluation knows for the decision to train: the model, the rows, the kind."""
    kinds = ["sft", "small_model_fine_tuning"] if call.has_classes else ["sft"]
    models = {one.model for one in report.systems if one.kind == "model" and not one.is_trained}
    model = models.pop() if len(models) == 1 else ""
    return {"considering": kinds, "model": model, "dataset": call.learned_from}


def _classifier_step(report: EvaluationReport, call: Call) -> list[NextStep]:
    """Return the measurement of a classifier if answers are classes and none was measured."""
    is_measured = any(one.kind == "tf_idf" for one in report.systems)
    if not (call.has_classes and call.learned_from) or is_measured:
        return []
    learned = {"path": call.learned_from}
    systems = [
        {"name": kind, "baseline": kind, "examples": learned} for kind in ("majority", "tf_idf")
    ]
    kept = {k: v for k, v in call.arguments.items() if k in {"dataset", "target", "max_examples"}}
    return [next_step("try_classifier", {**kept, "systems": systems})]


def _notes(report: EvaluationReport) -> Iterator[str]:
    """Yield findings on single systems, and on the rows."""
    for one in report.systems:
        if len(one.served_by) > 1:
            yield warning("endpoint_changed", system=one.name, num=len(one.served_by))
        if one.cut_off_fraction > CUT_OFF:
            yield warning("answers_cut_off", system=one.name, fraction=one.cut_off_fraction)
        yield from _trivial_note(report, one)
        for lost in one.stress:
            if lost.is_loss and lost.score is not None:
                yield warning(
                    "stress_loss",
                    system=one.name,
                    change=lost.change,
                    plain=lost.plain,
                    score=lost.score.words,
                    num=lost.num_changed,
                )


def _trivial_note(report: EvaluationReport, one: SystemResult) -> Iterator[str]:
    health, score = report.outputs.get(one.name), one.scores.get("exact_match")
    num = health.trivial_differences.get("null_or_empty", 0) if health else 0
    total = report.num_examples
    if num and score is not None and total:
        yield warning(
            "trivially_different",
            system=one.name,
            num=num,
            total=total,
            value=score.value + num / total,
            without=score.value,
        )


def _in_three_digits(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_three_digits(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_in_three_digits(part) for part in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value
