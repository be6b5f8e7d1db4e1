"""The page of an evaluation: verdict, systems, intervals drawn, texts compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ft_tools.evaluation.report import Comparison, EvaluationReport, StressScore, SystemResult
from ft_tools.metrics.answers import OTHER
from ft_tools.views.charts import interval_chart
from ft_tools.views.page import (
    Cell,
    Part,
    badge,
    by_column,
    changed_words,
    key_values,
    note,
    page,
    side_by_side,
    table,
)

TONES = {
    **dict.fromkeys(("improved", "met"), "good"),
    **dict.fromkeys(("regressed", "not_met"), "bad"),
    **dict.fromkeys(("underpowered", "not_confirmed", "not_shown"), "warn"),
}
SIDES = {
    True: "above zero is better",
    False: "below zero is better",
    None: "neither side is better",
}
OUTPUTS = {
    "empty_fraction": "empty",
    "cut_off_fraction": "cut off at max_new_tokens",
    "repetitive_fraction": "stuck in a loop",
    "mean_length_ratio": "length relative to the reference",
}
DETECTABLE = (
    "p is Holm-corrected for the number of metrics. Detectable: the true change that this "
    "evaluation would detect in 4 of 5 repetitions."
)
UNDERLINED = (
    "Underlined: words that differ from the reference; nothing is underlined in answers that "
    "differ entirely."
)
Confusion = Mapping[str, Mapping[str, int]]
"""Reference's class -> answer's class: count."""
MAX_SAMPLES = 60
MAX_CHARACTERS = 4000


@dataclass(frozen=True)
class Sample:
    """An example with every system's output.

    `change` is the gain of the best system over the reference, negative for a loss.
    """

    line: int
    prompt: str
    reference: str
    answers: Mapping[str, str]
    """System -> output, the reference first."""
    change: float


def document(
    report: EvaluationReport,
    samples: Sequence[Sample],
    confusion: Mapping[str, Confusion] = MappingProxyType({}),
) -> str:
    """Return the whole page; samples come with the worst regressions first."""
    shown = _ordered(samples)
    shows_systems = bool(report.systems and report.main_metric)
    outputs: dict[str, dict[str, Cell]] = {
        one.name: {words: getattr(one, key) for key, words in OUTPUTS.items()}
        for one in report.systems
    }
    worse = any(sample.change < 0 for sample in samples)
    count = f"{len(shown)} of {len(samples)} examples; samples.jsonl has all. {UNDERLINED}"
    return page(
        f"Evaluation of {report.tuned}",
        {
            "Details": _details(report),
            "Systems": systems_table(report) if shows_systems else "",
            "Under changes of the questions": _stress(report),
            "Held-out examples": _group("Held-out examples", report.comparisons),
            "Benchmarks": _group("Benchmarks", report.benchmarks),
            "General ability": _group("General ability", report.general_ability),
            "Classes": _classes(report, confusion),
            "Outputs": by_column(outputs),
            f"Samples{', worst regressions first' if worse else ''}": [
                *([note(count)] if samples else []),
                *map(_sample, shown),
            ],
        },
        lead=report.summary[-1 if report.compares_systems else 0],
        picture=systems_chart(report) if shows_systems else "",
        example=_sample(shown[0]) if samples else "",
        subtitle="" if report.alone else f"Compared with {report.baseline}",
    )


def systems_chart(report: EvaluationReport) -> Part:
    """Draw quality with its interval, the cheapest system first."""
    metric = report.main_metric
    has_prices = all(one.usd_per_1000_calls is not None for one in report.systems)

    def cost(one: SystemResult) -> float:
        return (one.usd_per_1000_calls or 0.0) if has_prices else one.seconds_mean

    def label(one: SystemResult) -> str:
        if has_prices:
            return f"{one.name}, {cost(one):.3g} USD per 1,000 calls"
        return f"{one.name}, {_seconds(cost(one))} s per answer"

    rows = [
        (label(one), score.ci_low, score.value, score.ci_high)
        for one in sorted(report.systems, key=cost)
        if (score := one.scores[metric]).ci_low is not None
    ]
    title = f"{metric} by system, the cheapest first"
    return interval_chart(rows, title=title, x_label=metric, differences=False)


def systems_table(report: EvaluationReport) -> Part:
    """Return the table of the systems, in the order of the request."""
    metric = report.main_metric
    columns: dict[str, Callable[[SystemResult], Cell]] = {
        "system": lambda one: one.name,
        "target": lambda one: _verdict(one.target or "not_shown"),
        f"{metric} [95% interval]": lambda one: one.scores[metric].words,
        "tokens in, out": lambda one: f"{one.input_tokens_mean:.0f}, {one.output_tokens_mean:.0f}",
        "seconds, 95th percentile": lambda one: (
            f"{_seconds(one.seconds_mean)}, {_seconds(one.seconds_p95)}"
        ),
        "cut off": lambda one: one.cut_off_fraction,
        "USD per 1,000 calls": lambda one: (
            "no price" if one.usd_per_1000_calls is None else one.usd_per_1000_calls
        ),
    }
    if not report.target:
        del columns["target"]
    # Simple ones cost nothing, which is no price to compare.
    if not any(one.usd_per_1000_calls for one in report.systems):
        del columns["USD per 1,000 calls"]
    rows = [[of(one) for of in columns.values()] for one in report.systems]
    return table([*columns], rows, about="Means per answer; of a batch, its share of the time.")


def _details(report: EvaluationReport) -> Part:
    facts: dict[str, Cell] = {"model": report.tuned}
    if not report.alone:
        facts = {"reference": report.baseline, "compared": report.tuned}
    if (overlap := report.contamination) is not None:
        facts["held-out questions in the training data"] = (
            f"{overlap.num_exact} exact, {overlap.num_near} near copies"
            if overlap.checked_against or overlap.learned_from
            else "not checked: the training data is unknown"
        )
    facts |= {"rows come from": report.origin} if report.origin else {}
    facts["look at these rows"] = report.look
    return [*report.summary, key_values(facts), *map(note, report.notes)]


def _differences(
    title: str, rows: Sequence[tuple[str, Comparison | StressScore]], x_label: str
) -> Part:
    """Draw differences with their intervals."""
    drawn = [(name, row.ci_low, row.difference, row.ci_high) for name, row in rows]
    return interval_chart(drawn, title=f"{title}, 95% interval", x_label=x_label)


def _stress(report: EvaluationReport) -> Part:
    """Return each system's score under each change beside its plain score."""
    found = [(system.name, one) for system in report.systems for one in system.stress if one.score]
    cells: list[list[Cell]] = [
        [
            *(name, one.change, one.num_changed, one.plain),
            *(one.score.words if one.score else "", _verdict(one.verdict or "not_shown")),
        ]
        for name, one in found
    ]
    title = f"{report.main_metric}: difference from the plain questions"
    named = [(f"{name}: {one.change}", one) for name, one in found]
    headers = ["system", "change", "rows changed", "plain", "changed", "verdict"]
    return [_differences(title, named, report.main_metric), table(headers, cells)]


def _group(title: str, rows: Sequence[Comparison]) -> Part:
    several = len({row.system for row in rows}) > 1
    named = [(f"{row.system}: {row.metric}" if several else row.metric, row) for row in rows]
    title = f"{title}: difference from the reference"
    charts = [
        _differences(title, [pair for pair in named if pair[1].higher_is_better == up], SIDES[up])
        for up in dict.fromkeys(row.higher_is_better for row in rows)
    ]
    cells: list[list[Cell]] = [
        [
            *(name, _verdict(row.verdict), f"{row.p_adjusted:.3f}", row.baseline, row.tuned),
            *(row.minimum_detectable_effect, row.num_examples),
        ]
        for name, row in named
    ]
    headers = ["metric", "verdict", "p", "reference", "system", "detectable", "n"]
    return [*charts, table(headers, cells, about=DETECTABLE)]


def _classes(report: EvaluationReport, confusion: Mapping[str, Confusion]) -> Part:
    labels = sorted({label for counts in confusion.values() for label in counts})
    texts = {f"#{i}": text for i, text in enumerate(labels)}
    scores = {
        f"{one.name} [95% interval], rows": {
            texts.get(name, name): f"{score.words}, {score.num_examples}"
            for name, score in one.per_class.items()
        }
        for one in report.systems
    }
    parts: list[Part] = [by_column(scores, caption="Fraction of each class that is right")]
    if report.majority_fraction is not None:
        most = f"{report.majority_fraction:.1%}"
        parts.append(f"Always answering the most frequent class is correct in {most}.")
    for side, counts in confusion.items():
        rows: list[list[Cell]] = [
            [one, *(counts[one].get(other, 0) for other in (*labels, OTHER))] for one in labels
        ]
        headers = ["reference", *labels, "other"]
        parts.append(table(headers, rows, caption=f"{side}: answers by reference"))
    return parts


def _ordered(samples: Sequence[Sample]) -> list[Sample]:
    """Return what is shown: the worst regressions, then the best gains, then unchanged ones."""
    half = MAX_SAMPLES // 2
    kept = samples if len(samples) <= MAX_SAMPLES else [*samples[:half], *samples[-half:]]
    return [
        *(sample for sample in kept if sample.change < 0),
        *(sample for sample in reversed(kept) if sample.change > 0),
        *(sample for sample in kept if sample.change == 0),
    ]


def _sample(sample: Sample) -> Part:
    asked, wanted, *answers = (
        value if len(value) <= MAX_CHARACTERS else value[:MAX_CHARACTERS] + " [...]"
        for value in (sample.prompt, sample.reference, *sample.answers.values())
    )
    row = [f"line {sample.line}\n{asked}", wanted, *(changed_words(wanted, one) for one in answers)]
    return side_by_side(["question", "expected", *sample.answers], [row])


def _verdict(verdict: str) -> Cell:
    return badge(verdict, TONES.get(verdict, "neutral"))


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else "<0.001"
