"""What the two sides of preference pairs differ in besides quality."""

import math
import re
from array import array
from dataclasses import dataclass, field

from ft_tools.data.example import Example, content_of

# Cohen's "medium" effect. Direction alone is no problem: in real data either side may be longer.
# Source: Cohen 1988, ISBN 0-8058-0283-5; anchors in facts/dataset section 5.
MAX_EFFECT = 0.5
MAX_AUC_OFF = 0.15
MAX_FORMAT_GAP = 0.25
MIN_PAIRS = 20
# TRL's KTO weights are advised when labels are further apart than 1:1 to 4:3.
# Source: https://huggingface.co/docs/trl/kto_trainer
MAX_LABEL_RATIO = 4 / 3
FORMATTING = re.compile(r"^\s*(?:[-*+] |\d+[.)] |#{1,6} |```)", re.MULTILINE)


def _lengths() -> "array[int]":
    return array("L")


@dataclass
class PairStatistics:
    """Counts over preference pairs or marked answers, without their texts."""

    chosen: "array[int]" = field(default_factory=_lengths)
    rejected: "array[int]" = field(default_factory=_lengths)
    chosen_formatted: int = 0
    rejected_formatted: int = 0
    liked: int = 0
    disliked: int = 0

    def add(self, example: Example) -> None:
        """Count one example."""
        if example.task == "kto":
            self.liked += example.label is True
            self.disliked += example.label is False
            return
        chosen = "".join(map(content_of, example.chosen))
        rejected = "".join(map(content_of, example.rejected))
        self.chosen.append(len(chosen))
        self.rejected.append(len(rejected))
        self.chosen_formatted += bool(FORMATTING.search(chosen))
        self.rejected_formatted += bool(FORMATTING.search(rejected))

    def shape(self) -> dict[str, float]:
        """Return figures for the report."""
        if self.liked or self.disliked:
            return {"num_liked": self.liked, "num_disliked": self.disliked}
        if not self.chosen:
            return {}
        pairs = list(zip(self.chosen, self.rejected, strict=True))
        ratios = sorted(c / r for c, r in pairs if r)
        return {
            "num_chosen_longer": sum(c > r for c, r in pairs),
            "num_rejected_longer": sum(c < r for c, r in pairs),
            "length_ratio_p50": round(ratios[len(ratios) // 2], 3) if ratios else 0.0,
            "length_effect_size": round(effect_size(pairs), 3),
            "length_auc": round(auc(self.chosen, self.rejected), 3),
            "chosen_formatted_fraction": round(self.chosen_formatted / len(pairs), 3),
            "rejected_formatted_fraction": round(self.rejected_formatted / len(pairs), 3),
        }

    def findings(self) -> list[tuple[str, int]]:
        """Return the ids of what is out of balance, with the number of examples meant."""
        found = []
        shape = self.shape()
        few, many = sorted((self.liked, self.disliked))
        if few + many >= MIN_PAIRS and many > MAX_LABEL_RATIO * few:
            found.append(("label_balance", many - few))
        if len(self.chosen) >= MIN_PAIRS:
            off = abs(shape["length_auc"] - 0.5)
            if abs(shape["length_effect_size"]) > MAX_EFFECT or off > MAX_AUC_OFF:
                longer = max(shape["num_chosen_longer"], shape["num_rejected_longer"])
                found.append(("length_bias", int(longer)))
            gap = self.chosen_formatted - self.rejected_formatted
            if abs(gap) > MAX_FORMAT_GAP * len(self.chosen):
                found.append(("format_bias", abs(gap)))
        return found


def effect_size(pairs: list[tuple[int, int]]) -> float:
    """Return Cohen's d of the paired differences of log length: their mean over their deviation.

    >>> round(effect_size([(20, 10), (10, 20), (30, 10)]), 2)
    0.39
    """
    differences = [math.log((c + 1) / (r + 1)) for c, r in pairs]
    if len(differences) < 2:
        return 0.0
    mean = sum(differences) / len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / (len(differences) - 1)
    if variance == 0:
        return 0.0 if mean == 0 else math.copysign(99.0, mean)
    return mean / math.sqrt(variance)


def auc(chosen: "array[int]", rejected: "array[int]") -> float:
    """Return the AUC of a classifier that knows only the length (Mann-Whitney, ties count half).

    >>> auc(array("L", [3, 4]), array("L", [1, 2])), auc(array("L", [1]), array("L", [1]))
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
