"""What preferred answers and the others differ in besides quality, in pairs or by marks."""

import re
from collections import Counter

from ft_tools.formats.example import Example, content_of

MAX_OFF = 0.19
"""Of the pairs in which the preferred answer is longer, from one half: Cohen's "medium" effect (d =
0.5) of what one pair differs in. Source: Cohen 1988, ISBN 0-8058-0283-5. Direction alone is no
problem: in real data either side may be longer."""
TOLD_APART = 0.02
"""Of the pairs that a figure alone does not tell apart. Judgement."""
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
        self._num_pairs = 0
        self._more = {"length": Counter[bool](), "format": Counter[bool]()}
        """Figure -> pairs by whether the preferred answer has more of it; equal ones are in
        none."""
        self._marks = Counter[bool]()
        self._waiting: list[str] = []
        """Marked answers that have no partner with the other mark yet."""
        self._waiting_are_good = True

    def add(self, example: Example) -> None:
        """Count one example."""
        chosen = "".join(map(content_of, example.chosen))
        if example.task != "kto":
            self._add_pair(chosen, "".join(map(content_of, example.rejected)))
            return
        is_good = example.label is True
        self._marks[is_good] += 1
        if self._waiting and self._waiting_are_good != is_good:
            other = self._waiting.pop()
            self._add_pair(*((chosen, other) if is_good else (other, chosen)))
        elif len(self._waiting) < MAX_SINGLE:
            self._waiting_are_good = is_good
            self._waiting.append(chosen)

    def _add_pair(self, chosen: str, rejected: str) -> None:
        self._num_pairs += 1
        sides = (chosen, rejected)
        formatted = [len(FORMATTING.findall(text)) for text in sides]
        for name, (good, bad) in (("length", map(len, sides)), ("format", formatted)):
            if good != bad:
                self._more[name][good > bad] += 1

    def shape(self) -> dict[str, float]:
        """Return figures for the report: marks, and the share of pairs in which one has more."""
        shape: dict[str, float] = {}
        if self._marks:
            shape = {"num_liked": self._marks[True], "num_disliked": self._marks[False]}
        for name, more in self._more.items() if self._num_pairs else ():
            # Equal ones count half for each side.
            off = (more[True] - more[False]) / (2 * self._num_pairs)
            shape[f"chosen_more_{name}_fraction"] = round(0.5 + off, 3)
        return shape

    def findings(self) -> list[tuple[str, int]]:
        """Return the ids of what is out of balance, with the number of examples meant."""
        few, many = sorted((self._marks[True], self._marks[False]))
        found = []
        if few + many >= MIN_PAIRS and many > MAX_LABEL_RATIO * few:
            found.append(("label_balance", many - few))
        if self._num_pairs < MIN_PAIRS:
            return found
        for name, more in self._more.items():
            off = abs(more[True] - more[False]) / (2 * self._num_pairs)
            if off >= 0.5 - TOLD_APART and "told_apart" not in dict(found):
                found.append(("told_apart", self._num_pairs))
            if off > MAX_OFF:
                found.append((f"{name}_bias", max(more.values())))
        return found
