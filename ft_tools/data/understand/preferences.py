"""What preferred answers and the others differ in besides quality, in pairs or by marks."""

import math
import re
from array import array
from collections.abc import Sequence

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


class PairStatistics:
    """Counts over preference pairs or marked answers.

    A good answer is compared with a bad one, whatever their prompts.
    """

    def __init__(self) -> None:
        self._lengths = array("L"), array("L")
        """Characters of each chosen and each rejected answer."""
        self._formatting = array("L"), array("L")
        """Pieces of formatting in each."""
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
        for side, text in enumerate((chosen, rejected)):
            self._lengths[side].append(len(text))
            self._formatting[side].append(len(FORMATTING.findall(text)))

    @property
    def _num_pairs(self) -> int:
        return len(self._lengths[0])

    def shape(self) -> dict[str, float]:
        """Return figures for the report."""
        shape: dict[str, float] = {}
        if self._num_good or self._num_bad:
            shape = {"num_liked": self._num_good, "num_disliked": self._num_bad}
        if not self._num_pairs:
            return shape
        for name, sides in (("length", self._lengths), ("format", self._formatting)):
            logs = [math.log((c + 1) / (r + 1)) for c, r in zip(*sides, strict=True)]
            shape[f"{name}_effect_size"] = round(effect_size(logs), 3)
            shape[f"{name}_auc"] = round(auc(*sides), 3)
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
        for name, sides in (("length", self._lengths), ("format", self._formatting)):
            pairs = list(zip(*sides, strict=True))
            off = abs(shape[f"{name}_auc"] - 0.5)
            if off >= 0.5 - TOLD_APART and "told_apart" not in dict(found):
                found.append(("told_apart", self._num_pairs))
            if abs(shape[f"{name}_effect_size"]) > MAX_EFFECT or off > MAX_AUC_OFF:
                count = max(sum(c > r for c, r in pairs), sum(c < r for c, r in pairs))
                found.append((f"{name}_bias", count))
        return found


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
