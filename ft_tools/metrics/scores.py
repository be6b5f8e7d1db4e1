"""Score outputs by their references, from 0 to 1."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from ft_tools.metrics.text import (
    equal_texts,
    label,
    leaves,
    list_items,
    parse_json,
    tool_calls,
    words,
)


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
    """Return the fraction of the reference's values that the output has at the same place."""
    wanted = leaves(parse_json(reference))
    if not wanted:
        return json_valid(output, reference)
    found = leaves(parse_json(output))
    equal = [place in found and bool(found[place] == value) for place, value in wanted.items()]
    return sum(equal) / len(equal)


def exact_match(output: str, reference: str) -> float:
    """Return 1 if the texts are equal without case and repeated or outer spaces.

    JSON objects and lists are equal if their values are: spaces and the order of keys do not count.

    >>> exact_match('{"b": 2, "a": "X"}', '{"a":"x","b":2}')
    1.0
    """
    return float(equal_texts(output, reference))


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


def set_f1(output: str, reference: str) -> float:
    """Return F1 of the items of a list.

    >>> set_f1('["a", "B"]', "b, c")
    0.5
    """
    found, wanted = list_items(output), list_items(reference)
    if not found or not wanted:
        return float(found == wanted)
    return 2 * len(found & wanted) / (len(found) + len(wanted))


def rouge(name: str) -> Callable[[str, str], float]:
    """Return what scores an output by rouge-score's F: of rouge1, rouge2 or rougeL."""

    def score(output: str, reference: str) -> float:
        return float(_rouge(name).score(reference, output)[name].fmeasure)

    return score


@cache
def _rouge(name: str) -> Any:
    # It loads NLTK and scikit-learn: a second or two that only this metric needs.
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer([name], tokenizer=_AllScripts())


class _AllScripts:
    """Words of any script for rouge-score, whose own are of a to z; without spaces, characters."""

    def tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        for word in words(text):
            # Kana, CJK and Hangul start at U+3040; they write without spaces, or nearly so.
            tokens += list(word) if any(ord(c) >= 0x3040 for c in word) else [word]
        return tokens


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
