"""What preferred answers and the others differ in besides quality, in pairs or by marks."""

import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ft_tools.data.read.spread import Spread
from ft_tools.formats.example import Example, content_of

# Cohen's "medium" effect. Direction alone is no problem: in real data either side may be longer.
# Source: Cohen 1988, ISBN 0-8058-0283-5.
MAX_EFFECT = 0.5
MAX_AUC_OFF = 0.15
TOLD_APART = 0.02
"""AUC from 0 or 1 within which a figure alone tells good from bad. Judgement."""
MIN_PAIRS = 20
MAX_SINGLE = 2000
"""Marked answers that wait for a partner: a file may have all good ones first."""
# TRL's KTO weights are advised when labels are further apart than 1:1 to 4:3.
# Source: https://huggingface.co/docs/trl/kto_trainer
MAX_LABEL_RATIO = 4 / 3
# No run of blanks is crossed from each of its line breaks: the time is linear in the text.
FORMATTING = re.compile(
    r"^[^\S\n]*+(?:[-*+] |\d++[.)] |#{1,6} |```|\|)|\*\*[^*\n]++\*\*", re.MULTILINE
)
"""Items of lists, headings, code blocks, rows of tables and bold words."""
SAMPLE = 2000
"""Pairs whose words are remembered, spread over the file."""
WORD = re.compile(r"[^\W_]+|[^\w\s]")
"""Signs are words too: what ends with an exclamation mark may be all that tells the sides apart."""
MAX_WORDS = 300
FIRST, LAST = "^", "$"
"""Stand before the word that an answer begins with, or ends with."""
MAX_LAST = 40
"""Characters in which the last word is looked for."""
MIN_GAP = 0.15
"""Of the pairs: how much more often one side must have a word."""
# McNemar's z of a word. About 100,000 words are tried: chance alone reaches 4.4 once in 100,000.
MIN_Z = 5.0
MAX_MARKERS = 12
Words = frozenset[str]


class Marker(NamedTuple):
    """A word of the data that one side has, and the share of the pairs in which each has it."""

    word: str
    chosen: float
    rejected: float


class PairStatistics:
    """Counts over preference pairs or marked answers; of texts only words of a draw.

    A good answer is compared with a bad one, whatever their prompts.
    """

    def __init__(self) -> None:
        self._lengths = array("L"), array("L")
        """Characters of each chosen and each rejected answer."""
        self._formatting = array("L"), array("L")
        """Pieces of formatting in each."""
        self._words = Spread[tuple[Words, Words]](SAMPLE)
        self._num_good = self._num_bad = 0
        self._waiting: list[str] = []
        """Marked answers that have no partner with the other mark yet."""
        self._waiting_are_good = True

    def add(self, example: Example) -> None:
        """Count one example."""
        chosen = "".join(map(content_of, example.chosen))
        if example.task == "kto":
            self._add_marked(example.label is True, chosen)
        else:
            self._add_pair(chosen, "".join(map(content_of, example.rejected)))

    def _add_marked(self, is_good: bool, answer: str) -> None:
        self._num_good += is_good
        self._num_bad += not is_good
        if self._waiting and self._waiting_are_good != is_good:
            other = self._waiting.pop()
            self._add_pair(*((answer, other) if is_good else (other, answer)))
        elif len(self._waiting) < MAX_SINGLE:
            self._waiting_are_good = is_good
            self._waiting.append(answer)

    def _add_pair(self, chosen: str, rejected: str) -> None:
        self._words.add(lambda: (words_of(chosen), words_of(rejected)))
        for side, text in enumerate((chosen, rejected)):
            self._lengths[side].append(len(text))
            self._formatting[side].append(len(FORMATTING.findall(text)))

    @property
    def _num_pairs(self) -> int:
        return len(self._lengths[0])

    def markers(self) -> list[Marker]:
        """Return the words that tell the sides apart, the plainest first; they are the data's."""
        words = self._words.items
        total = len(words)
        if self._num_pairs < MIN_PAIRS:
            return []
        having = [Counter(word for pair in words for word in pair[side]) for side in (0, 1)]
        both = Counter(word for chosen, rejected in words for word in chosen & rejected)
        found = []
        for word in having[0] | having[1]:
            gap = abs(having[0][word] - having[1][word])
            num_alone = having[0][word] + having[1][word] - 2 * both[word]
            if gap >= MIN_GAP * total and gap >= MIN_Z * math.sqrt(num_alone):
                found.append(Marker(word, *(round(side[word] / total, 3) for side in having)))
        return sorted(found, key=lambda m: (-abs(m.chosen - m.rejected), m.word))[:MAX_MARKERS]

    def shape(self) -> dict[str, float]:
        """Return figures for the report."""
        shape: dict[str, float] = {}
        if self._num_good or self._num_bad:
            shape = {"num_liked": self._num_good, "num_disliked": self._num_bad}
        if not self._num_pairs:
            return shape
        pairs = list(zip(*self._lengths, strict=True))
        ratios = sorted(c / r for c, r in pairs if r)
        shape |= {
            "num_chosen_longer": sum(c > r for c, r in pairs),
            "num_rejected_longer": sum(c < r for c, r in pairs),
            "length_ratio_p50": round(ratios[len(ratios) // 2], 3) if ratios else 0.0,
        }
        for name, counts in zip(("chosen", "rejected"), self._formatting, strict=True):
            fraction = sum(map(bool, counts)) / self._num_pairs
            shape[f"{name}_formatted_fraction"] = round(fraction, 3)
        for name, sides in (("length", self._lengths), ("format", self._formatting)):
            logs = [math.log((c + 1) / (r + 1)) for c, r in zip(*sides, strict=True)]
            shape[f"{name}_effect_size"] = round(effect_size(logs), 3)
            shape[f"{name}_auc"] = round(auc(*sides), 3)
        if self._num_pairs >= MIN_PAIRS:
            chosen, rejected = _scores_by_words(self._words.items)
            gaps = [c - r for c, r in zip(chosen, rejected, strict=True)]
            shape["lexical_effect_size"] = round(effect_size(gaps), 3)
            shape["lexical_auc"] = round(auc(chosen, rejected), 3)
        return shape

    def findings(self) -> list[tuple[str, int]]:
        """Return the ids of what is out of balance, with the number of examples meant."""
        few, many = sorted((self._num_good, self._num_bad))
        found = []
        if few + many >= MIN_PAIRS and many > MAX_LABEL_RATIO * few:
            found.append(("label_balance", many - few))
        if self._num_pairs < MIN_PAIRS:
            return found
        shape = self.shape()
        off = {name: abs(shape[f"{name}_auc"] - 0.5) for name in ("length", "format", "lexical")}
        if max(off.values()) >= 0.5 - TOLD_APART:
            found.append(("told_apart", self._num_pairs))
        counts = {"lexical": 0}
        for name, sides in (("length", self._lengths), ("format", self._formatting)):
            pairs = list(zip(*sides, strict=True))
            counts[name] = max(sum(c > r for c, r in pairs), sum(c < r for c, r in pairs))
        if markers := self.markers():
            gap = max(abs(marker.chosen - marker.rejected) for marker in markers)
            counts["lexical"] = round(gap * self._num_pairs)
        for name, distance in off.items():
            is_biased = abs(shape[f"{name}_effect_size"]) > MAX_EFFECT or distance > MAX_AUC_OFF
            if is_biased and counts[name]:
                found.append((f"{name}_bias", counts[name]))
        return found


def words_of(text: str) -> Words:
    """Return the different words among the first of a text, the first and the last one marked.

    >>> sorted(words_of("Sure, sure. Yes"))
    ['$yes', ',', '.', '^sure', 'sure', 'yes']
    """
    words = WORD.findall(text[: 12 * MAX_WORDS].lower())[:MAX_WORDS]
    last = WORD.findall(text[-MAX_LAST:].lower())[-1:]
    return frozenset([*words, FIRST + words[0], *(LAST + word for word in last)] if words else [])


def _scores_by_words(pairs: list[tuple[Words, Words]]) -> tuple[list[float], list[float]]:
    """Score each side by which words it has.

    Naive Bayes with add-one smoothing, fitted to one half of the pairs and tried on the other. A
    score is the mean weight, so that a longer answer is not rated by its length.
    """
    scores = [0.0] * len(pairs), [0.0] * len(pairs)
    for half in (0, 1):
        fitted = pairs[1 - half :: 2]
        liked = Counter(word for chosen, _ in fitted for word in chosen)
        disliked = Counter(word for _, rejected in fitted for word in rejected)
        weights = {w: math.log((liked[w] + 1) / (disliked[w] + 1)) for w in liked | disliked}
        for at in range(half, len(pairs), 2):
            for side, words in enumerate(pairs[at]):
                # The sum does not depend on the order in which a set gives its words.
                total = math.fsum(weights.get(word, 0.0) for word in words)
                scores[side][at] = total / max(1, len(words))
    return scores


def effect_size(differences: Sequence[float]) -> float:
    """Return Cohen's d of paired differences: their mean by their standard deviation.

    >>> round(effect_size([0.647, -0.647, 1.036]), 2)
    0.39
    """
    if len(differences) < 2:
        return 0.0
    mean = sum(differences) / len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / (len(differences) - 1)
    if variance < 1e-24:
        return 0.0 if abs(mean) < 1e-12 else math.copysign(99.0, mean)
    return mean / math.sqrt(variance)


def auc(chosen: Sequence[float], rejected: Sequence[float]) -> float:
    """Return the AUC of a classifier that knows only these (Mann-Whitney, ties count half).

    >>> auc([3, 4], [1, 2]), auc([1], [1])
    (1.0, 0.5)
    """
    # numpy is slow to import for tools that compare nothing.
    import numpy as np

    n, m = len(chosen), len(rejected)
    if not n or not m:
        return 0.5
    values = np.concatenate([np.asarray(chosen), np.asarray(rejected)])
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
