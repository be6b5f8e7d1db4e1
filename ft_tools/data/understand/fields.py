"""Count what answers that are JSON objects hold, by field: empty values, balance of classes."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ft_tools.data.map.apply_mapping import MAX_CLASSES
from ft_tools.formats.column_counts import NAME_CHARS, shown

MAX_FIELDS = 50
MAX_CHARS = 80
# A class with less than a twentieth of the largest one is rarely learned. Judgement.
IMBALANCE = 20
# What tables write for "nothing here"; "none" and "unknown" may be real classes.
EMPTY = {"", "n/a", "#n/a", "na", "nan", "null", "nil", "tbd", "todo", "?", "??", "???", "-", "--"}
EMPTY |= {"\u2014", "#ref!", "#value!", "#name?", "#div/0!", "(blank)", "(empty)", "<na>", "fixme"}
MIN_ROWS = 50


@dataclass
class JsonFields:
    """Counts over the fields of answers that are JSON objects."""

    empty: "Counter[str]" = field(default_factory=Counter)
    values: dict[str, "Counter[Any]"] = field(default_factory=dict)

    def add(self, answer: str) -> bool:
        """Count an answer; tell whether a field of it is empty or a placeholder."""
        if not answer.startswith("{") or not answer.endswith("}"):
            return False
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return False
        if not isinstance(value, dict):
            return False
        missing = [
            name
            for name, inner in value.items()
            if isinstance(inner, str) and inner.strip().casefold() in EMPTY
        ]
        self.empty.update(missing[:MAX_FIELDS])
        for name, inner in value.items():
            if name not in self.values and len(self.values) >= MAX_FIELDS:
                continue
            counts = self.values.setdefault(name, Counter())
            is_short = isinstance(inner, str | bool | int) and len(str(inner)) <= MAX_CHARS
            if is_short and len(counts) <= MAX_CLASSES:
                counts[inner] += 1
        return bool(missing)

    def with_empty(self) -> list[str]:
        """Name the fields with empty values, the most frequent first."""
        return [shown(name, NAME_CHARS) for name, _ in self.empty.most_common()]

    def imbalanced(self) -> tuple[list[str], int]:
        """Name the fields of classes of which one is rare, and count the rows of rare classes."""
        names, rare = [], 0
        for name, counts in self.values.items():
            total, most = sum(counts.values()), max(counts.values(), default=0)
            is_class = 1 < len(counts) <= MAX_CLASSES and total >= max(MIN_ROWS, 2 * len(counts))
            few = [count for count in counts.values() if IMBALANCE * count < most]
            if is_class and few:
                names.append(shown(name, NAME_CHARS))
                rare += sum(few)
        return names, rare
