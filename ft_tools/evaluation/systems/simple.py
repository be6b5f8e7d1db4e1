"""What simple baselines learn from: the classes in the reference answers."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ft_tools.errors import BadInput
from ft_tools.evaluation.metrics.measures import label, parse_json
from ft_tools.evaluation.systems.classifier import MAX_CLASSES, MIN_EXAMPLES_PER_CLASS


@dataclass(frozen=True)
class Column:
    """One thing to predict: a key of JSON answers, or the whole answer (key None)."""

    key: str | None
    values: list[str]
    """One per example; of a JSON key its value as JSON, empty where it is missing."""

    @property
    def has_classes(self) -> bool:
        """Tell whether the values are few enough to be classes."""
        few = min(MAX_CLASSES, len(self.values) // MIN_EXAMPLES_PER_CLASS)
        return 1 < len(set(self.values)) <= max(2, few)


def columns_of(references: Sequence[str]) -> list[Column]:
    """Return what there is to predict: each key of JSON objects, else the whole answer.

    >>> [c.key for c in columns_of(['{"team": "a", "urgent": true}', '{"team": "b"}'])]
    ['team', 'urgent']
    """
    parsed = [parse_json(reference) for reference in references]
    if not all(isinstance(value, dict) and value for value in parsed):
        names: dict[str, str] = {}
        # Answers that differ only in case or punctuation are one class, written as first seen.
        return [Column(None, [names.setdefault(label(r), r) for r in references])]
    keys = dict.fromkeys(key for value in parsed for key in value)
    return [
        Column(key, [json.dumps(v[key], ensure_ascii=False) if key in v else "" for v in parsed])
        for key in keys
    ]


def majority_answer(references: Sequence[str]) -> str:
    """Return the most frequent answer.

    >>> majority_answer(["Yes", "no", "yes."])
    'Yes'
    """
    first: dict[str, str] = {}
    for reference in references:
        first.setdefault(label(reference), reference)
    return first[Counter(label(reference) for reference in references).most_common(1)[0][0]]


def require_classes(references: Sequence[str], path: str) -> None:
    """Refuse answers that are free text: there is nothing to classify.

    Raises:
        BadInput: No part of the answers has few enough different values.
    """
    columns = columns_of(references)
    if not any(column.has_classes for column in columns):
        counts = ", ".join(str(len(set(column.values))) for column in columns)
        raise BadInput(
            f"tf_idf predicts classes, and the {len(references)} answers of {path!r} have {counts} "
            f"different values (2 to {MAX_CLASSES} are needed); use baseline nearest_example"
        )
