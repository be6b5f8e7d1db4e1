"""From answers and scores to the rows of the report: comparisons, systems, ranking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, quantiles
from types import MappingProxyType

from ft_tools.evaluation.report import Comparison, RankedSystem, Score, StressScore
from ft_tools.evaluation.report import SystemResult as Result
from ft_tools.evaluation.systems.answers import Answer
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.metrics import answers as described
from ft_tools.metrics.means import compare, mean_interval
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
            seed=self.seed,
            alpha=self.alpha,
        )

    def score(self, row: Metric, values: Sequence[float]) -> Score:
        """Return the mean of a metric with its interval."""
        ends = mean_interval(
            values,
            row.interval,
            clusters=self.clusters,
            is_fraction=row.is_fraction,
            alpha=self.alpha,
        )
        return Score(value=fmean(values), ci_low=ends[0], ci_high=ends[1])


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


def _comparison(
    system: str, row: Metric, paired: PairedComparison, adjusted: float, settings: Settings
) -> Comparison:
    counts = [paired.num_better, paired.num_worse][:: 1 if row.sign > 0 else -1]
    better, worse = counts if row.sign and row.score_set is None else (None, None)
    return Comparison(
        system=system,
        metric=row.name,
        higher_is_better=row.higher_is_better,
        baseline=paired.before,
        tuned=paired.after,
        difference=paired.difference,
        ci_low=paired.low,
        ci_high=paired.high,
        p_value=paired.p_value,
        p_adjusted=adjusted,
        num_examples=paired.num_examples,
        num_better=better,
        num_worse=worse,
        minimum_detectable_effect=paired.minimum_detectable_effect,
        verdict=_verdict(paired, adjusted, row, settings),
    )


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
    texts = [answer.text for answer in answers]
    ratios = [
        len(words(text)) / len(wanted)
        for text, reference in zip(texts, references, strict=True)
        if (wanted := words(reference))
    ]
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
        target=target_of(scores, target),
        empty_fraction=sum(map(described.is_empty, texts)) / n,
        repetitive_fraction=sum(map(described.is_repetitive, texts)) / n,
        mean_length_ratio=fmean(ratios) if ratios else None,
        trivial_differences=described.trivial_differences(texts, references),
        input_tokens_mean=tokens_in,
        output_tokens_mean=tokens_out,
        seconds_mean=fmean(seconds),
        seconds_median=median(seconds),
        seconds_p95=p95,
        cut_off_fraction=sum(not answer.finished for answer in answers) / n,
        usd_per_1000_calls=usd,
        num_reused=plan.num_reused,
        served_by=sorted({answer.served_by for answer in answers if answer.served_by}),
    )


@dataclass(frozen=True)
class Claims:
    """What all systems are judged by."""

    metric: str
    """The main one."""
    target: Mapping[str, float]
    scores: Mapping[str, Scores]
    """System -> metric -> a value for each example."""
    settings: Settings

    def with_fresh(
        self, results: Sequence[Result], places: Sequence[int], groups: list[str] | None
    ) -> list[Result]:
        """Add the scores on the questions that resemble no learned one.

        A system that learned meets the target only if it does so on these, too: it may have
        remembered the others.

        Args:
            results: All systems.
            places: Of those questions; empty: no system that learned meets the target.
            groups: Of all examples that resemble each other.
        """
        settings = replace(self.settings, clusters=self.settings.clusters or groups).at(places)
        found = []
        for one in results:
            own = self._scores(self._at(one.name, places), settings) if places else {}
            learned: TargetVerdict | None = "not_shown" if self.target else None
            verdict = target_of(own, self.target) if places else learned
            worst = _worst(one.target, verdict) if one.has_learned else one.target
            found.append(one.model_copy(update={"fresh": own.get(self.metric), "target": worst}))
        return found

    def with_stress(
        self, results: Sequence[Result], stressed: Sequence[StressedSystems]
    ) -> list[Result]:
        """Add the scores under each change; the target has to be met under all of them."""
        row = metric(self.metric)
        compared = {
            (one.name, each.change): self.settings.at(each.places).compare(
                row,
                self._at(one.name, each.places)[self.metric],
                each.scores[one.name][self.metric],
            )
            for each in stressed
            for one in results
            if each.places
        }
        adjusted = dict(zip(compared, _adjusted([*compared.values()], self.settings), strict=True))

        def under(one: Result, each: StressedSystems) -> StressScore:
            key = (one.name, each.change)
            if key not in compared:
                plain = one.scores[self.metric].value
                return StressScore(change=each.change, num_changed=0, plain=plain)
            paired = compared[key]
            after = self._scores(each.scores[one.name], self.settings.at(each.places))
            return StressScore(
                change=each.change,
                num_changed=len(each.places),
                plain=paired.before,
                score=after[self.metric],
                difference=paired.difference,
                ci_low=paired.low,
                ci_high=paired.high,
                p_adjusted=adjusted[key],
                verdict=_verdict(paired, adjusted[key], row, self.settings),
                target=target_of(after, self.target),
            )

        found = []
        for one in results:
            rows = [under(one, each) for each in stressed]
            worst = _worst(one.target, *(each.target for each in rows))
            found.append(one.model_copy(update={"stress": rows, "target": worst}))
        return found

    def ranking(self, results: Sequence[Result]) -> list[RankedSystem]:
        """Order the systems that meet the target by cost, and compare each with the best.

        Returns:
            Cheapest first: by US dollars where all prices are known, else by seconds per answer.
        """
        kept = [one for one in results if not self.target or one.target == "met"]
        if not kept:
            return []
        has_prices = all(one.usd_per_1000_calls is not None for one in kept)
        row = metric(self.metric)
        values = {one.name: self.scores[one.name][self.metric] for one in kept}
        best = max(kept, key=lambda one: row.sign * fmean(values[one.name]))

        def cost(one: Result) -> tuple[float, float]:
            return (one.usd_per_1000_calls or 0.0) if has_prices else 0.0, one.seconds_mean

        def ranked(one: Result) -> RankedSystem:
            if one is best:
                return RankedSystem(name=one.name, versus_best="best")
            paired = self.settings.compare(row, values[best.name], values[one.name])
            # By the interval that is shown: the cautious side is "worse".
            differs = paired.low > 0 or paired.high < 0
            return RankedSystem(
                name=one.name,
                versus_best="worse" if differs else "not_distinguishable",
                difference=paired.difference,
                ci_low=paired.low,
                ci_high=paired.high,
            )

        return [ranked(one) for one in sorted(kept, key=cost)]

    def _at(self, system: str, places: Sequence[int]) -> Scores:
        wanted = {self.metric, *self.target}
        return {key: [self.scores[system][key][i] for i in places] for key in wanted}

    def _scores(self, values: Scores, settings: Settings) -> dict[str, Score]:
        wanted = {self.metric, *self.target}
        return {key: settings.score(metric(key), values[key]) for key in wanted}


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


def target_of(scores: Mapping[str, Score], target: Mapping[str, float]) -> TargetVerdict | None:
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
