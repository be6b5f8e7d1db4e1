"""Metrics for free answers: what must occur in them, numbers, sets, and admitting not to know.

Rows say what is expected beside the reference: `contains` and `not_contains` are lists of texts or
patterns (`{"regex": "..."}`), `abstain` is true where the right answer is that there is none.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ft_tools.errors import BadData
from ft_tools.evaluation.metrics.measures import normalise, parse_json

MAX_PATTERN = 500
CURE = f'write texts, or {{"regex": "..."}} with at most {MAX_PATTERN} characters'
_NUMBER = re.compile(r"[-+]?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_ABSTAINS = re.compile(
    r"\b(?:i (?:do not|don't) know|not (?:in|mentioned in|found in|part of) the "
    r"(?:documents?|text|passages?|context)|no information|cannot be (?:answered|determined)|"
    r"can't (?:answer|say)|not enough information|unknown)\b"
)


def contains(output: str, row: Mapping[str, Any]) -> float:
    r"""Return 1 if all of `contains` occurs and nothing of `not_contains`, without case.

    >>> contains("It costs 5 EUR.", {"contains": ["5 eur"], "not_contains": ["USD"]})
    1.0
    >>> contains("It costs 15 EUR.", {"contains": [{"regex": r"\b5 EUR"}]})
    0.0
    """
    must = all(_occurs(wanted, output) for wanted in _wanted(row.get("contains")))
    return float(must and not any(_occurs(t, output) for t in _wanted(row.get("not_contains"))))


def require_patterns(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Refuse a row whose `contains` or `not_contains` cannot be read, before anything starts.

    Args:
        rows: Line number and row.

    Raises:
        BadData: An entry is neither a text nor a valid pattern; the line is named.
    """
    for line, row in rows:
        for name in ("contains", "not_contains"):
            for wanted in _wanted(row.get(name)):
                problem = _problem(wanted)
                if problem:
                    raise BadData("the dataset", f"{name} {problem}", CURE, line)


def number(output: str, reference: str, tolerance: float) -> float:
    """Return 1 if the last number of the output is the reference's, within a relative tolerance.

    >>> number("So it is 1,005 in all.", "1000", 0.01), number("about 12", "1000", 0.01)
    (1.0, 0.0)
    """
    wanted, found = _last_number(reference), _last_number(output)
    if wanted is None or found is None:
        return float(wanted is None and found is None)
    return float(abs(found - wanted) <= tolerance * abs(wanted) + 1e-12)


def set_f1(output: str, reference: str) -> float:
    """Return F1 of the items of a JSON list, or of a list with commas, semicolons or lines.

    >>> set_f1('["a", "B"]', "b, c")
    0.5
    """
    found, wanted = _items(output), _items(reference)
    if not found or not wanted:
        return float(found == wanted)
    return 2 * len(found & wanted) / (len(found) + len(wanted))


def abstention(output: str, row: Mapping[str, Any], refusals: Sequence[str]) -> float:
    """Return 1 if the output says that there is no answer exactly where that is expected.

    Args:
        output: What a system wrote.
        row: `abstain` is true where there is no answer.
        refusals: References of the rows without an answer, in whatever language.
    """
    text = normalise(output)
    says = bool(_ABSTAINS.search(text)) or any(refusal in text for refusal in refusals)
    return float(says == (row.get("abstain") is True))


def refusals_of(rows: Sequence[Mapping[str, Any]], references: Sequence[str]) -> list[str]:
    """Return the references of the rows that expect no answer, without case."""
    pairs = zip(rows, references, strict=True)
    return list(dict.fromkeys(normalise(r) for row, r in pairs if row.get("abstain") is True))


def _wanted(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _occurs(wanted: Any, output: str) -> bool:
    """Tell whether a text occurs, whatever the spaces, or a pattern matches; without case."""
    if isinstance(wanted, Mapping):
        return re.search(str(wanted["regex"]), output, re.IGNORECASE) is not None
    return normalise(str(wanted)) in normalise(output)


def _problem(wanted: Any) -> str:
    """Return what is wrong with an entry; empty for nothing."""
    if not isinstance(wanted, Mapping):
        return "" if isinstance(wanted, str | int | float) else "has an entry that is no text"
    pattern = wanted.get("regex")
    if set(wanted) != {"regex"} or not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        return "has an object that is no pattern"
    try:
        re.compile(pattern)
    except re.error as error:
        return f"has a pattern that is not valid ({error})"
    return ""


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("_", "")) if found else None


def _items(text: str) -> set[str]:
    value = parse_json(text)
    if isinstance(value, list):
        return {normalise(str(item)) for item in value}
    parts = (item.strip().lstrip("-*\u2022 ") for item in re.split(r"[,;\n]", text))
    return {normalise(item) for item in parts if item.strip(" .")}
