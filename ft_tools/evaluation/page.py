"""The page of an evaluation: verdict, systems, intervals drawn, texts compared."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ft_tools.evaluation.report import Comparison, EvaluationReport, SystemResult
from ft_tools.views.markup import Cell
from ft_tools.views.page import (
    Html,
    badge,
    escape,
    interval_chart,
    key_values,
    note,
    page,
    side_by_side,
    table,
    text,
)

TONES = {
    "improved": "good",
    "regressed": "bad",
    "underpowered": "warn",
    "not_confirmed": "warn",
    "met": "good",
    "not_met": "bad",
    "not_shown": "warn",
}
SIDES = {
    True: "above zero is better",
    False: "below zero is better",
    None: "neither side is better",
}
OUTPUTS = {
    "empty_fraction": "empty",
    "truncated_fraction": "cut off at max_new_tokens",
    "repetitive_fraction": "stuck in a loop",
    "mean_length_ratio": "length relative to the reference",
    "seconds_per_output": "seconds per output",
}
MAX_SAMPLES = 60
# Below this likeness nearly every word would be underlined, which shows nothing.
ALIKE = 0.3
MAX_CHARACTERS = 4000
_PIECES = re.compile(r"\s+|\w+|[^\w\s]")


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
    labels: Sequence[str] = (),
    fields: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Return the whole page.

    Args:
        report: The evaluation.
        samples: Every example, the worst regressions first.
        labels: Names of the classes, in the order of the report's class numbers.
        fields: System -> key of JSON answers -> fraction that is correct.
    """
    ordered = _ordered(samples)
    shows_systems = bool(report.systems and report.main_metric)
    sections = {
        "Details": _details(report),
        "Systems": systems_table(report) if shows_systems else "",
        "Under changes of the questions": _stress(report),
        "Fields": _by_system(fields or {}, "Fraction of answers with the correct value"),
    }
    for title, rows in (
        ("Held-out examples", report.comparisons),
        ("Benchmarks", report.benchmarks),
        ("General ability", report.general_ability),
    ):
        sections[title] = _group(title, rows) if rows and not report.alone else ""
    values = {side: one.model_dump(include=set(OUTPUTS)) for side, one in report.outputs.items()}
    named = {s: {OUTPUTS[key]: v for key, v in one.items()} for s, one in values.items()}
    worse = any(sample.change < 0 for sample in samples)
    sections |= {
        "Classes": _confusion(report, labels),
        "Outputs": _by_system(named),
        "Samples, worst regressions first" if worse else "Samples": (
            _samples(ordered, len(samples)) if samples else ""
        ),
    }
    example = ""
    if samples:
        example = side_by_side(["question", "expected", *ordered[0].answers], [_row(ordered[0])])
    return page(
        f"Evaluation of {report.tuned}",
        {title: section for title, section in sections.items() if section},
        lead=text(report.summary[0]),
        picture=_picture(report) if shows_systems else "",
        example=example,
        subtitle="" if report.alone else f"Compared with {report.baseline}",
    )


def systems_section(report: EvaluationReport) -> Html:
    """Return the systems by quality and cost, and their table."""
    return Html(_picture(report) + systems_table(report))


def systems_table(report: EvaluationReport) -> Html:
    """Return the table of the systems, in the order of the request."""
    metric = report.main_metric
    # Simple ones cost nothing, which is no price to compare.
    has_prices = any(one.usd_per_1000_calls for one in report.systems)
    columns: dict[str, Callable[[SystemResult], Cell]] = {
        "system": lambda one: one.name,
        "target": lambda one: _verdict(one.target or "not_shown"),
        f"{metric} [95% interval]": lambda one: one.scores[metric].words,
        "tokens in, out": lambda one: f"{one.input_tokens_mean:.0f}, {one.output_tokens_mean:.0f}",
        "seconds, 95th percentile": lambda one: (
            f"{_seconds(one.seconds_median)}, {_seconds(one.seconds_p95)}"
        ),
        "cut off": lambda one: one.cut_off_fraction,
        "USD per 1,000 calls": lambda one: (
            "no price" if one.usd_per_1000_calls is None else one.usd_per_1000_calls
        ),
    }
    if not report.target:
        del columns["target"]
    if not has_prices:
        del columns["USD per 1,000 calls"]
    rows: list[list[Cell]] = [[of(one) for of in columns.values()] for one in report.systems]
    explained = (
        "Tokens are means. Seconds per answer: the median, in a batch its share of the time."
    )
    return Html(table([*columns], rows) + note(explained))


def marked(before: str, after: str) -> Html:
    """Return a text with the words that are not in the other one underlined."""
    old, new = _PIECES.findall(before), _PIECES.findall(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if matcher.ratio() < ALIKE:
        return Html(escape(after))
    parts = []
    for tag, _, _, start, end in matcher.get_opcodes():
        piece = escape("".join(new[start:end]))
        parts.append(piece if tag == "equal" or not piece.strip() else f"<mark>{piece}</mark>")
    return Html("".join(parts))


def _details(report: EvaluationReport) -> Html:
    sentences = "".join(text(sentence) for sentence in report.summary[1:])
    overlap = report.contamination
    facts: dict[str, str | int | None] = {"model": report.tuned}
    if not report.alone:
        facts = {"reference": report.baseline, "compared": report.tuned}
    if overlap is not None:
        checked = [*overlap.checked_against, *overlap.learned_from]
        facts["held-out questions in the training data"] = (
            f"{overlap.num_exact} exact, {overlap.num_near} near copies"
            if checked
            else "not checked: the training data is unknown"
        )
    facts |= {"rows come from": report.origin} if report.origin else {}
    facts |= {"look at these rows": report.look} if report.samples_jsonl else {}
    notes = "".join(note(line) for line in report.notes)
    return Html(sentences + key_values(facts) + notes)


def _stress(report: EvaluationReport) -> Html:
    """Return each system's score under each change beside its plain score."""
    found = [(system, one) for system in report.systems for one in system.stress if one.score]
    if not found:
        return Html("")
    chart = interval_chart(
        [
            (f"{system.name}: {one.change}", one.ci_low, one.difference, one.ci_high)
            for system, one in found
        ],
        title=f"{report.main_metric}: difference from the plain questions, 95% interval",
        x_label=report.main_metric,
    )
    rows: list[list[Cell]] = [
        [
            *(system.name, one.change, one.num_changed, one.plain),
            *(one.score.words if one.score else "", _verdict(one.verdict or "not_shown")),
        ]
        for system, one in found
    ]
    headers = ["system", "change", "rows changed", "plain", "changed", "verdict"]
    return Html(chart + table(headers, rows))


def _group(title: str, rows: Sequence[Comparison]) -> Html:
    several = len({row.system for row in rows}) > 1
    names = [f"{row.system}: {row.metric}" if several else row.metric for row in rows]
    charts = ""
    for unit, up in dict.fromkeys((row.unit, row.higher_is_better) for row in rows):
        charts += interval_chart(
            [
                (name, row.ci_low, row.difference, row.ci_high)
                for name, row in zip(names, rows, strict=True)
                if (row.unit, row.higher_is_better) == (unit, up)
            ],
            title=f"{title}: difference from the reference, 95% interval",
            x_label=f"{unit}; {SIDES[up]}",
        )
    numbers = table(
        ["metric", "verdict", "p", "reference", "system", "detectable", "n"],
        [
            [
                *(name, _verdict(row.verdict)),
                "<0.001" if row.p_adjusted < 0.001 else f"{row.p_adjusted:.3f}",
                *(row.baseline, row.tuned, row.minimum_detectable_effect, row.num_examples),
            ]
            for name, row in zip(names, rows, strict=True)
        ],
    )
    explained = (
        "p is Holm-corrected for the number of metrics. Detectable: the true change that this "
        "evaluation would detect in 4 of 5 repetitions."
    )
    return Html(charts + numbers + note(explained))


def _by_system(found: Mapping[str, Mapping[str, Cell]], caption: str = "") -> Html:
    """Return a table with a column for each system; empty where there is no row."""
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    rows: list[list[Cell]] = [[name, *(v.get(name) for v in found.values())] for name in names]
    return table(["", *found], rows, caption=caption) if rows else Html("")


def _confusion(report: EvaluationReport, labels: Sequence[str]) -> Html:
    parts: list[str] = []
    if report.majority_fraction is not None and report.confusion:
        most = f"{report.majority_fraction:.1%}"
        parts.append(text(f"Always answering the most frequent class is correct in {most}."))
    columns = [*(str(i) for i in range(len(labels))), "(other)"]
    for side, counts in report.confusion.items():
        rows: list[list[Cell]] = [
            [labels[int(one)], *(counts[one].get(column, 0) for column in columns)]
            for one in sorted(counts, key=int)
        ]
        headers = ["reference", *labels, "other"]
        parts.append(table(headers, rows, caption=f"{side}: answers by reference"))
    return Html("".join(parts))


def _ordered(samples: Sequence[Sample]) -> list[Sample]:
    """Return what is shown: the worst regressions, then the best gains, then unchanged ones."""
    half = MAX_SAMPLES // 2
    kept = samples if len(samples) <= MAX_SAMPLES else [*samples[:half], *samples[-half:]]
    return [
        *(sample for sample in kept if sample.change < 0),
        *(sample for sample in reversed(kept) if sample.change > 0),
        *(sample for sample in kept if sample.change == 0),
    ]


def _samples(shown: Sequence[Sample], total: int) -> Html:
    rows = "".join(
        side_by_side(["question", "expected", *sample.answers], [_row(sample)]) for sample in shown
    )
    explained = (
        f"{len(shown)} of {total} examples; samples.jsonl has all. Underlined: words that differ "
        "from the reference; nothing is underlined in answers that differ entirely."
    )
    return Html(note(explained) + rows)


def _row(sample: Sample) -> list[object]:
    asked, wanted, *answers = (
        value if len(value) <= MAX_CHARACTERS else value[:MAX_CHARACTERS] + " [...]"
        for value in (sample.prompt, sample.reference, *sample.answers.values())
    )
    return [f"line {sample.line}\n{asked}", wanted, *(marked(wanted, one) for one in answers)]


def _verdict(verdict: str) -> Html:
    return badge(verdict.replace("_", " "), TONES.get(verdict, "neutral"))


def _picture(report: EvaluationReport) -> Html:
    """Draw quality with its interval, the cheapest system first."""
    metric = report.main_metric
    priced = all(one.usd_per_1000_calls is not None for one in report.systems)

    def cost(one: SystemResult) -> float:
        usd = one.usd_per_1000_calls
        return usd if priced and usd is not None else one.seconds_mean

    def label(one: SystemResult) -> str:
        if priced:
            return f"{one.name}, {cost(one):.3g} USD per 1,000 calls"
        return f"{one.name}, {_seconds(cost(one))} s per answer"

    rows = [
        (label(one), score.ci_low, score.value, score.ci_high)
        for one in sorted(report.systems, key=cost)
        if (score := one.scores[metric]).ci_low is not None
    ]
    title = f"{metric} by system, the cheapest first"
    return interval_chart(rows, title=title, x_label=metric, differences=False)


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else "<0.001"
