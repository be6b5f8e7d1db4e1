"""What preferred answers and the others differ in besides quality, in pairs or by marks."""

import math
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from ft_tools.data.understand.preferred_wording import Marker, Wording
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


def _counts() -> "array[int]":
    return array("L")


@dataclass
class PairStatistics:
    """Counts over preference pairs or marked answers; of texts only words of a draw.

    A good answer is compared with a bad one, whatever their prompts.
    """

    chosen: "array[int]" = field(default_factory=_counts)
    """Characters of each answer."""
    rejected: "array[int]" = field(default_factory=_counts)
    chosen_marks: "array[int]" = field(default_factory=_counts)
    """Pieces of formatting in each answer."""
    rejected_marks: "array[int]" = field(default_factory=_counts)
    wording: Wording = field(default_factory=Wording)
    liked: int = 0
    disliked: int = 0
    _waiting: "list[str]" = field(default_factory=list)
    """Marked answers that have no partner with the other mark yet."""
    _waiting_are_good: bool = True

    def add(self, example: Example) -> None:
        """Count one example."""
        chosen = "".join(map(content_of, example.chosen))
        if example.task == "kto":
            self._add_marked(example.label is True, chosen)
        else:
            self._add_pair(chosen, "".join(map(content_of, example.rejected)))

    def _add_marked(self, is_good: bool, answer: str) -> None:
        self.liked += is_good
        self.disliked += not is_good
        if self._waiting and self._waiting_are_good != is_good:
            other = self._waiting.pop()
            self._add_pair(*((answer, other) if is_good else (other, answer)))
        elif len(self._waiting) < MAX_SINGLE:
            self._waiting_are_good = is_good
            self._waiting.append(answer)

    def _add_pair(self, chosen: str, rejected: str) -> None:
        self.chosen.append(len(chosen))
        self.rejected.append(len(rejected))
        self.chosen_marks.append(len(FORMATTING.findall(chosen)))
        self.rejected_marks.append(len(FORMATTING.findall(rejected)))
        self.wording.add(chosen, rejected)

    def markers(self) -> list[Marker]:
        """Return the words that tell the sides apart; they are the data's own."""
        return self.wording.markers() if len(self.chosen) >= MIN_PAIRS else []

    def shape(self) -> dict[str, float]:
        """Return figures for the report."""
        marks: dict[str, float] = {"num_liked": self.liked, "num_disliked": self.disliked}
        is_marked = any(marks.values())
        if not self.chosen:
            return marks if is_marked else {}
        pairs = list(zip(self.chosen, self.rejected, strict=True))
        ratios = sorted(c / r for c, r in pairs if r)
        total = len(pairs)
        shape: dict[str, float] = {
            "num_chosen_longer": sum(c > r for c, r in pairs),
            "num_rejected_longer": sum(c < r for c, r in pairs),
            "length_ratio_p50": round(ratios[len(ratios) // 2], 3) if ratios else 0.0,
            "chosen_formatted_fraction": round(sum(map(bool, self.chosen_marks)) / total, 3),
            "rejected_formatted_fraction": round(sum(map(bool, self.rejected_marks)) / total, 3),
        }
        sides = {
            "length": (self.chosen, self.rejected),
            "format": (self.chosen_marks, self.rejected_marks),
        }
        for name, (chosen, rejected) in sides.items():
            logs = [_log_ratio(c, r) for c, r in zip(chosen, rejected, strict=True)]
            shape[f"{name}_effect_size"] = round(effect_size(logs), 3)
            shape[f"{name}_auc"] = round(auc(chosen, rejected), 3)
        if total >= MIN_PAIRS:
            liked, disliked = self.wording.scores()
            gaps = [c - r for c, r in zip(liked, disliked, strict=True)]
            shape["lexical_effect_size"] = round(effect_size(gaps), 3)
            shape["lexical_auc"] = round(auc(liked, disliked), 3)
        return marks | shape if is_marked else shape

    def told_apart_by(self) -> dict[str, float]:
        """Return what alone tells preferred answers from the others, with its AUC or 1 - AUC."""
        shape = self.shape() if len(self.chosen) >= MIN_PAIRS else {}
        names = {"length": "length", "format": "formatting", "lexical": "wording"}
        found = {said: shape.get(f"{name}_auc", 0.5) for name, said in names.items()}
        how_well = {said: max(auc, 1 - auc) for said, auc in found.items()}
        return {said: auc for said, auc in how_well.items() if auc >= 1 - TOLD_APART}

    def findings(self) -> list[tuple[str, int]]:
        """Return the ids of what is out of balance, with the number of examples meant."""
        few, many = sorted((self.liked, self.disliked))
        found = []
        if few + many >= MIN_PAIRS and many > MAX_LABEL_RATIO * few:
            found.append(("label_balance", many - few))
        if len(self.chosen) < MIN_PAIRS:
            return found
        shape = self.shape()
        if self.told_apart_by():
            found.append(("told_apart", len(self.chosen)))
        if _is_biased(shape, "length"):
            longer = max(shape["num_chosen_longer"], shape["num_rejected_longer"])
            found.append(("length_bias", int(longer)))
        if _is_biased(shape, "format"):
            marks = list(zip(self.chosen_marks, self.rejected_marks, strict=True))
            more = max(sum(c > r for c, r in marks), sum(c < r for c, r in marks))
            found.append(("format_bias", more))
        markers = self.markers()
        if markers and _is_biased(shape, "lexical"):
            gap = max(abs(marker.chosen - marker.rejected) for marker in markers)
            found.append(("lexical_bias", round(gap * len(self.chosen))))
        return found


def _is_biased(shape: dict[str, float], name: str) -> bool:
    return (
        abs(shape[f"{name}_effect_size"]) > MAX_EFFECT
        or abs(shape[f"{name}_auc"] - 0.5) > MAX_AUC_OFF
    )


def _log_ratio(chosen: int, rejected: int) -> float:
    return math.log((chosen + 1) / (rejected + 1))


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
    marked = sorted([(n, 1) for n in chosen] + [(n, 0) for n in rejected])
    ranks, at = 0.0, 0
    while at < len(marked):
        end = at
        while end < len(marked) and marked[end][0] == marked[at][0]:
            end += 1
        middle = (at + 1 + end) / 2
        ranks += middle * sum(mark for _, mark in marked[at:end])
        at = end
    n, m = len(chosen), len(rejected)
    return (ranks - n * (n + 1) / 2) / (n * m) if n and m else 0.5
