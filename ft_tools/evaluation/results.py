"""From answers and scores to the rows of the report: comparisons, systems, ranking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, quantiles
from types import MappingProxyType

from ft_tools.evaluation.report import Comparison, OutputHealth, RankedSystem, Score, StressScore
from ft_tools.evaluation.report import SystemResult as Result
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.evaluation.systems.system import Answer
from ft_tools.metrics import answers as described
from ft_tools.metrics.compare import compare
from ft_tools.metrics.means import mean_interval
from ft_tools.metrics.table import ROWS, Metric, metric
from ft_tools.metrics.text import words
from ft_tools.metrics.verdicts import (
    ALPHA,
    PairedComparison,
    TargetVerdict,
    Verdict,
    holm,
    target_verdict,
    verdict,
    worst_verdict,
)
from ft_tools.runs.state.directory import RUN_ID

Scores = dict[str, list[float]]
"""Metric -> a value for each example."""


@dataclass(frozen=True)
class Settings:
    """What the comparisons of a group have in common."""

    seed: int
    smallest_effect: float
    clusters: list[str] | None = None
    looks: int = 1
    """At these rows, this one too: intervals have to hold for the best of them."""

    @property
    def num_claims(self) -> int:
        """Return what the looks tell: the score of each, and whether it is the best so far."""
        return 2 * self.looks - 1

    @property
    def alpha(self) -> float:
        """Return how often an interval may miss (Bonferroni)."""
        return ALPHA / self.num_claims

    def at(self, places: Sequence[int]) -> "Settings":
        """Return the settings for some of the examples."""
        clusters = self.clusters
        return replace(self, clusters=[clusters[i] for i in places] if clusters else None)

    def compare(
        self, row: Metric, before: Sequence[float], after: Sequence[float]
    ) -> PairedComparison:
        """Compare the values of a metric on the same examples."""
        return compare(
            before,
            after,
            row.interval,
            clusters=self.clusters,
            span=row.span,
            seed=self.seed,
            alpha=self.alpha,
        )

    def score(self, row: Metric, values: Sequence[float]) -> Score:
        """Return the mean of a metric with its interval."""
        ends = mean_interval(
            values,
            row.interval,
            clusters=self.clusters,
            low=row.low,
            high=row.high,
            alpha=self.alpha,
        )
        low, high = (_rounded(end, 4) for end in ends)
        return Score(value=_rounded(fmean(values), 4), ci_low=low, ci_high=high)


@dataclass(frozen=True)
class StressedSystems:
    """All systems under one change of the questions."""

    change: str
    places: list[int]
    """Of the examples that it changes."""
    scores: Mapping[str, Scores]
    """System -> metric -> a value for each of these."""


def compare_scores(
    scores: Mapping[str, Scores],
    settings: Settings,
    rows: Mapping[str, Metric] = MappingProxyType({}),
) -> list[Comparison]:
    """Compare each system with the first; Holm's correction is over all comparisons.

    Args:
        scores: System -> metric -> a value for each example.
        settings: Of the comparisons.
        rows: Metrics that the table lacks, such as those of benchmarks.
    """
    reference, *compared = scores
    known = {one: rows.get(one) or metric(one) for own in scores.values() for one in own}
    found = {
        (name, one): settings.compare(known[one], before, scores[name][one])
        for name in compared
        for one, before in scores[reference].items()
    }
    adjusted = _adjusted(list(found.values()), settings)
    return [
        _comparison(system, known[name], one, p, settings)
        for ((system, name), one), p in zip(found.items(), adjusted, strict=True)
    ]


def main_metric(measured: Sequence[str], target: Mapping[str, float]) -> str | None:
    """Return the metric that decides: the target's first, else the strictest that was measured."""
    rankable = (row.name for row in ROWS if row.is_rankable and row.sign)
    directed = (name for name in measured if metric(name).sign)
    return next((name for name in (*target, *rankable, *directed) if name in measured), None)


def system_result(
    spec: SystemSpec,
    plan: SystemPlan,
    answers: Sequence[Answer],
    scores: Mapping[str, Score],
    references: Sequence[str],
    target: Mapping[str, float],
) -> Result:
    """Describe one system: scores with intervals, target, tokens, time, price."""
    seconds = [answer.seconds for answer in answers]
    n = len(answers)
    p95 = quantiles(seconds, n=20, method="inclusive")[-1] if n > 1 else seconds[0]
    tokens_in = sum(answer.prompt_tokens for answer in answers) / n
    tokens_out = sum(answer.num_tokens for answer in answers) / n
    fields = described.field_scores([answer.text for answer in answers], references)
    price, model = spec.price, plan.model
    usd = None if price is None else 1000 * price.usd_of(tokens_in, tokens_out, fmean(seconds))
    if spec.baseline is not None:
        usd = 0.0
    return Result(
        name=spec.name,
        kind=plan.kind,
        model=model.name if model is not None else "",
        is_trained=model is not None
        and (model.adapter is not None or bool(RUN_ID.fullmatch(model.name))),
        has_examples=spec.examples is not None and spec.baseline is None,
        scores=dict(scores),
        target=_target_of(scores, target),
        fields=[round(value, 4) for value in fields.values()],
        input_tokens_mean=round(tokens_in, 1),
        output_tokens_mean=round(tokens_out, 1),
        seconds_mean=_rounded(fmean(seconds), 4),
        seconds_median=_rounded(median(seconds), 4),
        seconds_p95=_rounded(p95, 4),
        cut_off_fraction=round(sum(not answer.finished for answer in answers) / n, 4),
        usd_per_1000_calls=None if usd is None else _rounded(usd, 4),
        num_reused=plan.num_reused,
        served_by=sorted({answer.served_by for answer in answers if answer.served_by}),
    )


def with_fresh(
    results: Sequence[Result],
    name: str,
    scores: Mapping[str, Scores],
    places: Sequence[int],
    settings: Settings,
    target: Mapping[str, float],
) -> list[Result]:
    """Add the score of each system on the questions that resemble no learned one.

    A system that learned meets the target only if it does so on these, too: it may have remembered
    the others.

    Args:
        results: All systems.
        name: The main metric.
        scores: System -> metric -> a value for each example.
        places: Of those questions; empty: there is none, and no such system meets the target.
        settings: Of all examples.
        target: Metric -> needed value.
    """
    found = []
    for one in results:
        update: dict[str, object] = {}
        learned: TargetVerdict | None = "not_shown" if target else None
        if places:
            own = {
                key: settings.at(places).score(
                    metric(key), [scores[one.name][key][i] for i in places]
                )
                for key in {name, *target}
            }
            update["fresh"], learned = own[name], _target_of(own, target)
        if one.has_learned:
            update["target"] = _worst(one.target, learned)
        found.append(one.model_copy(update=update))
    return found


def with_stress(
    results: Sequence[Result],
    name: str,
    scores: Mapping[str, Scores],
    stressed: Sequence[StressedSystems],
    settings: Settings,
    target: Mapping[str, float],
) -> list[Result]:
    """Add the score of each system under each change; the target has to be met under all of them.

    Args:
        results: All systems.
        name: The main metric.
        scores: System -> metric -> a value for each example, as it is.
        stressed: The changes.
        settings: Of all examples.
        target: Metric -> needed value.
    """
    row = metric(name)
    compared: dict[tuple[str, str], PairedComparison] = {}
    for change in stressed:
        for one in results if change.places else ():
            plain = [scores[one.name][name][i] for i in change.places]
            found = settings.at(change.places).compare(row, plain, change.scores[one.name][name])
            compared[one.name, change.change] = found
    adjusted = dict(zip(compared, _adjusted(list(compared.values()), settings), strict=True))

    def row_of(one: Result, change: StressedSystems) -> StressScore:
        key = (one.name, change.change)
        if key not in compared:
            return StressScore(change=change.change, num_changed=0, plain=one.scores[name].value)
        paired, own = compared[key], settings.at(change.places)
        after = {k: own.score(metric(k), change.scores[one.name][k]) for k in {name, *target}}
        return StressScore(
            change=change.change,
            num_changed=len(change.places),
            plain=_rounded(paired.before, 4),
            score=after[name],
            difference=_rounded(paired.difference, 4),
            ci_low=_rounded(paired.low, 4),
            ci_high=_rounded(paired.high, 4),
            p_adjusted=_rounded(adjusted[key], 4),
            verdict=_verdict(paired, adjusted[key], row, settings),
            target=_target_of(after, target),
        )

    rows = {one.name: [row_of(one, change) for change in stressed] for one in results}
    return [
        one.model_copy(
            update={
                "stress": rows[one.name],
                "target": _worst(one.target, *(each.target for each in rows[one.name])),
            }
        )
        for one in results
    ]


def rank(
    results: Sequence[Result],
    name: str,
    scores: Mapping[str, Scores],
    settings: Settings,
    *,
    has_target: bool,
) -> list[RankedSystem]:
    """Order the systems that meet the target by cost, and compare each with the best.

    Returns:
        Cheapest first: by US dollars where all prices are known, else by seconds per answer.
    """
    kept = [one for one in results if not has_target or one.target == "met"]
    if not kept:
        return []
    has_prices = all(one.usd_per_1000_calls is not None for one in kept)
    row, values = metric(name), {one.name: scores[one.name][name] for one in kept}
    best = max(kept, key=lambda one: row.sign * fmean(values[one.name]))

    def cost(one: Result) -> tuple[float, float]:
        return (one.usd_per_1000_calls or 0.0) if has_prices else 0.0, one.seconds_mean

    def ranked(one: Result) -> RankedSystem:
        if one is best:
            return RankedSystem(name=one.name, versus_best="best")
        paired = settings.compare(row, values[best.name], values[one.name])
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


def _adjusted(found: Sequence[PairedComparison], settings: Settings) -> list[float]:
    """Return p values that hold for several comparisons and all looks."""
    return [min(1.0, p * settings.num_claims) for p in holm([one.p_value for one in found])]


def _verdict(paired: PairedComparison, p: float, row: Metric, settings: Settings) -> Verdict:
    return verdict(
        paired,
        p,
        higher_is_better=row.higher_is_better,
        smallest_effect=settings.smallest_effect,
    )


def _target_of(scores: Mapping[str, Score], target: Mapping[str, float]) -> TargetVerdict | None:
    """Return the verdict on all metrics of a target; None without one."""
    found: list[TargetVerdict] = []
    for name, bound in target.items():
        low, high, higher = scores[name].ci_low, scores[name].ci_high, metric(name).sign > 0
        if low is None or high is None:
            found.append("not_shown")
        else:
            found.append(target_verdict(low, high, bound, higher_is_better=higher))
    return worst_verdict(found) if found else None


def _worst(*verdicts: TargetVerdict | None) -> TargetVerdict | None:
    known = [one for one in verdicts if one is not None]
    return worst_verdict(known) if known else None


def _comparison(
    system: str, row: Metric, paired: PairedComparison, adjusted: float, settings: Settings
) -> Comparison:
    better, worse = paired.num_better, paired.num_worse
    if row.sign < 0:
        better, worse = worse, better
    return Comparison(
        system=system,
        metric=row.name,
        unit=row.unit,
        higher_is_better=row.higher_is_better,
        baseline=_rounded(paired.before),
        tuned=_rounded(paired.after),
        difference=_rounded(paired.difference),
        ci_low=_rounded(paired.low),
        ci_high=_rounded(paired.high),
        p_value=_rounded(paired.p_value),
        p_adjusted=_rounded(adjusted),
        standard_error=_rounded(paired.standard_error),
        num_examples=paired.num_examples,
        num_better=better if row.sign and row.score_set is None else None,
        num_worse=worse if row.sign and row.score_set is None else None,
        minimum_detectable_effect=_rounded(paired.minimum_detectable_effect),
        verdict=_verdict(paired, adjusted, row, settings),
        method=paired.method,
    )


def _rounded(value: float, digits: int = 6) -> float:
    return float(f"{value:.{digits}g}")
