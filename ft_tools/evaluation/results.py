"""From answers and scores to the rows of the report: comparisons, systems, ranking."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean, quantiles
from types import MappingProxyType
from typing import Any

from ft_tools.evaluation.report import (
    ClassScore,
    Comparison,
    Origin,
    RankedSystem,
    Score,
    StressScore,
    SystemResult,
)
from ft_tools.evaluation.systems.answers import Answer
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.metrics import answers as described
from ft_tools.metrics.means import compare, mean_interval
from ft_tools.metrics.table import METRICS, ROWS, Metric, metric
from ft_tools.metrics.text import equal_values, label, parse_json, without_thought, words
from ft_tools.metrics.verdicts import (
    ALPHA,
    PairedComparison,
    TargetVerdict,
    holm,
    target_verdict,
    verdict,
    worst_verdict,
)
from ft_tools.runs.state.directory import RUN_ID

Scores = dict[str, list[float]]
"""Metric -> a value for each example."""
PLAIN = re.compile(r"(?=.{1,40}$)\w[\w.-]*(?: [\w.&-]+)?")
"""A name of one or two words."""


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

    def score(self, row: Metric, values: Sequence[float]) -> Score:
        """Return the mean of a metric with its interval."""
        more = {"clusters": self.clusters, "is_fraction": row.is_fraction, "alpha": self.alpha}
        low, high = mean_interval(values, row.interval, **more)  # type: ignore[arg-type]
        return Score(value=fmean(values), ci_low=low, ci_high=high)

    def compare(
        self, row: Metric, before: Sequence[float], after: Sequence[float]
    ) -> PairedComparison:
        """Compare the values of a metric on the same examples."""
        more = {"clusters": self.clusters, "seed": self.seed, "alpha": self.alpha}
        return compare(before, after, row.interval, **more)  # type: ignore[arg-type]

    def claims(self, found: Sequence[tuple[Metric, PairedComparison]]) -> list[dict[str, Any]]:
        """Return the fields of each comparison with its verdict, corrected for all and looks."""
        adjusted = holm([paired.p_value for _, paired in found])
        made = []
        for (row, paired), p in zip(found, adjusted, strict=True):
            p_adjusted = min(1.0, p * self.num_claims)
            up, effect = row.higher_is_better, self.smallest_effect
            claim = verdict(paired, p_adjusted, higher_is_better=up, smallest_effect=effect)
            made.append({**vars(paired), "p_adjusted": p_adjusted, "verdict": claim})
        return made


def compare_scores(
    scores: Mapping[str, Scores],
    settings: Settings,
    rows: Mapping[str, Metric] = MappingProxyType({}),
) -> list[Comparison]:
    """Compare each system with the first; Holm's correction is over all comparisons.

    `rows` are metrics that the table lacks, such as those of benchmarks.
    """
    reference, *compared = scores
    known = [rows.get(name) or metric(name) for name in scores[reference]]
    named = [(system, row) for system in compared for row in known]
    found = [
        (row, settings.compare(row, scores[reference][row.name], scores[system][row.name]))
        for system, row in named
    ]
    made = []
    for (system, row), claim in zip(named, settings.claims(found), strict=True):
        counts = claim["num_better"], claim["num_worse"]
        if not row.sign or row.score_set is not None:
            # No example is better or worse by itself.
            counts = None, None
        claim["num_better"], claim["num_worse"] = counts if row.sign >= 0 else counts[::-1]
        about = {"system": system, "metric": row.name, "higher_is_better": row.higher_is_better}
        made.append(Comparison(**about, baseline=claim["before"], tuned=claim["after"], **claim))
    return made


@dataclass(frozen=True)
class Stressed:
    """All systems under one change of the questions."""

    change: str
    places: list[int]
    """Of the examples that it changes."""
    scores: Mapping[str, Scores]
    """System -> metric -> a value for each of these."""


@dataclass
class Measured:
    """Everything that was measured of the systems, and what they are judged by."""

    references: list[str]
    settings: Settings
    target: Mapping[str, float] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """System -> its answers; the reference is the first."""
    scores: dict[str, Scores] = field(default_factory=dict)
    stressed: list[Stressed] = field(default_factory=list)
    general: list[Comparison] = field(default_factory=list)
    benchmarks: list[Comparison] = field(default_factory=list)
    alone: dict[str, Score] = field(default_factory=dict)
    """Of a model without anything to compare with: its general ability and benchmarks."""
    fresh: list[int] | None = None
    """Places of the questions that resemble no learned one; None: none resembles one."""
    wordings: list[str] | None = None
    """Groups of all examples that resemble each other."""
    origin: Origin | None = None

    @cached_property
    def main(self) -> str:
        """Return the metric that decides: the target's first, else the strictest; empty: none."""
        measured = next(iter(self.scores.values()))
        rankable = (row.name for row in ROWS if row.is_rankable and row.sign)
        directed = (name for name in measured if metric(name).sign)
        return next((name for name in (*self.target, *rankable, *directed) if name in measured), "")

    def texts_of(self, system: str) -> list[str]:
        """Return the answers of a system without thoughts."""
        return [without_thought(one.text) for one in self.answers[system]]

    def result(self, spec: SystemSpec, plan: SystemPlan) -> SystemResult:
        """Describe one system: scores with intervals, target, tokens, time, price.

        A target is met only if it is met under each change too, on the questions that resemble no
        learned one if the system has learned from examples, and by rows that were collected.
        """
        answers, model = self.answers[plan.name], plan.model
        seconds, n = [one.seconds for one in answers], len(answers)
        texts = self.texts_of(plan.name)
        tokens_in = sum(one.prompt_tokens for one in answers) / n
        tokens_out = sum(one.num_tokens for one in answers) / n
        lengths = zip(texts, map(words, self.references), strict=True)
        ratios = [len(words(text)) / len(wanted) for text, wanted in lengths if wanted]
        usd = 0.0 if spec.baseline else None
        if spec.price is not None:
            usd = 1000 * spec.price.usd_of(tokens_in, tokens_out, fmean(seconds))
        own, decide = self.scores[plan.name], {self.main, *self.target}
        order = sorted(own, key=lambda name: name not in decide)
        scores = {name: self.settings.score(metric(name), own[name]) for name in order}
        made = SystemResult(
            name=spec.name,
            kind=plan.kind,
            model=model.name if model else "",
            is_trained=bool(model and (model.adapter or RUN_ID.fullmatch(model.name))),
            has_examples=spec.examples is not None and spec.baseline is None,
            scores=scores | self.alone,
            per_class=class_scores(texts, self.references, self.settings),
            empty_fraction=sum(not text.strip() for text in texts) / n,
            repetitive_fraction=sum(map(described.is_repetitive, texts)) / n,
            mean_length_ratio=fmean(ratios) if ratios else None,
            trivial_differences=described.trivial_differences(texts, self.references),
            input_tokens_mean=tokens_in,
            output_tokens_mean=tokens_out,
            seconds_mean=fmean(seconds),
            seconds_p95=quantiles(seconds, n=20, method="inclusive")[-1] if n > 1 else seconds[0],
            cut_off_fraction=sum(not one.finished for one in answers) / n,
            usd_per_1000_calls=usd,
            num_reused=plan.num_reused,
            served_by=sorted({one.served_by for one in answers if one.served_by}),
        )
        if not self.main:
            return made
        stress, fresh = self._stress.get(plan.name, []), None
        verdicts = [self._target(scores), *(one.target for one in stress)]
        if self.fresh is not None:
            found = self._on_fresh(plan.name)
            fresh = found.get(self.main)
            verdicts += [self._target(found)] if made.has_learned else []
        target = worst_verdict(one for one in verdicts if one) if self.target else None
        if target == "met" and self.origin in {"written", "generated"}:
            target = "not_shown"
        return made.model_copy(update={"stress": stress, "fresh": fresh, "target": target})

    def ranking(self, results: Sequence[SystemResult]) -> list[RankedSystem]:
        """Order the systems that meet the target by cost, and compare each with the best.

        Returns:
            Cheapest first: by US dollars where all prices are known, else by seconds per answer.
        """
        kept = [one for one in results if not self.target or one.target == "met"]
        if not kept or not self.main:
            return []
        has_prices = all(one.usd_per_1000_calls is not None for one in kept)
        row = metric(self.main)
        values = {one.name: self.scores[one.name][self.main] for one in kept}
        best = max(values, key=lambda name: row.sign * fmean(values[name]))

        def cost(one: SystemResult) -> tuple[float, float]:
            return (one.usd_per_1000_calls or 0.0) if has_prices else 0.0, one.seconds_mean

        def ranked(name: str) -> RankedSystem:
            if name == best:
                return RankedSystem(name=name, versus_best="best")
            paired = self.settings.compare(row, values[best], values[name])
            # By the interval that is shown: the cautious side is "worse".
            versus: Any = "worse" if paired.excludes_zero else "not_distinguishable"
            return RankedSystem(name=name, versus_best=versus, **vars(paired))

        return [ranked(one.name) for one in sorted(kept, key=cost)]

    @cached_property
    def _stress(self) -> dict[str, list[StressScore]]:
        """Return each system's score under each change, beside the plain one on the same rows."""
        row, made = metric(self.main), {name: list[StressScore]() for name in self.scores}
        cases = [(name, each) for name in self.scores for each in self.stressed]
        found = []
        for name, each in cases:
            if each.places:
                plain = self._at(name, each.places)[self.main]
                own = self.settings.at(each.places)
                found.append((row, own.compare(row, plain, each.scores[name][self.main])))
        claims = iter(self.settings.claims(found))
        for name, each in cases:
            values: dict[str, Any] = {"plain": fmean(self.scores[name][self.main])}
            if each.places:
                scores = self._scored(each.scores[name], self.settings.at(each.places))
                values = {"score": scores[self.main], "target": self._target(scores)} | next(claims)
                values["plain"] = values["before"]
            one = StressScore(change=each.change, num_changed=len(each.places), **values)
            made[name].append(one)
        return made

    def _on_fresh(self, system: str) -> dict[str, Score]:
        """Return the scores on the questions that resemble no learned one; none without such."""
        if not self.fresh:
            return {}
        grouped = replace(self.settings, clusters=self.settings.clusters or self.wordings)
        return self._scored(self._at(system, self.fresh), grouped.at(self.fresh))

    def _at(self, system: str, places: Sequence[int]) -> Scores:
        return {key: [values[i] for i in places] for key, values in self.scores[system].items()}

    def _scored(self, values: Scores, settings: Settings) -> dict[str, Score]:
        """Return the scores that decide."""
        wanted = {self.main, *self.target}
        return {key: settings.score(metric(key), values[key]) for key in wanted}

    def _target(self, scores: Mapping[str, Score]) -> TargetVerdict | None:
        """Return the verdict on all metrics of the target; None without one."""
        found: list[TargetVerdict] = []
        for name, bound in self.target.items():
            one, up = scores.get(name), metric(name).sign > 0
            if one is None or one.ci_low is None or one.ci_high is None:
                found.append("not_shown")
            else:
                found.append(target_verdict(one.ci_low, one.ci_high, bound, higher_is_better=up))
        return worst_verdict(found) if found else None


def class_scores(
    outputs: Sequence[str], references: Sequence[str], settings: Settings
) -> dict[str, ClassScore]:
    """Return for each class the fraction of its rows that are right, the lowest first.

    A class is named by its label, or key and key=value of JSON answers; by its number among the
    sorted ones if it is no plain name, which could say something.
    """
    pairs = zip(outputs, references, strict=True)
    whole: list[bool | None] = [label(output) == label(reference) for output, reference in pairs]
    answered = [parse_json(output) for output in outputs]
    found: dict[str, ClassScore] = {}

    def add(name: str, right: Sequence[bool | None], rows: Sequence[int]) -> None:
        rows = [i for i in rows if right[i] is not None]
        if rows:
            values = [float(right[i] or 0) for i in rows]
            score = settings.at(rows).score(METRICS["accuracy"], values)
            found[name] = ClassScore(**score.model_dump(), num_examples=len(rows))

    for number, (key, values) in enumerate(described.columns_of(references).items()):
        if key is None:
            column, name, right = [label(one) for one in values], "", whole
        else:
            column, name = [one.strip('"') for one in values], _plain(key, number)
            right = [_has(one, key, value) for one, value in zip(answered, values, strict=True)]
            add(name, right, range(len(column)))
        classes = sorted(set(column)) if described.has_classes(values) else ()
        for place, value in enumerate(classes):
            rows = [i for i, one in enumerate(column) if one == value]
            add("=".join(filter(None, (name, _plain(value, place)))), right, rows)
    return dict(sorted(found.items(), key=lambda one: one[1].value))


def _has(answer: Any, key: str, value: str) -> bool | None:
    """Return whether an answer has a reference's value at a key; None where there is none."""
    if not value:
        return None
    has = isinstance(answer, dict) and key in answer
    return has and equal_values(answer[key], json.loads(value))


def _plain(text: str, number: int) -> str:
    return text if PLAIN.fullmatch(text) else f"#{number}"
