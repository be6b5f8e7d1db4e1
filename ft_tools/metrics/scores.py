"""Score one output: functions of the output and what is expected, from 0 to 1."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ft_tools.errors import BadData
from ft_tools.metrics.text import (
    equal_texts,
    is_latin,
    label,
    leaves,
    list_items,
    matches,
    normalise,
    parse_json,
    tool_calls,
    words,
)

MAX_PATTERN = 500
CURE = f'write texts, or {{"regex": "..."}} with at most {MAX_PATTERN} characters'


@dataclass(frozen=True)
class Scoring:
    """What the metrics of one evaluation share."""

    references: Sequence[str]
    rows: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def rouge(self) -> Callable[[str, str], Mapping[str, float]]:
        """Return rouge-score's F values; its own tokenizer unless the texts are not Latin."""
        # It loads NLTK and scikit-learn: a second or two that only this metric needs.
        from rouge_score import rouge_scorer

        tokenizer = None if is_latin(self.references) else _AllScripts()
        names = ["rouge1", "rouge2", "rougeL"]
        scorer = rouge_scorer.RougeScorer(names, use_stemmer=False, tokenizer=tokenizer)

        def rouge(output: str, reference: str) -> dict[str, float]:
            found = scorer.score(reference, output)
            return {name: float(found[name].fmeasure) for name in names}

        return rouge


@dataclass(frozen=True)
class ExpectedAnswer:
    """What is expected of one output."""

    reference: str
    row: Mapping[str, Any] = field(default_factory=dict)
    scoring: Scoring = Scoring(())


def json_valid(output: str, expected: ExpectedAnswer) -> float:
    """Return 1 if the whole output is JSON of the reference's kind and has its top-level keys.

    Text around the JSON, a code fence too, makes it 0: a program that parses it would fail.

    >>> json_valid('{"a": 1, "b": 2}', ExpectedAnswer('{"a": 3}'))
    1.0
    >>> json_valid('Sure! {"a": 1}', ExpectedAnswer('{"a": 3}'))
    0.0
    """
    found, wanted = parse_json(output), parse_json(expected.reference)
    if found is None:
        return 0.0
    if isinstance(wanted, dict):
        return float(isinstance(found, dict) and wanted.keys() <= found.keys())
    return float(wanted is None or isinstance(found, type(wanted)))


def json_fields(output: str, expected: ExpectedAnswer) -> float:
    """Return the fraction of the reference's values that the output has at the same place."""
    wanted = leaves(parse_json(expected.reference))
    if not wanted:
        return json_valid(output, expected)
    found = leaves(parse_json(output))
    equal = [place in found and bool(found[place] == value) for place, value in wanted.items()]
    return sum(equal) / len(equal)


def exact_match(output: str, expected: ExpectedAnswer) -> float:
    """Return 1 if the texts are equal without case and repeated or outer spaces.

    JSON objects and lists are equal if their values are: spaces and the order of keys do not count.

    >>> exact_match('{"b": 2, "a": "X"}', ExpectedAnswer('{"a":"x","b":2}'))
    1.0
    """
    return float(equal_texts(output, expected.reference))


def token_f1(output: str, expected: ExpectedAnswer) -> float:
    """Return the harmonic mean of precision and recall of words, repeats counted.

    >>> token_f1("a b c", ExpectedAnswer("a b d")) == 2 / 3
    True
    """
    found, wanted = words(output), words(expected.reference)
    if not found or not wanted:
        return float(found == wanted)
    shared = (Counter(found) & Counter(wanted)).total()
    return 2 * shared / (len(found) + len(wanted))


def tool_call(output: str, expected: ExpectedAnswer) -> float:
    """Return 1 if the output calls the reference's tools with equal arguments, in any order."""
    wanted = tool_calls(expected.reference)
    return float(bool(wanted) and tool_calls(output) == wanted)


def accuracy(output: str, expected: ExpectedAnswer) -> float:
    """Return 1 if the output names the reference's class and nothing else."""
    return float(label(output) == label(expected.reference))


def contains(output: str, expected: ExpectedAnswer) -> float:
    r"""Return 1 if all of `contains` occurs and nothing of `not_contains`, without case.

    >>> contains("It costs 15 EUR.", ExpectedAnswer("", {"contains": ["5 eur"]}))
    1.0
    >>> contains("It costs 15 EUR.", ExpectedAnswer("", {"contains": [{"regex": r"\b5 EUR"}]}))
    0.0
    """
    row = expected.row
    must = all(occurs(wanted, output) for wanted in entries(row.get("contains")))
    return float(must and not any(occurs(t, output) for t in entries(row.get("not_contains"))))


def is_near(found: float, wanted: float, *, relative: float = 0, absolute: float = 0) -> bool:
    """Return whether two numbers differ by at most the larger tolerance."""
    return abs(found - wanted) <= max(absolute, relative * abs(wanted)) + 1e-12


def set_f1(output: str, expected: ExpectedAnswer) -> float:
    """Return F1 of the items of a list.

    >>> set_f1('["a", "B"]', ExpectedAnswer("b, c"))
    0.5
    """
    found, wanted = list_items(output), list_items(expected.reference)
    if not found or not wanted:
        return float(found == wanted)
    return 2 * len(found & wanted) / (len(found) + len(wanted))


def rouge(name: str) -> Callable[[str, ExpectedAnswer], float]:
    """Return what scores an output by a ROUGE F: rouge1, rouge2 or rougeL."""
    return lambda output, expected: expected.scoring.rouge(output, expected.reference)[name]


def macro_f1(outputs: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return what each example adds to F1 averaged over the references' classes: values of mean F1.

    An output that is no reference's class counts as a wrong answer of one further class, which is
    not averaged over. With F_c = 2 T_c / (S_c + P_c) of T_c right ones, S_c references and P_c
    outputs of a class, an example is F1 plus its influence on it: the average over the classes of
    n (2 t_c - F_c (s_c + p_c)) / (S_c + P_c), with its own counts in small letters. So the interval
    of their mean is that of F1 by the delta method.

    Source: J.-C. Deville, Survey Methodology 25 (1999), 193-203

    >>> values = macro_f1(["a", "a", "b"], ["a", "b", "b"])
    >>> round(sum(values) / 3, 6)
    0.666667
    """
    found, wanted = ([label(text) for text in texts] for texts in (outputs, references))
    right = Counter(f for f, w in zip(found, wanted, strict=True) if f == w)
    size = Counter(found) + Counter(wanted)
    classes = set(wanted)
    f1 = {one: 2 * right[one] / size[one] for one in classes}
    n, mean = len(wanted), sum(f1.values()) / len(classes)

    def influence(one: str, output: str, reference: str) -> float:
        own = 2 * (output == reference) - f1[one] * ((output == one) + (reference == one))
        return n * own / size[one] / len(classes)

    return [
        mean + sum(influence(one, f, w) for one in {f, w} & classes)
        for f, w in zip(found, wanted, strict=True)
    ]


def require_patterns(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Refuse a row whose `contains` or `not_contains` cannot be read.

    Args:
        rows: Line number and row.

    Raises:
        BadData: An entry is neither a text nor a valid pattern; the line is named.
    """
    for line, row in rows:
        for name in ("contains", "not_contains"):
            for wanted in entries(row.get(name)):
                problem = entry_problem(wanted)
                if problem:
                    raise BadData("the dataset", f"{name} {problem}", CURE, line)


def entries(value: Any) -> list[Any]:
    """Return the texts and patterns of `contains`: a list, or one alone."""
    return value if isinstance(value, list) else [] if value is None else [value]


def occurs(wanted: Any, output: str) -> bool:
    """Return whether a text occurs, whatever the spaces, or a pattern matches; without case."""
    if isinstance(wanted, Mapping):
        return matches(str(wanted["regex"]), output, ignore_case=True)
    return normalise(str(wanted)) in normalise(output)


def entry_problem(wanted: Any) -> str:
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


class _AllScripts:
    """Words of any script for rouge-score; where a script has no spaces, its characters."""

    def tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        for word in words(text):
            # Kana, CJK and Hangul start at U+3040; they write without spaces, or nearly so.
            tokens += list(word) if any(ord(c) >= 0x3040 for c in word) else [word]
        return tokens
