"""Scores of single classes: of labels, and of the keys of JSON answers and their few values."""

import re
from collections.abc import Sequence

from ft_tools.evaluation.report import ClassScore, SystemResult
from ft_tools.evaluation.results import Settings
from ft_tools.metrics.answers import columns_of, field_matches, has_classes
from ft_tools.metrics.table import METRICS
from ft_tools.metrics.text import label

PLAIN = re.compile(r"[^\W\d][\w.-]{0,39}")
MOST_SHOWN = 8
"""Classes of a short report, the worst first; the page has all."""


def class_scores(
    outputs: Sequence[str], references: Sequence[str], settings: Settings
) -> dict[str, ClassScore]:
    """Return for each class the fraction of its rows that are right, the lowest first.

    A class is named by its label, or key and key=value of JSON answers; by its number among the
    sorted ones if it is no plain name, which could say something.
    """
    pairs = zip(outputs, references, strict=True)
    whole: list[bool | None] = [label(output) == label(reference) for output, reference in pairs]
    fields = field_matches(outputs, references)
    found: dict[str, ClassScore] = {}

    def add(name: str, right: Sequence[bool | None], rows: Sequence[int]) -> None:
        rows = [i for i in rows if right[i] is not None]
        if rows:
            values = [float(right[i] or 0) for i in rows]
            score = settings.at(rows).score(METRICS["accuracy"], values)
            found[name] = ClassScore(**score.model_dump(), num_examples=len(rows))

    for number, (key, values) in enumerate(columns_of(references).items()):
        if key is None:
            column, name, right = [label(one) for one in values], "", whole
        else:
            column, name = [one.strip('"') for one in values], _plain(key, number)
            right = fields[key]
            add(name, right, range(len(column)))
        for place, value in enumerate(sorted(set(column)) if has_classes(values) else ()):
            rows = [i for i, one in enumerate(column) if one == value]
            add("=".join(filter(None, (name, _plain(value, place)))), right, rows)
    return dict(sorted(found.items(), key=lambda one: one[1].value))


def only_worst(systems: Sequence[SystemResult], name: str) -> list[SystemResult]:
    """Keep the worst classes of one system that have errors, and of the others none."""

    def kept(one: SystemResult) -> dict[str, ClassScore]:
        wrong = [(key, own) for key, own in one.per_class.items() if own.value < 1]
        return dict(wrong[:MOST_SHOWN]) if one.name == name else {}

    return [one.model_copy(update={"per_class": kept(one)}) for one in systems]


def _plain(text: str, number: int) -> str:
    return text if PLAIN.fullmatch(text) else f"#{number}"
