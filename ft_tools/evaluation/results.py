"""From answers and scores to the rows of the report: comparisons, systems, ranking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, quantiles

from ft_tools.evaluation.report import Comparison, OutputHealth, RankedSystem, Score
from ft_tools.evaluation.report import SystemResult as Result
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.evaluation.systems.system import Answer
from ft_tools.metrics import answers as described
from ft_tools.metrics.compare import compare
from ft_tools.metrics.means import mean_interval
from ft_tools.metrics.table import METRICS, ROWS, Metric, metric
from ft_tools.metrics.text import words
from ft_tools.metrics.verdicts import PairedComparison, TargetVerdict, holm, target_verdict, verdict
from ft_tools.runs.state.directory import RUN_ID

Scores = dict[str, list[float]]
"""Metric -> a value for each example."""
Rows = Mapping[str, Metric]


@dataclass(frozen=True)
class Settings:
    """What the comparisons of a group have in common."""

    seed: int
    smallest_effect: float
    clusters: list[str] | None = None

    def at(self, places: Sequence[int]) -> "Settings":
        """Return the settings for some of the examples."""
        clusters = self.clusters
        return replace(self, clusters=[clusters[i] for i in places] if clusters else None)


@dataclass(frozen=True)
class MetricComparison:
    """A comparison of one metric, with the values of both sides."""

    paired: PairedComparison
    before: float
    after: float


@dataclass(frozen=True)
class MeasuredSystem:
    """One system with its answers and scores."""

    spec: SystemSpec
    plan: SystemPlan
    answers: list[Answer]
    scores: Scores
    whole_set: Mapping[str, float]


def compare_scores(
    scores: Mapping[str, Scores],
    settings: Settings,
    rows: Rows = METRICS,
    others: Mapping[tuple[str, str], MetricComparison] | None = None,
) -> list[Comparison]:
    """Compare each system with the first; Holm's correction is over all comparisons.

    Args:
        scores: System -> metric -> a value for each example.
        settings: Of the comparisons.
        rows: The metrics.
        others: System and metric -> what was compared otherwise.
    """
    reference, *compared = scores
    found: dict[tuple[str, str], MetricComparison] = {}
    for name in compared:
        for one, before in scores[reference].items():
            after, row = scores[name][one], rows[one]
            paired = compare(
                before,
                after,
                row.interval,
                clusters=settings.clusters,
                span=row.span,
                seed=settings.seed,
            )
            found[name, one] = MetricComparison(paired, fmean(before), fmean(after))
    found |= others or {}
    adjusted = holm([one.paired.p_value for one in found.values()])
    return [
        _comparison(system, rows[name], one, p, settings)
        for ((system, name), one), p in zip(found.items(), adjusted, strict=True)
    ]


def main_metric(measured: Sequence[str], target: Mapping[str, float]) -> str | None:
    """Return the metric that decides: the target's first, else the strictest that was measured."""
    rankable = (row.name for row in ROWS if row.is_rankable and row.sign)
    directed = (name for name in measured if metric(name).sign)
    return next((name for name in (*target, *rankable, *directed) if name in measured), None)


def system_result(
    one: MeasuredSystem, references: Sequence[str], target: Mapping[str, float], settings: Settings
) -> Result:
    """Describe one system: scores with intervals, target, tokens, time, price."""
    scores = {name: score_of(metric(name), v, settings) for name, v in one.scores.items()}
    scores |= {name: Score(value=round(value, 4)) for name, value in one.whole_set.items()}
    seconds = [answer.seconds for answer in one.answers]
    n = len(one.answers)
    p95 = quantiles(seconds, n=20, method="inclusive")[-1] if n > 1 else seconds[0]
    tokens_in = sum(answer.prompt_tokens for answer in one.answers) / n
    tokens_out = sum(answer.num_tokens for answer in one.answers) / n
    fields = described.field_scores([answer.text for answer in one.answers], references)
    price, model = one.spec.price, one.plan.model
    usd = None if price is None else 1000 * price.usd_of(tokens_in, tokens_out, fmean(seconds))
    if one.spec.baseline is not None:
        usd = 0.0
    return Result(
        name=one.spec.name,
        kind=one.plan.kind,
        model=model.name if model is not None else "",
        is_trained=model is not None
        and (model.adapter is not None or bool(RUN_ID.fullmatch(model.name))),
        has_examples=one.spec.examples is not None and one.spec.baseline is None,
        scores=scores,
        target=_target(scores, target) if target else None,
        fields=[round(value, 4) for value in fields.values()],
        input_tokens_mean=round(tokens_in, 1),
        output_tokens_mean=round(tokens_out, 1),
        seconds_mean=_rounded(fmean(seconds), 4),
        seconds_median=_rounded(median(seconds), 4),
        seconds_p95=_rounded(p95, 4),
        cut_off_fraction=round(sum(not answer.finished for answer in one.answers) / n, 4),
        usd_per_1000_calls=None if usd is None else _rounded(usd, 4),
        num_reused=one.plan.num_reused,
        served_by=sorted({answer.served_by for answer in one.answers if answer.served_by}),
    )


def with_fresh(
    results: Sequence[Result],
    name: str,
    values: Mapping[str, Sequence[float]],
    places: Sequence[int],
    settings: Settings,
    bound: float | None = None,
) -> list[Result]:
    """Add the score of each system on the questions that resemble no learned one.

    Without any, or where it misses the target on them, a system that learned is not shown to meet
    the target: it may have remembered.

    Args:
        results: All systems.
        name: The main metric.
        values: System -> the main metric of each example.
        places: Of those questions.
        settings: Clusters and seed.
        bound: The main metric's target; None: there is none.
    """
    if not places:
        return [
            one.model_copy(update={"target": "not_shown"})
            if one.target == "met" and one.has_learned
            else one
            for one in results
        ]
    kept, row = settings.at(places), metric(name)
    found = []
    for one in results:
        fresh = score_of(row, [values[one.name][i] for i in places], kept)
        found.append(one.model_copy(update={"fresh": fresh}))
        is_missed = bound is not None and _one_target(name, fresh, bound) == "not_met"
        if is_missed and one.has_learned and one.target == "met":
            found[-1] = found[-1].model_copy(update={"target": "not_shown"})
    return found


def rank(
    results: Sequence[Result],
    name: str,
    values: Mapping[str, Sequence[float]],
    settings: Settings,
    *,
    has_target: bool,
) -> list[RankedSystem]:
    """Order the systems that meet the target by cost, and compare each with the best.

    Args:
        results: All systems.
        name: The main metric.
        values: System -> the main metric of each example.
        settings: Clusters and seed.
        has_target: Rank only systems that meet it.

    Returns:
        Cheapest first: by US dollars where all prices are known, else by seconds per answer.
    """
    kept = [one for one in results if not has_target or one.target == "met"]
    if not kept:
        return []
    has_prices = all(one.usd_per_1000_calls is not None for one in kept)
    row = metric(name)
    best = max(kept, key=lambda one: row.sign * fmean(values[one.name]))

    def cost(one: Result) -> tuple[float, float]:
        return (one.usd_per_1000_calls or 0.0) if has_prices else 0.0, one.seconds_mean

    def ranked(one: Result) -> RankedSystem:
        if one is best:
            return RankedSystem(name=one.name, versus_best="best")
        before, after = values[best.name], values[one.name]
        paired = compare(
            before, after, row.interval, clusters=settings.clusters, seed=settings.seed
        )
        # By the interval that is shown: the cautious side is "worse".
        differs = paired.low > 0 or paired.high < 0
        return RankedSystem(
            name=one.name,
            versus_best="worse" if differs else "not_distinguishable",
            difference=_rounded(paired.difference, 4),
            ci_low=_rounded(paired.low, 4),
            ci_high=_rounded(paired.high, 4),
        )

    return [ranked(one) for one in sorted(kept, key=cost)]


def output_health(outputs: Sequence[Answer], references: Sequence[str]) -> OutputHealth:
    """Describe the outputs of one system."""
    n, texts = len(outputs), [output.text for output in outputs]
    ratios = [
        len(words(text)) / len(wanted)
        for text, reference in zip(texts, references, strict=True)
        if (wanted := words(reference))
    ]
    return OutputHealth(
        empty_fraction=sum(map(described.is_empty, texts)) / n,
        truncated_fraction=sum(not output.finished for output in outputs) / n,
        repetitive_fraction=sum(map(described.is_repetitive, texts)) / n,
        mean_length_ratio=round(fmean(ratios), 4) if ratios else None,
        seconds_per_output=round(sum(output.seconds for output in outputs) / n, 4),
        trivial_differences=described.trivial_differences(texts, references),
    )


def score_of(row: Metric, values: Sequence[float], settings: Settings) -> Score:
    """Return the mean of a metric with its interval."""
    low, high = mean_interval(
        values,
        row.interval,
        clusters=settings.clusters,
        low=row.low,
        high=row.high,
        seed=settings.seed,
    )
    ends = {"ci_low": _rounded(low, 4), "ci_high": _rounded(high, 4)}
    return Score(value=_rounded(fmean(values), 4), **ends)


def _target(scores: Mapping[str, Score], target: Mapping[str, float]) -> TargetVerdict:
    verdicts = {_one_target(name, scores[name], bound) for name, bound in target.items()}
    if "not_met" in verdicts:
        return "not_met"
    return "not_shown" if "not_shown" in verdicts else "met"


def _one_target(name: str, score: Score, bound: float) -> TargetVerdict:
    if score.ci_low is None or score.ci_high is None:
        return "not_shown"
    higher = metric(name).sign > 0
    return target_verdict(score.ci_low, score.ci_high, bound, higher_is_better=higher)


def _comparison(
    system: str, row: Metric, found: MetricComparison, adjusted: float, settings: Settings
) -> Comparison:
    paired = found.paired
    better, worse = paired.num_better, paired.num_worse
    if row.sign < 0:
        better, worse = worse, better
    return Comparison(
        system=system,
        metric=row.name,
        unit=row.unit,
        higher_is_better=row.higher_is_better,
        baseline=_rounded(found.before),
        tuned=_rounded(found.after),
        difference=_rounded(paired.difference),
        ci_low=_rounded(paired.low),
        ci_high=_rounded(paired.high),
        p_value=_rounded(paired.p_value),
        p_adjusted=_rounded(adjusted),
        standard_error=_rounded(paired.standard_error),
        num_examples=paired.num_examples,
        num_better=better if row.sign else None,
        num_worse=worse if row.sign else None,
        minimum_detectable_effect=_rounded(paired.minimum_detectable_effect),
        verdict=verdict(
            paired,
            adjusted,
            higher_is_better=row.higher_is_better,
            smallest_effect=settings.smallest_effect,
        ),
        method=paired.method,
    )


def _rounded(value: float, digits: int = 6) -> float:
    return float(f"{value:.{digits}g}")
