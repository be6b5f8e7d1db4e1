"""From outputs to comparisons: score each example on both sides, then compare each measure."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ft_tools import facts
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.intervals.comparing import compare, compare_statistic
from ft_tools.evaluation.intervals.comparison_verdict import Paired, verdict
from ft_tools.evaluation.intervals.multiple_tests import holm
from ft_tools.evaluation.metrics import measures
from ft_tools.evaluation.metrics.choose_metrics import MEASURES
from ft_tools.evaluation.metrics.free_answers import (
    abstention,
    contains,
    number,
    refusals_of,
    set_f1,
)
from ft_tools.evaluation.metrics.measures import METRICS
from ft_tools.evaluation.report import Comparison, OutputHealth, SampleLine
from ft_tools.evaluation.systems.system import Answered

NUM_SAMPLES = 5

Rouge = Callable[[str, str], Mapping[str, float]]
"""Output and reference -> rouge1, rouge2, rougeL."""
Conforms = Callable[[str], bool]
"""Output -> whether all of it is JSON that a schema allows."""
Scores = dict[str, list[float]]
"""Metric -> a value for each example."""
Found = dict[tuple[str, str], Paired]
"""System and metric -> what the comparison with the reference found."""


@dataclass(frozen=True)
class Settings:
    """What the comparisons of a group have in common."""

    seed: int
    smallest_effect: float
    clusters: list[str] | None = None
    lower_is_better: frozenset[str] = frozenset()
    """Measures beside those of `METRICS` of which less is better."""


def score(
    chosen: Sequence[str],
    outputs: Sequence[Answered],
    references: Sequence[str],
    *,
    pattern: str | None = None,
    conforms: Conforms | None = None,
    rouge: Rouge | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    tolerance: float = 0.0,
) -> Scores:
    """Return every per-example measure that the chosen metrics stand for.

    Perplexity and the judge are measured elsewhere; macro F1 is no mean over examples.
    """
    found: Scores = {}
    functions = measures.PER_EXAMPLE | {"set_f1": set_f1}
    for metric in chosen:
        for measure in MEASURES[metric]:
            function = functions.get(measure)
            if function is not None:
                pairs = zip(outputs, references, strict=True)
                found[measure] = [function(o.text, reference) for o, reference in pairs]
    pairs_of = [(o.text, reference) for o, reference in zip(outputs, references, strict=True)]
    if "number" in chosen:
        found["number"] = [number(text, wanted, tolerance) for text, wanted in pairs_of]
    if "contains" in chosen:
        found["contains"] = [contains(o.text, row) for o, row in zip(outputs, rows, strict=True)]
    if "abstention" in chosen:
        refusals = refusals_of(rows, references)
        found["abstention"] = [
            abstention(o.text, row, refusals) for o, row in zip(outputs, rows, strict=True)
        ]
    if "regex" in chosen and pattern is not None:
        found["regex"] = [float(re.search(pattern, o.text) is not None) for o in outputs]
    if "json_schema" in chosen and conforms is not None:
        found["json_schema"] = [float(conforms(o.text)) for o in outputs]
    if "rouge" in chosen and rouge is not None:
        rows = [rouge(o.text, reference) for o, reference in zip(outputs, references, strict=True)]
        found |= {name: [row[name] for row in rows] for name in MEASURES["rouge"]}
    return found


def compare_scores(before: Scores, after: Scores, settings: Settings) -> list[Comparison]:
    """Compare every metric that both sides have; Holm's correction is over all of them."""
    measures = [name for name in before if name in after]
    found = {
        ("tuned", name): compare(
            before[name],
            after[name],
            clusters=settings.clusters,
            scale=METRICS[name].scale if name in METRICS else 1.0,
            seed=settings.seed,
        )
        for name in measures
    }
    means = {("tuned", name): (fmean(before[name]), fmean(after[name])) for name in measures}
    return assemble(found, means, settings)


def compare_macro_f1(
    before: Sequence[str], after: Sequence[str], references: Sequence[str], settings: Settings
) -> tuple[Paired, tuple[float, float]]:
    """Compare macro F1; returns the comparison and the two values."""
    wanted = [measures.label(reference) for reference in references]
    found = [[measures.label(text) for text in side] for side in (before, after)]

    def statistic(answers: Sequence[str], at: Sequence[int]) -> float:
        return measures.macro_f1_of_labels(answers, [wanted[i] for i in at])

    paired = compare_statistic(
        found[0], found[1], statistic, clusters=settings.clusters, seed=settings.seed
    )
    values = [measures.macro_f1_of_labels(side, wanted) for side in found]
    return paired, (values[0], values[1])


def assemble(
    found: Found,
    means: Mapping[tuple[str, str], tuple[float, float]],
    settings: Settings,
) -> list[Comparison]:
    """Return the comparisons with corrected p values and verdicts, in their order."""
    adjusted = holm([paired.p_value for paired in found.values()])
    return [
        _comparison(*key, paired, means[key], p, settings)
        for (key, paired), p in zip(found.items(), adjusted, strict=True)
    ]


def copied_words() -> int:
    """Return how many words in a row from the training answers are a copy, not a phrase."""
    return int(facts.number("evaluation.copied_words"))


def health(
    outputs: Sequence[Answered],
    references: Sequence[str],
    known: set[tuple[str, ...]] | None = None,
) -> OutputHealth:
    """Describe the outputs of one model.

    Args:
        outputs: One for each reference.
        references: The wanted answers; what is copied from them is no copy.
        known: Sequences of `copied_words()` words of the training answers, where those are known.
    """
    n = len(outputs)
    ratios = [
        len(measures.words(output.text)) / len(wanted)
        for output, reference in zip(outputs, references, strict=True)
        if (wanted := measures.words(reference))
    ]
    copied = None
    if known:
        size = copied_words()
        copied = sum(
            measures.longest_copy(output.text, known, size) > 0
            and measures.normalise(output.text) != measures.normalise(reference)
            for output, reference in zip(outputs, references, strict=True)
        )
    return OutputHealth(
        empty_fraction=sum(measures.is_empty(o.text) for o in outputs) / n,
        truncated_fraction=sum(not o.finished for o in outputs) / n,
        repetitive_fraction=sum(measures.is_repetitive(o.text) for o in outputs) / n,
        mean_length_ratio=round(fmean(ratios), 4) if ratios else None,
        copied_fraction=None if copied is None else copied / n,
        seconds_per_output=round(sum(o.seconds for o in outputs) / n, 4),
    )


def changed_lines(
    scores: Mapping[str, Scores],
    names: Sequence[str],
    metric: str | None,
    examples: Sequence[HeldOut],
    limit: int = NUM_SAMPLES,
) -> list[SampleLine]:
    """Return the worst regressions, then the best gains, of each system by the reference."""
    if metric is None or len(names) < 2 or metric not in scores[names[0]]:
        return []
    sign = 1.0 if metric not in METRICS or METRICS[metric].higher_is_better else -1.0
    before = scores[names[0]][metric]
    found = []
    for name in names[1:]:
        after = scores[name][metric]
        gains = [sign * (b - a) for a, b in zip(before, after, strict=True)]
        order = sorted(range(len(gains)), key=lambda i: (gains[i], i))
        worst = [i for i in order[:limit] if gains[i] < 0]
        best = [i for i in reversed(order[-limit:]) if gains[i] > 0]
        found += [
            SampleLine(
                system=name,
                line=examples[i].line,
                metric=metric,
                baseline=round(before[i], 4),
                tuned=round(after[i], 4),
            )
            for i in [*worst, *best]
        ]
    return found


def _comparison(
    system: str,
    name: str,
    paired: Paired,
    means: tuple[float, float],
    adjusted: float,
    settings: Settings,
) -> Comparison:
    row = METRICS.get(name)
    higher = row.higher_is_better if row else name not in settings.lower_is_better
    better, worse = paired.num_better, paired.num_worse
    return Comparison(
        system=system,
        metric=name,
        unit=row.unit if row else "fraction",
        higher_is_better=higher,
        baseline=_rounded(means[0]),
        tuned=_rounded(means[1]),
        difference=_rounded(paired.difference),
        ci_low=_rounded(paired.low),
        ci_high=_rounded(paired.high),
        p_value=_rounded(paired.p_value),
        p_adjusted=_rounded(adjusted),
        standard_error=_rounded(paired.standard_error),
        num_examples=paired.num_examples,
        num_better=better if higher else worse,
        num_worse=worse if higher else better,
        minimum_detectable_effect=_rounded(paired.minimum_detectable_effect),
        verdict=verdict(
            paired, adjusted, higher_is_better=higher, smallest_effect=settings.smallest_effect
        ),
        method=paired.method,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
