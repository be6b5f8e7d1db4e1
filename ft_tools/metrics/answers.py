"""Describe sets of answers: by field, by class, by trivial difference, by defect."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from ft_tools.metrics.text import label, leaves, parse_json, words

# Four repeats of the same eight words, or of one word twenty times, are a loop, not a style.
LOOP_WORDS, LOOP_REPEATS, WORD_REPEATS = 8, 4, 20
OTHER = "(other)"
MAX_CLASSES, MIN_EXAMPLES_PER_CLASS = 100, 2

Trivial = Literal["null_or_empty", "case", "key_order"]
"""What an answer alone differs in from its reference: null, "", [], {} or a missing key; upper and
lower case or spaces; the order of JSON keys."""


def trivial_difference(output: str, reference: str) -> Trivial | None:
    """Return what alone an answer differs in from its reference; None if in nothing or in more.

    >>> trivial_difference('{"a": 1, "b": null}', '{"a": 1, "b": ""}')
    'null_or_empty'
    >>> trivial_difference("Oslo", "oslo"), trivial_difference("Oslo", "Bergen")
    ('case', None)
    >>> trivial_difference('{"b": 1, "a": 2}', '{"a": 2, "b": 1}')
    'key_order'
    """
    found, wanted = parse_json(output), parse_json(reference)
    if not isinstance(wanted, dict | list) or type(found) is not type(wanted):
        texts = [" ".join(text.split()) for text in (output, reference)]
        differs = texts[0] != texts[1] and texts[0].casefold() == texts[1].casefold()
        return "case" if differs else None
    ours, theirs = leaves([found]), leaves([wanted])
    if ours == theirs:
        if found != wanted:
            return "case"
        return "key_order" if list(ours) != list(theirs) else None
    same = [{k: v for k, v in part.items() if v not in EMPTY} for part in (ours, theirs)]
    return "null_or_empty" if same[0] == same[1] else None


EMPTY: tuple[Any, ...] = (None, "", [], {})


def trivial_differences(outputs: Sequence[str], references: Sequence[str]) -> dict[str, int]:
    """Count the answers that differ from their reference only trivially, by kind."""
    pairs = zip(outputs, references, strict=True)
    return dict(Counter(kind for pair in pairs if (kind := trivial_difference(*pair))))


def confusion(outputs: Sequence[str], references: Sequence[str]) -> dict[str, Counter[str]]:
    """Return counts of reference's class -> output's class; other outputs are `(other)`."""
    wanted, found = ([label(text) for text in texts] for texts in (references, outputs))
    table = {one: Counter[str]() for one in sorted(set(wanted))}
    for reference, output in zip(wanted, found, strict=True):
        table[reference][output if output in table else OTHER] += 1
    return table


def columns_of(answers: Sequence[str]) -> dict[str | None, list[str]]:
    """Return what classes there may be: each key of JSON objects, else the whole answer under None.

    Of a JSON key the values are JSON, empty where it is missing. Whole answers that differ only in
    case or punctuation are one class, written as first seen.
    """
    parsed = [parse_json(answer) for answer in answers]
    if not all(isinstance(value, dict) and value for value in parsed):
        names: dict[str, str] = {}
        return {None: [names.setdefault(label(answer), answer) for answer in answers]}
    keys = dict.fromkeys(key for value in parsed for key in value)
    return {
        key: [json.dumps(v[key], ensure_ascii=False) if key in v else "" for v in parsed]
        for key in keys
    }


def has_classes(values: Sequence[str]) -> bool:
    """Return whether the values are few enough to be classes."""
    few = min(MAX_CLASSES, len(values) // MIN_EXAMPLES_PER_CLASS)
    return 1 < len(set(values)) <= max(2, few)


def is_repetitive(output: str) -> bool:
    """Return whether an output repeats itself in a loop.

    >>> is_repetitive("I can help you with that today sir. " * 5), is_repetitive("ha ha ha")
    (True, False)
    """
    found = words(output)
    run = 0
    for i, word in enumerate(found):
        run = run + 1 if i and word == found[i - 1] else 1
        if run >= WORD_REPEATS:
            return True
    grams = Counter(tuple(found[i : i + LOOP_WORDS]) for i in range(len(found) - LOOP_WORDS + 1))
    return bool(grams) and grams.most_common(1)[0][1] >= LOOP_REPEATS
