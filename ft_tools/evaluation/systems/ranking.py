"""What each system scored and costs, which meet the target, and which of those is cheapest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, quantiles

from ft_tools.evaluation.intervals.comparing import compare
from ft_tools.evaluation.intervals.comparison_verdict import (
    Paired,
    TargetVerdict,
    target_verdict,
)
from ft_tools.evaluation.intervals.one_system import mean_interval
from ft_tools.evaluation.metrics.measures import METRICS, field_scores
from ft_tools.evaluation.metrics.scoring import Scores, Settings
from ft_tools.evaluation.report import EvaluationReport, Ranked, Score, SystemResult
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import Price, SystemSpec
from ft_tools.evaluation.systems.system import Answered
from ft_tools.runs.state.directory import RUN_ID

# The metric that ranks where no target says which: what counts as a right answer, strictest first.
MAIN = (
    *("tool_call", "accuracy", "exact_match", "contains", "json_fields", "json_schema", "regex"),
    *("number", "set_f1", "token_f1", "judge", "rougeL", "json_valid"),
)


@dataclass(frozen=True)
class Measured:
    """One system with its answers and scores."""

    spec: SystemSpec
    plan: SystemPlan
    answers: list[Answered]
    scores: Scores
    whole_set: Mapping[str, float]


def main_metric(measured: Sequence[str], target: Mapping[str, float]) -> str | None:
    """Return the metric that decides: the target's first, else the strictest one."""
    named = [name for name in (*target, *MAIN) if name in measured]
    return named[0] if named else next(iter(measured), None)


def result_of(
    one: Measured, references: Sequence[str], target: Mapping[str, float], settings: Settings
) -> SystemResult:
    """Describe one system: scores with intervals, target, tokens, time, price."""
    scores = {name: _score(name, values, settings) for name, values in one.scores.items()}
    scores |= {name: Score(value=round(value, 4)) for name, value in one.whole_set.items()}
    seconds = [answer.seconds for answer in one.answers]
    n = len(one.answers)
    p95 = quantiles(seconds, n=20, method="inclusive")[-1] if n > 1 else seconds[0]
    into = sum(answer.prompt_tokens for answer in one.answers) / n
    out = sum(answer.num_tokens for answer in one.answers) / n
    fields = field_scores([answer.text for answer in one.answers], references)
    is_simple = one.spec.baseline is not None
    return SystemResult(
        name=one.spec.name,
        kind=one.plan.kind,
        model=one.plan.model.name if one.plan.model is not None else "",
        is_trained=one.plan.model is not None
        and (one.plan.model.adapter is not None or bool(RUN_ID.fullmatch(one.plan.model.name))),
        has_examples=one.spec.examples is not None and not is_simple,
        scores=scores,
        target=_verdict(scores, target) if target else None,
        fields=[round(value, 4) for value in fields.values()],
        input_tokens_mean=round(into, 1),
        output_tokens_mean=round(out, 1),
        seconds_mean=_short(fmean(seconds)),
        seconds_median=_short(median(seconds)),
        seconds_p95=_short(p95),
        cut_off_fraction=round(sum(not answer.finished for answer in one.answers) / n, 4),
        usd_per_1000_calls=0.0 if is_simple else _usd(one.spec.price, into, out, fmean(seconds)),
        num_reused=one.plan.num_reused,
        served_by=sorted({answer.served_by for answer in one.answers if answer.served_by}),
    )


def with_fresh(
    results: Sequence[SystemResult],
    metric: str,
    values: Mapping[str, Sequence[float]],
    places: Sequence[int],
    settings: Settings,
) -> list[SystemResult]:
    """Add the score of each system on the questions that resemble no learned one.

    Without any, a system that learned is not shown to meet a target: it may have remembered.
    """
    if not places:
        return [_unless_remembered(one) for one in results]
    clusters = settings.clusters
    kept = replace(settings, clusters=[clusters[i] for i in places] if clusters else None)
    return [
        one.model_copy(
            update={"fresh": _score(metric, [values[one.name][i] for i in places], kept)}
        )
        for one in results
    ]


def _unless_remembered(one: SystemResult) -> SystemResult:
    is_remembered = one.target == "met" and one.has_learned
    return one.model_copy(update={"target": "not_shown"}) if is_remembered else one


def rank(
    results: Sequence[SystemResult],
    metric: str,
    values: Mapping[str, Sequence[float]],
    settings: Settings,
    *,
    has_target: bool,
) -> list[Ranked]:
    """Order the systems that meet the target by cost, and compare each with the best.

    Args:
        results: All systems.
        metric: The main metric.
        values: Name -> the main metric of each example.
        settings: Clusters and seed.
        has_target: Rank only systems that meet it.

    Returns:
        Cheapest first: by US dollars where all prices are known, else by seconds per answer.
    """
    kept = [one for one in results if not has_target or one.target == "met"]
    if not kept:
        return []
    priced = all(one.usd_per_1000_calls is not None for one in kept)
    higher = METRICS[metric].higher_is_better
    best = (max if higher else min)(kept, key=lambda one: fmean(values[one.name]))
    against = {
        one.name: compare(
            values[best.name], values[one.name], clusters=settings.clusters, seed=settings.seed
        )
        for one in kept
        if one is not best
    }

    def cost(one: SystemResult) -> tuple[float, float]:
        usd = one.usd_per_1000_calls if priced and one.usd_per_1000_calls is not None else 0.0
        return usd, one.seconds_mean

    return [_ranked(one, against.get(one.name)) for one in sorted(kept, key=cost)]


def best_challenger(report: EvaluationReport) -> str | None:
    """Return the system other than the reference with the best main metric; None without one."""
    rows = [row for row in report.comparisons if row.metric == report.main_metric]
    if not rows:
        return None
    best = max if rows[0].higher_is_better else min
    return best(rows, key=lambda row: row.tuned).system


def _ranked(one: SystemResult, paired: Paired | None) -> Ranked:
    """Compare with the best by the interval that is shown: the cautious side is "worse"."""
    if paired is None:
        return Ranked(name=one.name, versus_best="best")
    differs = paired.low > 0 or paired.high < 0
    return Ranked(
        name=one.name,
        versus_best="worse" if differs else "not_distinguishable",
        difference=_short(paired.difference),
        ci_low=_short(paired.low),
        ci_high=_short(paired.high),
    )


def _score(name: str, values: Sequence[float], settings: Settings) -> Score:
    scale = METRICS[name].scale if name in METRICS else 1.0
    low, high = mean_interval(values, clusters=settings.clusters, scale=scale, seed=settings.seed)
    return Score(value=_short(fmean(values)), ci_low=_short(low), ci_high=_short(high))


def _verdict(scores: Mapping[str, Score], target: Mapping[str, float]) -> TargetVerdict:
    verdicts = {_one_verdict(name, scores.get(name), bound) for name, bound in target.items()}
    if "not_met" in verdicts:
        return "not_met"
    return "not_shown" if "not_shown" in verdicts else "met"


def _one_verdict(name: str, score: Score | None, bound: float) -> TargetVerdict:
    if score is None or score.ci_low is None or score.ci_high is None:
        return "not_shown"
    higher = METRICS[name].higher_is_better if name in METRICS else True
    return target_verdict(score.ci_low, score.ci_high, bound, higher_is_better=higher)


def _usd(price: Price | None, into: float, out: float, seconds: float) -> float | None:
    if price is None:
        return None
    tokens = into * price.usd_per_million_input_tokens + out * price.usd_per_million_output_tokens
    return _short(1000 * (tokens / 1e6 + seconds * price.usd_per_hour / 3600))


def _short(value: float) -> float:
    return float(f"{value:.4g}")
