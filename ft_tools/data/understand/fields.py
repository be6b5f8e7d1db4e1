"""Count what answers that are JSON objects hold, by field: empty values, spellings of classes."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from ft_tools.data.map.apply_mapping import MAX_CLASSES, are_classes
from ft_tools.formats.column_counts import NAME_CHARS, shown
from ft_tools.formats.json_text import parse_json

MAX_FIELDS = 50
WHOLE = None
MAX_CHARS = 80
# What tables write for "nothing here"; "none" and "unknown" may be real classes.
EMPTY = {"", "n/a", "#n/a", "na", "nan", "null", "nil", "tbd", "todo", "?", "??", "???", "-", "--"}
EMPTY |= {"\u2014", "#ref!", "#value!", "#name?", "#div/0!", "(blank)", "(empty)", "<na>", "fixme"}


@dataclass
class JsonFields:
    """Counts over the fields of answers that are JSON objects."""

    empty: "Counter[str]" = field(default_factory=Counter)
    values: dict[str | None, "Counter[Any]"] = field(default_factory=dict)
    """Of each field, and under `WHOLE` of answers that are no objects."""

    def add(self, answer: str) -> bool:
        """Count an answer; tell whether a field of it is empty or a placeholder."""
        is_object = answer.startswith("{") and answer.endswith("}")
        value = parse_json(answer) if is_object else None
        if not isinstance(value, dict):
            self._count(WHOLE, answer)
            return False
        missing = [
            name
            for name, inner in value.items()
            if isinstance(inner, str) and inner.strip().casefold() in EMPTY
        ]
        self.empty.update(missing[:MAX_FIELDS])
        for name, inner in value.items():
            if name in self.values or len(self.values) < MAX_FIELDS:
                self._count(name, inner)
        return bool(missing)

    def _count(self, name: str | None, value: Any) -> None:
        counts = self.values.setdefault(name, Counter())
        is_short = isinstance(value, str | bool | int) and len(str(value)) <= MAX_CHARS
        if is_short and len(counts) <= MAX_CLASSES:
            counts[value] += 1

    def with_empty(self) -> list[str]:
        """Name the fields with empty values, the most frequent first."""
        return [shown(name, NAME_CHARS) for name, _ in self.empty.most_common()]

    def spellings(self) -> dict[str, list[dict[str, int]]]:
        """Return the classes of each field that have several spellings, each with its rows.

        >>> fields = JsonFields()
        >>> [fields.add(f'{{"team": "{at}"}}') for at in ("Lost", "lost", "fare") * 2]
        [False, False, False, False, False, False]
        >>> fields.spellings()
        {'team': [{'Lost': 2, 'lost': 2}]}
        """
        found: dict[str, list[dict[str, int]]] = {}
        for name, counts in self.values.items():
            same: dict[str, dict[str, int]] = defaultdict(dict)
            for label, count in counts.items() if are_classes(counts) else ():
                if isinstance(label, str):
                    same[" ".join(label.casefold().split())][label] = count
            if several := [one for one in same.values() if len(one) > 1]:
                found[_shown(name)] = several
        return found


def _shown(name: str | None) -> str:
    return "answer" if name is WHOLE else shown(name, NAME_CHARS)
