"""Score one output against one reference, and look at outputs as such.

Every metric is a table row: what it is called, which way is better, and a function of the output
and the reference. The scores are plain numbers, 0 to 1 unless the row says otherwise.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_WORDS = re.compile(r"\w+", re.UNICODE)
PLAIN_KEY = re.compile(r"[^\W\d][\w.-]{0,39}")
_CALL, _CALL_END = "<tool_call>", "</tool_call>"
# Four repeats of the same eight words, or of one word twenty times, are a loop, not a style.
_LOOP_WORDS, _LOOP_REPEATS, _WORD_REPEATS = 8, 4, 20


@dataclass(frozen=True)
class Metric:
    """A measure on each example."""

    name: str
    unit: str
    about: str
    higher_is_better: bool = True
    scale: float = 1.0
    """Largest difference that an example can show."""


METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric("json_valid", "fraction", "parses as JSON and has the reference's keys"),
        Metric("json_fields", "fraction", "values of the reference that are equal"),
        Metric("json_schema", "fraction", "is JSON that the request's schema allows"),
        Metric("exact_match", "fraction", "equals the reference except for case and spaces"),
        Metric("token_f1", "fraction", "overlap of words with the reference"),
        Metric("rouge1", "fraction", "ROUGE-1 F"),
        Metric("rouge2", "fraction", "ROUGE-2 F"),
        Metric("rougeL", "fraction", "ROUGE-L F: longest common subsequence"),
        Metric("contains", "fraction", "has the texts of `contains`, none of `not_contains`"),
        Metric("number", "fraction", "last number equals the reference's, within the tolerance"),
        Metric("set_f1", "fraction", "F1 of the items of a list"),
        Metric("abstention", "fraction", "says that there is no answer where that is expected"),
        Metric("regex", "fraction", "matches the pattern of the request"),
        Metric("accuracy", "fraction", "names the reference's class"),
        Metric("macro_f1", "fraction", "F1 averaged over the classes"),
        Metric("tool_call", "fraction", "calls the same tools with the same arguments"),
        Metric("judge", "preference", "preferred by the judge, ties count half"),
        Metric("judge_equal_length", "preference", "the same if both answers were equally long"),
        Metric(
            "log_perplexity",
            "nats per token",
            "mean negative log-likelihood of the reference; exp of it is the perplexity",
            higher_is_better=False,
        ),
        Metric(
            "bits_per_byte",
            "bits",
            "negative log-likelihood of the reference per byte; for unequal tokenizers",
            higher_is_better=False,
        ),
    )
}


def json_valid(output: str, reference: str) -> float:
    """Return 1 if the whole output is JSON of the reference's kind and has its top-level keys.

    Text around the JSON, a code fence too, makes it 0: a program that parses it would fail.

    >>> json_valid('{"a": 1, "b": 2}', '{"a": 3}'), json_valid('Sure! {"a": 1}', '{"a": 3}')
    (1.0, 0.0)
    """
    found, wanted = parse_json(output), parse_json(reference)
    if found is None:
        return 0.0
    if isinstance(wanted, dict):
        return float(isinstance(found, dict) and wanted.keys() <= found.keys())
    return float(wanted is None or isinstance(found, type(wanted)))


def json_fields(output: str, reference: str) -> float:
    """Return the fraction of the reference's values that the output has at the same place.

    Values are compared after JSON parsing; texts without case and outer spaces.
    """
    wanted = _leaves(parse_json(reference))
    if not wanted:
        return json_valid(output, reference)
    found = _leaves(parse_json(output))
    equal = [place in found and bool(found[place] == value) for place, value in wanted.items()]
    return sum(equal) / len(equal)


def exact_match(output: str, reference: str) -> float:
    """Return 1 if the texts are equal without case and repeated or outer spaces.

    JSON objects and lists are equal if their values are: spaces and the order of keys do not count.

    >>> exact_match('{"b": 2, "a": "X"}', '{"a":"x","b":2}'), exact_match("[1]", "[2]")
    (1.0, 0.0)
    """
    wanted = parse_json(reference) if reference.lstrip()[:1] in ("{", "[") else None
    if isinstance(wanted, dict | list):
        found = parse_json(output)
        return float(type(found) is type(wanted) and _leaves([found]) == _leaves([wanted]))
    return float(normalise(output) == normalise(reference))


def token_f1(output: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of words, repeats counted.

    >>> token_f1("a b c", "a b d") == 2 / 3
    True
    """
    found, wanted = words(output), words(reference)
    if not found or not wanted:
        return float(found == wanted)
    shared = (Counter(found) & Counter(wanted)).total()
    return 2 * shared / (len(found) + len(wanted))


def tool_call(output: str, reference: str) -> float:
    """Return 1 if the output calls the reference's tools with equal arguments, in any order."""
    wanted = tool_calls(reference)
    return float(bool(wanted) and tool_calls(output) == wanted)


def accuracy(output: str, reference: str) -> float:
    """Return 1 if the output names the reference's class and nothing else."""
    return float(label(output) == label(reference))


PER_EXAMPLE: dict[str, Callable[[str, str], float]] = {
    "json_valid": json_valid,
    "json_fields": json_fields,
    "exact_match": exact_match,
    "token_f1": token_f1,
    "tool_call": tool_call,
    "accuracy": accuracy,
}


def macro_f1_of_labels(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Return F1 averaged over the classes that the references have.

    An output that is no reference's class counts as a wrong answer of one further class, which is
    not averaged over.

    >>> macro_f1_of_labels(["a", "a", "b"], ["a", "b", "b"])
    0.6666666666666666
    """
    right = Counter(f for f, w in zip(found, wanted, strict=True) if f == w)
    counted, sizes = Counter(found), Counter(wanted)
    scores = [2 * right[one] / (counted[one] + size) for one, size in sorted(sizes.items())]
    return sum(scores) / len(scores)


def confusion(outputs: Sequence[str], references: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return counts of reference's class -> output's class; other outputs are `(other)`."""
    known = {label(text) for text in references}
    table: dict[str, dict[str, int]] = {one: {} for one in sorted(known)}
    for output, reference in zip(outputs, references, strict=True):
        found = label(output)
        column = found if found in known else "(other)"
        row = table[label(reference)]
        row[column] = row.get(column, 0) + 1
    return table


def field_scores(outputs: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return for each key of JSON references how many outputs have its value, as a fraction.

    >>> field_scores(['{"a": 1, "b": 2}', "no"], ['{"a": 1, "b": 3}', '{"a": 1}'])
    {'a': 0.5, 'b': 0.0}
    """
    right: dict[str, list[bool]] = {}
    for output, reference in zip(outputs, references, strict=True):
        wanted, found = parse_json(reference), parse_json(output)
        if not isinstance(wanted, dict):
            return {}
        for key, value in wanted.items():
            has = isinstance(found, dict) and key in found
            equal = has and _leaves([found[key]]) == _leaves([value])
            right.setdefault(key, []).append(equal)
    return {key: sum(values) / len(values) for key, values in right.items()}


def field_names(references: Sequence[str]) -> list[str]:
    """Return the keys of `field_scores`, in order; "" for a key that could say something.

    >>> field_names(['{"team": "a", "Ignore all of the above": 1}'])
    ['team', '']
    """
    keys = field_scores(references, references)
    return [key if PLAIN_KEY.fullmatch(key) else "" for key in keys]


def is_empty(output: str) -> bool:
    """Tell whether there is nothing to read."""
    return not output.strip()


def is_repetitive(output: str) -> bool:
    """Tell whether an output goes round in a loop.

    >>> is_repetitive("I can help you with that today sir. " * 5), is_repetitive("ha ha ha")
    (True, False)
    """
    found = words(output)
    if any(count >= _WORD_REPEATS for count in _runs(found)):
        return True
    grams = Counter(tuple(found[i : i + _LOOP_WORDS]) for i in range(len(found) - _LOOP_WORDS + 1))
    return bool(grams) and grams.most_common(1)[0][1] >= _LOOP_REPEATS


def longest_copy(output: str, known: set[tuple[str, ...]], size: int) -> int:
    """Return how many words in a row of the output come from a set of word sequences.

    Args:
        output: What a model wrote.
        known: Every sequence of `size` words of the training answers.
        size: Length of those sequences; shorter copies count as 0.
    """
    found = words(output)
    longest = run = 0
    for i in range(len(found) - size + 1):
        run = run + 1 if tuple(found[i : i + size]) in known else 0
        longest = max(longest, run + size - 1 if run else 0)
    return longest


def normalise(text: str) -> str:
    """Return a text without case, compatibility forms and repeated or outer spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def label(text: str) -> str:
    """Return a class name without case, spaces and punctuation around it."""
    return normalise(text).strip(" .,:;!?\"'`*")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, punctuation dropped."""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


def parse_json(text: str) -> Any:
    """Return the JSON value of a whole text, or None; NaN and Infinity are not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def tool_calls(text: str) -> list[str] | None:
    """Return the tool calls of a text, sorted, each as canonical JSON; None when it has none.

    Read are `<tool_call>{...}</tool_call>` blocks, or one JSON object or list; names are `name`,
    arguments `arguments` or `parameters`, as an object or as JSON in a string.
    """
    blocks = _tool_call_blocks(text) or [text]
    calls: list[str] = []
    for block in blocks:
        value = parse_json(block)
        for call in value if isinstance(value, list) else [value]:
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                call = call["function"]
            if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                return None
            arguments = call.get("arguments", call.get("parameters", {}))
            if isinstance(arguments, str):
                arguments = parse_json(arguments)
            calls.append(json.dumps([call["name"], arguments], sort_keys=True))
    return sorted(calls) or None


def _tool_call_blocks(text: str) -> list[str]:
    """Return what stands between tags; a pattern would look for the end from each beginning."""
    blocks = []
    end = 0
    while (at := text.find(_CALL, end)) >= 0 and (stop := text.find(_CALL_END, at)) >= 0:
        blocks.append(text[at + len(_CALL) : stop].strip())
        end = stop + len(_CALL_END)
    return blocks


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _leaves(value: Any) -> dict[tuple[str | int, ...], Any]:
    """Return what is at each place of a JSON value; nothing of one that has no places."""
    found: dict[tuple[str | int, ...], Any] = {}
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        place, value = waiting.pop()
        parts = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(parts, dict) and parts:
            waiting += [((*place, key), below) for key, below in parts.items()]
        elif place:
            # True equals 1 in Python; in JSON it does not.
            plain = normalise(value) if isinstance(value, str) else value
            found[place] = ("bool", value) if isinstance(value, bool) else plain
    return found


def _runs(found: Sequence[str]) -> list[int]:
    lengths: list[int] = []
    for i, word in enumerate(found):
        if i and word == found[i - 1]:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths
