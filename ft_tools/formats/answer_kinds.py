"""What kind of answers a file trains: a few labels, JSON, or free text."""

import json
from collections import Counter, defaultdict
from typing import Any, Literal

from ft_tools.formats.json_text import json_collection
from ft_tools.formats.trl_formats import turns_in

AnswerKind = Literal["labels", "json", "free"]
MAX_LABELS = 200
ROWS_PER_LABEL = 5
LONGEST_LABEL = 60
"""Characters. Ours: longer ones are sentences, of which a few may be templates."""
MAX_ANSWERS = 10_000
"""Different answers that are told apart."""
JSON_FRACTION = 0.9


class AnswerKinds:
    """Count answers as they are read."""

    def __init__(self) -> None:
        self._rows = 0
        self._json = 0
        self._are_labels = True
        self._different: set[int] = set()
        self._labels: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, answer: str) -> None:
        """Count one answer."""
        self._rows += 1
        value = json_collection(answer)
        self._json += value is not None
        self._are_labels = self._are_labels and len(self._different) <= MAX_ANSWERS
        if not self._are_labels:
            return
        self._different.add(hash(answer))
        labels = _labels_of(answer, value)
        self._are_labels = bool(labels)
        for name, label in labels.items():
            self._labels[name][label] += 1
            self._are_labels &= len(self._labels[name]) <= MAX_LABELS

    @property
    def labels(self) -> dict[str, Counter[str]]:
        """Return the labels of each field with their rows; empty where answers are more."""
        are_few = all(are_few_labels(len(one), self._rows) for one in self._labels.values())
        return dict(self._labels) if self._are_labels and are_few else {}

    @property
    def num_labels(self) -> int | None:
        """Return how many labels the answers are; None where they are more than labels."""
        return len(self._different) if self.labels else None

    @property
    def kind(self) -> AnswerKind:
        """Return what kind the answers are."""
        if self.labels:
            return "labels"
        return "json" if self._json > JSON_FRACTION * self._rows else "free"


def are_few_labels(count: int, num_rows: int) -> bool:
    """Return whether so many different values of a field are labels of so many rows."""
    return count <= MAX_LABELS and count * ROWS_PER_LABEL <= num_rows


def labels_in(answer: str) -> dict[str, str]:
    """Return the labels of an answer, each by its field in JSON; empty where it is no label.

    >>> labels_in("billing"), labels_in('{"team": "billing", "urgent": true}')
    ({'': 'billing'}, {'team': 'billing', 'urgent': 'true'})
    >>> labels_in('{"items": [1, 2]}'), labels_in("A sentence is no label. " * 3)
    ({}, {})
    """
    return _labels_of(answer, json_collection(answer))


def _labels_of(answer: str, value: Any) -> dict[str, str]:
    labels = {"": answer.strip()}
    if isinstance(value, dict):
        if any(isinstance(inner, list | dict) for inner in value.values()):
            return {}
        labels = {
            name: inner if isinstance(inner, str) else json.dumps(inner)
            for name, inner in value.items()
        }
    return labels if all(len(label) <= LONGEST_LABEL for label in labels.values()) else {}


def answer_of(example: dict[str, Any]) -> str:
    """Return the text of an example's last answer; empty where it has none."""
    turns = turns_in(example, "completion") or turns_in(example, "messages")
    content = turns[-1].get("content") if turns else ""
    return content if isinstance(content, str) else ""
