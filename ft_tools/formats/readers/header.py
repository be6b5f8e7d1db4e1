"""Find the line of a table that names its columns, which may stand below a title."""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from ft_tools.formats.column_counts import number_of

LOOKED_AT = 50
"""First lines of a table by which the header is found. Judgement."""
MOST_ABOVE = 20
"""Lines that may stand above the header. Judgement."""
NAME_CHARS = 100
"""What is longer names no column below a title. Judgement."""
FEWEST_RAGGED = 3
"""Columns, and rows of one length, below a title not filled up with separators. Judgement."""
FEWEST = 2
"""Columns of a table whose title can be told from its header. Judgement."""
FEW = 3
"""One in so many columns is what a title fills at most. Judgement."""
MOST = 0.9
"""Share of the cells below a name that are longer than it, or numbers. Judgement."""

Cells = Sequence[Any]
Texts = Sequence[str]


@dataclass(frozen=True)
class Header:
    """The names of a table's columns, and where they were found."""

    at: int
    """Index of the line among those that were looked at."""
    names: list[str]
    about: tuple[str, ...]
    """Sentences for the report; none repeats a text of the file."""


def find_header(lines: Sequence[Cells], first_line: int = 1, first_column: int = 0) -> Header:
    """Return the header among the first lines of a table.

    It is the first line, unless that fills few of the columns (one, or a third), as a title does,
    and the first line that fills more of them has different short texts in most, which the rows
    below it show to be names. A column without a name, or with that of an earlier one, gets the
    letter that a spreadsheet gives it.

    >>> lines = [["Review, Q3", "", ""], ["#", "Asked", ""], [1, "Why?", "x"], [2, "How?", "y"]]
    >>> found = find_header(lines)
    >>> found.at, found.names
    (1, ['#', 'Asked', 'C'])
    """
    texts = [["" if cell is None else str(cell).strip() for cell in line] for line in lines]
    counts = Counter(at for line in texts for at, text in enumerate(line) if text)
    columns = {at for at, count in counts.items() if count > 1}
    at = _below_titles(texts, columns)
    cells = [" ".join(text.split()) for text in texts[at]]
    names = distinct(cells, first_column)
    unnamed = [names[place] for place, name in enumerate(cells) if not name and counts[place]]
    again = [name for place, name in enumerate(names) if name != cells[place] and cells[place]]
    about = []
    if at:
        about.append(
            f"line {first_line + at} is taken as the header: what stands above it fills few "
            f"columns; row 1 is line {first_line + at + 1}"
        )
    if unnamed:
        about.append(f"columns without a name in the header are named by letter: {_some(unnamed)}")
    if again:
        about.append(f"columns with the name of an earlier one are named by letter: {_some(again)}")
    return Header(at, names, tuple(about))


def distinct(names: Sequence[str], first_column: int = 0) -> list[str]:
    """Return the names of columns, those that are blank or there before replaced by letters.

    >>> distinct(["a", "", "a", "B"])
    ['a', 'column B', 'C', 'B']
    """
    first = {name: place for place, name in reversed(list(enumerate(names)))}
    return [
        name if name and first[name] == place else _letter(first_column + place, first)
        for place, name in enumerate(names)
    ]


def _filled(line: Texts, columns: Container[int]) -> list[int]:
    """Return the columns in which a line has a text."""
    return [at for at, text in enumerate(line) if text and at in columns]


def _below_titles(lines: Sequence[Texts], columns: set[int]) -> int:
    """Return the index of the header below titles and blank lines, else that of the first line."""
    most = max(1, len(columns) // FEW)
    if len(columns) < FEWEST or len(_filled(lines[0], columns)) > most:
        return 0
    for at, line in enumerate(lines[: MOST_ABOVE + 1]):
        filled, with_colon = _filled(line, columns), [t.endswith(":") for t in line if t]
        # Below a title stand such lines as `Date: | 2026-07-01`, too.
        is_detail = any(with_colon) and not all(with_colon)
        if 2 * len(filled) <= len(columns) or is_detail:
            continue
        below = lines[at + 1 :]
        widths = {len(other) for other in (line, *below) if other}
        is_ragged = len(lines[0]) != len(line)
        if is_ragged and (len(widths) > 1 or min(len(line), len(below)) < FEWEST_RAGGED):
            return 0
        names = {line[place] for place in filled if number_of(line[place]) is None}
        may_name = 2 * len(names) > len(columns) and max(map(len, names)) <= NAME_CHARS
        return at if may_name and _differs(line, below, filled) else 0
    return 0


def _differs(line: Texts, below: Sequence[Texts], columns: Sequence[int]) -> bool:
    """Return whether a line names what is in the lines below it, and is not the first of them.

    A name stands above numbers, and no name occurs again in its column; or most do not occur again
    and are shorter than the texts below them, or stand above values that return.

    >>> rows = [["Why so late?", "ok"], ["How is it sent?", "bad"], ["Where from?", "ok"]] * 2
    >>> [_differs(line, rows, [0, 1]) for line in (["asked", "mark"], ["So?", "ok"])]
    [True, False]
    """
    num_judged = num_names = num_repeated = num_above_numbers = 0
    for at in columns:
        name, texts = line[at], [other[at] for other in below if at < len(other) and other[at]]
        num_judged += bool(texts)
        if name in texts or not texts:
            num_repeated += name in texts
            continue
        num_numbers = sum(number_of(text) is not None for text in texts)
        num_longer = sum(len(text) > len(name) for text in texts)
        num_above_numbers += number_of(name) is None and num_numbers >= MOST * len(texts)
        num_names += num_longer >= MOST * len(texts) or 2 * len(set(texts)) <= len(texts)
    is_above_numbers = num_above_numbers > 0 and not num_repeated
    return is_above_numbers or 2 * num_names > num_judged


def _letter(at: int, taken: Container[str]) -> str:
    """Return the letter of a column, or what is not the name of another one.

    >>> _letter(0, []), _letter(27, []), _letter(1, ["B"])
    ('A', 'AB', 'column B')
    """
    letters = ""
    number = at + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"column {letters}" if letters in taken else letters


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
