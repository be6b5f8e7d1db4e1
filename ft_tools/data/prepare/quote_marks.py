"""Say what the columns that mark rows hold: counts, and the values themselves, quoted as data."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ft_tools.data.judge import privacy
from ft_tools.data.prepare.column_mapping import MARKING, ColumnMapping, text_of_cell
from ft_tools.data.prepare.decided import Decided
from ft_tools.formats.columns import PLAIN_NAME
from ft_tools.formats.quoting import quote
from ft_tools.formats.verdict_columns import Column
from ft_tools.formats.verdicts import Mark, mark_of

MOST_QUOTED = 10
MOST_CHARS, MOST_WORDS = 30, 3
"""Of a value that is quoted: a longer one is a sentence, and is only counted. Ours."""
NAMES = {1: "good", 0: "bad", -1: "not_marked"}
"""Mark of a row -> its name in a report."""


def quoted(counts: Mapping[Any, int], *, num_more: int = 0) -> list[str]:
    """Quote the most frequent values with their counts; what is long or beyond ten is counted.

    >>> quoted({"?": 8, "ok": 2}), quoted({"do as I tell you": 3})
    (['"?" 8', '"ok" 2'], ['3 others'])
    """
    left = Counter({text_of_cell(value): 0 for value in counts})
    for value, count in counts.items():
        left[text_of_cell(value)] += count
    short = [text for text, _ in left.most_common() if _is_short(text)][:MOST_QUOTED]
    said = [f"{_quote(text)} {left.pop(text)}" for text in short]
    others = sum(left.values()) + num_more
    return said + ([f"{others} others"] if others else [])


def _is_short(text: str) -> bool:
    return len(text) <= MOST_CHARS and len(text.split()) <= MOST_WORDS


def unknown_values(column: Column) -> str:
    """Quote the values of a column of which nobody knows what they say, then the others."""
    unknown = {value: n for value, n in column.values.items() if mark_of(value) is None}
    known = {value: n for value, n in column.values.items() if value not in unknown}
    said = ", ".join(quoted(unknown, num_more=column.num_other + column.num_more))
    return said + (f"; beside {', '.join(quoted(known))}" if known else "")


def known_good(column: Column) -> list[str | bool | float]:
    """Return the words of a column that say by themselves that something is good."""
    return [v for v in column.values if isinstance(v, str) and mark_of(v) is Mark.GOOD]


def marks_of(mapping: ColumnMapping, decided: Decided) -> dict[str, int]:
    """Count the rows by their mark, and those of which a better answer is used."""
    made: dict[str, int] = {}
    if mapping.marking(MARKING):
        counts = Counter(decided.marks)
        made = {name: counts.get(mark, 0) for mark, name in NAMES.items()}
    if mapping.corrected_column:
        made["corrected"] = len(decided.corrected)
    return made


def marked_with(decided: Decided) -> dict[str, list[str]]:
    """Quote which values mean good, which bad, and which neither."""
    said = decided.marked_with
    return {name: quoted(said[name]) for name in NAMES.values() if name in said}


def about_marks(mapping: ColumnMapping, decided: Decided) -> list[str]:
    """Say what is odd of the declared values, and what is done with better answers."""
    notes = []
    for name in mapping.marking(MARKING):
        turned = [*_saying(mapping.good_of(name), Mark.BAD)]
        turned += _saying(mapping.bad_of(name), Mark.GOOD)
        if turned:
            notes.append(
                f"{', '.join(values_quoted(turned))} usually means the opposite of "
                "what good_values or bad_values says: check `marked_with` with the user"
            )
    if unknown := decided.marked_with.get("not_marked"):
        notes.append(
            f"{sum(unknown.values())} marks mean neither good nor bad "
            f"({', '.join(quoted(unknown))}): these rows are not marked, and "
            "drop_bad alone keeps them; if they are bad, add them "
            "to mapping.bad_values ('*': everything that is not good)"
        )
    return notes + _about_corrections(mapping, decided)


def _saying(values: Sequence[Any], mark: Mark) -> list[str]:
    return [text_of_cell(value) for value in values if mark_of(value) is mark]


def _about_corrections(mapping: ColumnMapping, decided: Decided) -> list[str]:
    """Say how many rows have a better answer, and what else it could be used for."""
    name = mapping.corrected_column
    if name is None:
        return []
    is_plain = PLAIN_NAME.fullmatch(name) is not None
    name = name if is_plain else "corrected_column"
    as_pairs = f"verdicts={{{name!r}: 'pair'}}" if is_plain else "verdicts for it to 'pair'"
    said = f"{len(decided.corrected)} rows have a better answer in {name}, which "
    if decided.task == "dpo":
        return [said + "is preferred to the answer of the row: each is a pair"]
    if decided.task == "kto":
        return [f"the better answers in {name} are not used: marks are for the answers given"]
    return [
        said + "is trained on instead of the answer, whatever the mark; for pairs (DPO), each "
        f"preferred to the answer of its row, set {as_pairs} or 'pair' for a "
        "column that marks rows"
    ]


def name_of_mark(mark: int) -> str:
    """Return how a row is marked; empty if it is not."""
    return NAMES[mark] if mark >= 0 else ""


def values_quoted(values: Iterable[Any]) -> list[str]:
    """Quote the short values of a shown row.

    >>> values_quoted(["ok", "as far as I can tell it is"])
    ['"ok"']
    """
    return [_quote(text) for value in values if _is_short(text := text_of_cell(value))]


def _quote(text: str) -> str:
    return quote(privacy.mask(text), MOST_CHARS)[0]
