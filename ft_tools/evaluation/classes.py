"""Scores of single classes: of labels, and of the keys of JSON answers that have few values."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ft_tools.evaluation.report import ClassScore, SystemResult
from ft_tools.evaluation.results import Settings
from ft_tools.evaluation.systems.classifier import columns_of, has_classes
from ft_tools.metrics.answers import OTHER, PLAIN_KEY, confusion, field_matches
from ft_tools.metrics.table import METRICS
from ft_tools.metrics.text import label

MOST_SHOWN = 8
"""Classes of a short report, the worst first; the page has all."""


def labels_of(references: Sequence[str]) -> list[str]:
    """Return the labels in the order of their numbers."""
    return sorted({label(reference) for reference in references})


def confusion_of(
    outputs: Mapping[str, Sequence[str]], references: Sequence[str]
) -> dict[str, object]:
    """Return the confusion counts under class numbers: class names are text of the data."""
    most = Counter(map(label, references)).most_common(1)[0][1] / len(references)
    number = {one: str(i) for i, one in enumerate(labels_of(references))} | {OTHER: OTHER}
    counts = {
        name: {
            number[one]: {number[column]: count for column, count in row.items()}
            for one, row in confusion(found, references).items()
        }
        for name, found in outputs.items()
    }
    return {"confusion": counts, "majority_fraction": round(most, 4)}


def class_scores(
    outputs: Sequence[str], references: Sequence[str], settings: Settings
) -> dict[str, ClassScore]:
    """Return for each class the fraction of its rows that are right, the lowest first.

    A class is named by its label, or key=value of JSON answers; by its number among the sorted
    ones if it is no plain name, which could say something.
    """
    pairs = zip(outputs, references, strict=True)
    whole: list[bool | None] = [label(output) == label(reference) for output, reference in pairs]
    fields = field_matches(outputs, references)
    found: dict[str, ClassScore] = {}
    for number, (key, values) in enumerate(columns_of(references).items()):
        if not has_classes(values):
            continue
        column = [label(one) if key is None else one.strip('"') for one in values]
        prefix = "" if key is None else f"{_plain(key, number)}="
        right = whole if key is None else fields[key]
        for place, value in enumerate(sorted(set(column))):
            rows = [i for i, one in enumerate(column) if one == value and right[i] is not None]
            if rows:
                hits = [float(bool(right[i])) for i in rows]
                score = settings.at(rows).score(METRICS["accuracy"], hits)
                name = prefix + _plain(value, place)
                found[name] = ClassScore(**score.model_dump(), num_examples=len(rows))
    return dict(sorted(found.items(), key=lambda one: one[1].value))


def only_worst(systems: Sequence[SystemResult], name: str) -> list[SystemResult]:
    """Keep the worst classes of one system, and of the others none."""
    return [
        one.model_copy(
            update={
                "per_class": dict([*one.per_class.items()][:MOST_SHOWN]) if one.name == name else {}
            }
        )
        for one in systems
    ]


def _plain(text: str, number: int) -> str:
    return text if PLAIN_KEY.fullmatch(text) else f"#{number}"
