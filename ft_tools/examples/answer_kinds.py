"""What kind of answers a file trains: a few labels, JSON, or free text."""

import json
from typing import Any, Literal

AnswerKind = Literal["labels", "json", "free"]
MAX_LABELS = 200
ROWS_PER_LABEL = 5
LONGEST_LABEL = 200
"""Characters; a label in JSON with its field is longer than the label."""
JSON_FRACTION = 0.9


class AnswerKinds:
    """Count answers as they are read."""

    def __init__(self) -> None:
        self._rows = 0
        self._json = 0
        self._longest = 0
        self._different: set[int] = set()

    def add(self, answer: str) -> None:
        """Count one answer."""
        self._rows += 1
        self._longest = max(self._longest, len(answer))
        if len(self._different) <= MAX_LABELS:
            self._different.add(hash(answer))
        self._json += _is_json(answer)

    @property
    def num_labels(self) -> int | None:
        """Return how many labels the answers are; None where they are more than labels."""
        count = len(self._different)
        few = 0 < count <= MAX_LABELS and count * ROWS_PER_LABEL <= self._rows
        return count if few and self._longest <= LONGEST_LABEL else None

    @property
    def kind(self) -> AnswerKind:
        """Return what kind the answers are."""
        if self.num_labels is not None:
            return "labels"
        return "json" if self._json > JSON_FRACTION * self._rows else "free"


def answer_of(example: dict[str, Any]) -> str:
    """Return the text of an example's last answer; empty where it has none."""
    for name in ("completion", "messages"):
        part = example.get(name)
        if isinstance(part, str):
            return part
        if isinstance(part, list) and part and isinstance(part[-1], dict):
            content = part[-1].get("content")
            return content if isinstance(content, str) else ""
    return ""


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
