"""The checks that read an answer and nothing else; each from 0 to 1.

An answer is whatever a model wrote: empty, endless, of any characters. None may raise.
"""

import ast
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ft_tools.metrics.checks.request import (
    Equals,
    Extract,
    JsonSchema,
    Length,
    Number,
    Pattern,
    Texts,
)
from ft_tools.metrics.text import (
    all_matches,
    equal_texts,
    equal_values,
    last_number,
    matches,
    normalise,
    parse_json,
    without_thought,
    words,
)

Row = Mapping[str, Any]
MISSING = object()
MAX_PATTERN = 500
FENCE = "```"
ECHO_WORDS = 4
"""A line of the prompt with as many words that an answer repeats is an echo."""
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def equals(check: Equals, answer: str, row: Row) -> float:
    """Return 1 if the answer has one value, and it is the reference's.

    >>> check = Equals(kind="equals", extract=Extract(pattern="Answer: (.*)"))
    >>> equals(check, "Answer: A", {"answer": "a"})
    1.0
    >>> equals(check, "Answer: A", {"answer": "By rule 2. Answer: A"})
    1.0
    >>> equals(check, "Answer: A, Answer: B".replace(", ", chr(10)), {"answer": "a"})
    0.0
    """
    wanted, keep_case = _wanted(check, row), check.case_sensitive
    value = value_in(answer, check.extract, keep_case=keep_case)
    return float(same(value, wanted, keep_case=keep_case))


def _wanted(check: Equals | Number, row: Row) -> Any:
    """Return the value of the reference, which may be a whole answer or the bare value."""
    reference = row[check.reference]
    if isinstance(reference, str):
        # A column of its own may hold thoughts too.
        reference = without_thought(reference)
    if check.extract is None:
        return reference
    value = value_in(as_text(reference), check.extract)
    return reference if value is MISSING else value


def number(check: Number, answer: str, row: Row) -> float:
    """Return 1 if the answer's number is the reference's."""
    value = value_in(answer, check.extract)
    found = None if value is MISSING else last_number(as_text(value))
    wanted = last_number(as_text(_wanted(check, row)))
    if found is None or wanted is None:
        return 0.0
    most = max(check.absolute_tolerance, check.relative_tolerance * abs(wanted))
    return float(abs(found - wanted) <= most + 1e-12)


def json_schema(check: JsonSchema, conforms: Callable[[str], bool], answer: str, row: Row) -> float:
    """Return the share of values that are right in an answer that is JSON of the schema."""
    if not conforms(answer):
        return 0.0
    answered = parse_json(answer)
    right = [same(at(answered, place), row[name]) for place, name in check.values.items()]
    return sum(right) / len(right) if right else 1.0


def pattern(check: Pattern, answer: str, row: Row) -> float:
    """Return 1 if all of the answer, outer spaces apart, matches."""
    return float(matches(check.pattern, answer.strip(), whole=True))


def contains(check: Texts, answer: str, row: Row) -> float:
    """Return 1 if all texts occur in what the answer does not repeat of the prompt."""
    own = normalise(answer)
    for line in _long_lines(str(row.get("prompt") or "")):
        own = own.replace(line, " ")
    return float(all(occurs(text, own) for text in texts_of(check, row)))


def lacks(check: Texts, answer: str, row: Row) -> float:
    """Return 1 if no text occurs in the answer, signs that nobody sees apart."""
    shown = "".join(sign for sign in answer if unicodedata.category(sign) != "Cf")
    return float(not any(occurs(text, shown) for text in texts_of(check, row)))


def length(check: Length, answer: str, row: Row) -> float:
    """Return 1 within the band.

    >>> [length(Length(kind="length", min=2, max=4), "a " * n, {}) for n in (1, 2, 5, 8)]
    [0.5, 1.0, 0.75, 0.0]
    """
    size = len(answer.strip()) if check.unit == "characters" else len(words(answer))
    if size < max(1, check.min):
        return size / max(1, check.min)
    return max(0.0, 1 - max(0, size - check.max) / check.max)


def occurs(wanted: Any, text: str) -> bool:
    """Return whether a text occurs, whatever the spaces, or a pattern matches; without case."""
    if isinstance(wanted, Mapping):
        return matches(str(wanted["regex"]), text, ignore_case=True)
    return normalise(str(wanted)) in normalise(text)


def problem_with(wanted: Any) -> str:
    """Return why nothing can be looked for; empty if something can."""
    if not isinstance(wanted, Mapping):
        if not isinstance(wanted, str | int | float):
            return "has an entry that is no text"
        return "" if str(wanted).strip() else "has no text to look for"
    pattern = wanted.get("regex")
    if set(wanted) != {"regex"} or not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        return f'has an object that is not {{"regex": "..."}} of at most {MAX_PATTERN} characters'
    try:
        re.compile(pattern)
    except re.error as error:
        return f"has a pattern that is not valid ({error})"
    return ""


def texts_of(check: Texts, row: Row) -> list[Any]:
    """Return the texts and patterns of a check; a column may have one alone."""
    texts = row[check.texts] if isinstance(check.texts, str) else check.texts
    return texts if isinstance(texts, list) else [] if texts is None else [texts]


def tests_of(value: Any) -> str | None:
    """Return the tests of a row; None where it has no text."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return value if isinstance(value, str) else None


def problem_with_tests(tests: str | None) -> str:
    """Return why tests cannot fail any answer, or cannot run; empty if neither."""
    try:
        nodes = list(ast.walk(ast.parse(tests or "")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "is not Python"
    asserts = ("assert", "fail", "raises")
    if any(
        isinstance(node, ast.Assert | ast.Raise)
        or (isinstance(node, ast.Attribute) and node.attr.startswith(asserts))
        for node in nodes
    ):
        return ""
    return "has no assertion"


def as_text(value: Any) -> str:
    """Return a column's value as the text that an answer would have."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return ""


def code_in(answer: str) -> str:
    r"""Return the code of an answer: its last fenced block, or all of it.

    >>> code_in("Like this:\n```python\nx = 1\n```\nThat is all.")
    'x = 1'
    """
    blocks: list[list[str]] = []
    is_open = False
    for line in answer.split("\n"):
        if line.lstrip().startswith(FENCE):
            is_open = not is_open
            blocks += [[]] if is_open else []
        elif is_open:
            blocks[-1].append(line)
    return "\n".join(blocks[-1]) if blocks else answer


def value_in(answer: str, extract: Extract | None, *, keep_case: bool = False) -> Any:
    """Return the one value of an answer; MISSING where it has none, or several that differ."""
    if extract is None:
        return answer
    if extract.json_path is not None:
        return at(parse_json(answer), extract.json_path)
    texts = all_matches(extract.pattern or "", answer)
    distinct = {normalise(text, keep_case=keep_case) for text in texts}
    return texts[0] if len(distinct) == 1 else MISSING


def at(value: Any, path: str) -> Any:
    """Return what is at a place of a JSON value; MISSING if nothing is.

    >>> at({"a": {"b": [7]}}, "a.b[0]"), at({"a": 1}, "b") is MISSING
    (7, True)
    """
    for index, key in _STEP.findall(path):
        if index and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
        elif key and isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return MISSING
    return value


def same(found: Any, wanted: Any, *, keep_case: bool = False) -> bool:
    """Return whether an answer's value is a column's; the column may hold it as text."""
    if found is MISSING:
        return False
    if isinstance(found, str) or isinstance(wanted, str):
        return equal_texts(as_text(found), as_text(wanted), keep_case=keep_case)
    return equal_values(found, wanted, keep_case=keep_case)


@lru_cache(maxsize=256)
def _long_lines(prompt: str) -> tuple[str, ...]:
    lines = {normalise(line) for line in (prompt, *prompt.splitlines())}
    return tuple(sorted((x for x in lines if len(x.split()) >= ECHO_WORDS), key=len, reverse=True))
