"""Search for near-duplicates by their words.

Near means: of the pairs of neighbouring words, a Jaccard similarity of at least `JACCARD`, on the
prompt and on the answer; on the prompt also of what is left when word pairs of a template, which
over a tenth of the prompts share, are set aside. Of preference pairs the rejected answers must be
near too; marked answers need the same mark. A copy in the validation file needs neither.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ft_tools import abandoned_calls
from ft_tools.similarity.rows import Rows
from ft_tools.similarity.words import (
    ANSWER,
    JACCARD,
    KEPT,
    MAX_WORK,
    NUM_PARTS,
    PROMPT,
    REJECTED,
    jaccard,
    most_of_one,
)

Fields = Literal["prompt", "response", "prompt_and_response"]
Parts = tuple[int, ...]


class Lexical:
    """A search among rows, which compares those that are kept."""

    def __init__(self, rows: Rows, most_work: int = MAX_WORK) -> None:
        self._rows = rows
        self._most_work = most_work
        self._order = _Order(rows)
        self.shared = self._order.shared
        """Word pairs of a template."""
        self.num_searched = 0
        """Rows that the last search compared."""
        self.is_complete = True
        """Whether it compared all whose words are known; else it did `most_work`."""
        self.apart: set[int] = set()
        """Rows that are near an earlier one, but for other numbers in prompt and answer."""

    def near(
        self, fields: Fields, differ: Callable[[int, int], bool] = lambda *_: False
    ) -> Iterator[tuple[int, int, float]]:
        """Yield (row, earlier row that stays, Jaccard) for each row that goes.

        Args:
            fields: What has to be near.
            differ: Whether two rows are no repetition, whatever their words.
        """
        pairs = self._rows.pairs
        # A text has an answer only.
        has_prompts = any(map(pairs.num_of, range(PROMPT, pairs.num_texts, NUM_PARTS)))
        index = self._index(fields if has_prompts else "response")
        for at in self._searched(index):
            for other, score in index.near(at):
                if differ(at, other):
                    continue
                if not self._rows.differ_in_numbers(at, other):
                    self.apart.discard(at)
                    yield at, other, score
                    break
                self.apart.add(at)
            else:
                index.add(at)

    def near_prompts(self) -> Iterator[tuple[int, int]]:
        """Yield the pairs of kept training rows with near prompts, the later row first."""
        index = self._index("prompt")
        for at in self._searched(index, self._rows.num_validation):
            yield from ((at, other) for other, _ in index.near(at))
            index.add(at)

    def link_near_prompts(self) -> bool:
        """Link the rows with near prompts for a split; return whether all were compared."""
        for at, other in self.near_prompts():
            self._rows.link(at, other)
        return self.is_complete and self._rows.num_paired == len(self._rows)

    def _searched(self, index: "_PrefixIndex", first: int = 0) -> Iterator[int]:
        self.num_searched, self.is_complete = first, True
        for at in range(first, self._rows.num_paired):
            if index.is_spent:
                self.is_complete = False
                return
            if self._rows.removal[at] == KEPT:
                yield at
            self.num_searched = at + 1

    def _index(self, fields: Fields) -> "_PrefixIndex":
        return _PrefixIndex(self._rows, self._order, fields, self._most_work)


OWN = -1
"""The part of a prompt's word pairs that are none of a template."""


class _PrefixIndex:
    """Finds the earlier examples that can reach `JACCARD`, by their rarest word pairs.

    Two sets with Jaccard >= t share one of the rarest |A| - ceil(t |A|) + 1 elements of each, so
    only those are indexed. If prompt and answer each reach t, so does their union.

    Source: Bayardo et al. 2007, https://doi.org/10.1145/1242572.1242591
    """

    def __init__(self, rows: Rows, order: "_Order", fields: Fields, most_work: int) -> None:
        self._rows, self._pairs = rows, rows.pairs
        self._shared = order.shared
        self._left = most_work
        own = () if fields == "response" else (OWN,) if self._shared else (PROMPT,)
        answer = () if fields == "prompt" else (ANSWER,)
        self._sizes, self._starts, self._rarest = order.prefixes((*own, *answer))
        # The cheapest first; what a template adds comes last.
        whole = (PROMPT,) if own == (OWN,) else ()
        self._in_a_leak: Parts = (*own, *answer, *whole)
        self._compared: Parts = (*self._in_a_leak, *((REJECTED,) if answer else ()))
        self._having: dict[int, list[int]] = defaultdict(list)

    @property
    def is_spent(self) -> bool:
        """Return whether as much was compared as there is time for."""
        return self._left <= 0

    def near(self, at: int) -> Iterator[tuple[int, float]]:
        """Yield (earlier example, Jaccard) of those that are near, in order, while there is time.

        The Jaccard is the lowest of the parts.
        """
        abandoned_calls.require_waiting()
        self._left -= self._sizes[at]
        candidates: set[int] = set()
        for pair in self._prefix(at):
            having = self._having.get(pair, ())
            self._left -= len(having)
            candidates.update(having)
        sets: dict[int, set[int]] = {}
        for other in sorted(candidates):
            if self.is_spent:
                return
            score = self._score(at, other, sets)
            if score >= JACCARD:
                yield other, score

    def add(self, at: int) -> None:
        """Let later examples be compared with this one."""
        for pair in self._prefix(at):
            self._having[pair].append(at)

    def _prefix(self, at: int) -> list[int]:
        """Return the rarest pairs of an example that are among the rarest of another one."""
        return self._rarest[self._starts[at] : self._starts[at + 1]]

    def _score(self, at: int, other: int, sets: dict[int, set[int]]) -> float:
        """Return the lowest Jaccard of the parts, or 0; `sets` keeps those of `at`."""
        rows = self._rows
        leak = other < rows.num_validation <= at
        if not leak and rows.label[at] != rows.label[other]:
            return 0.0
        parts = self._in_a_leak if leak else self._compared
        for part in parts:
            if part != OWN:
                sizes = [self._pairs.num_of(NUM_PARTS * row + part) for row in (at, other)]
                if min(sizes) < JACCARD * max(sizes):
                    return 0.0
        lowest = 1.0
        for part in parts:
            if part not in sets:
                sets[part] = self._set(at, part)
            mine, there = sets[part], self._set(other, part)
            self._left -= len(mine) + len(there)
            if mine or there:
                lowest = min(lowest, jaccard(mine, there))
            else:  # without a word they may be the same all the same
                column = {ANSWER: rows.answer, REJECTED: rows.rejected}.get(part, rows.prompt)
                lowest = lowest if column[at] == column[other] else 0.0
            if lowest < JACCARD:
                return 0.0
        return lowest

    def _set(self, at: int, part: int) -> set[int]:
        whole = set(self._pairs.of(NUM_PARTS * at + (PROMPT if part == OWN else part)))
        # Where nothing is its own, the template is what the example says.
        return (whole - self._shared if part == OWN else None) or whole


class _Order:
    """The word pairs by how many of the kept examples have them, the rarest first."""

    def __init__(self, rows: Rows) -> None:
        pairs = rows.pairs
        self._num_examples = len(rows)
        self._rows, self._parts = np.divmod(pairs.texts, np.int32(NUM_PARTS))
        kept = np.array(rows.removal) == KEPT
        self._is_used = kept[self._rows] & (self._parts != REJECTED)
        counts = np.bincount(pairs.numbers[self._is_used], minlength=pairs.num_different)
        # Of those that as many examples have, the lower number is called the rarer one. Small
        # numbers of two bytes are sorted many times faster.
        small = counts.max(initial=0) < 1 << 16
        order = np.argsort(counts.astype(np.uint16) if small else counts, kind="stable")
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        self._ranks = ranks[pairs.numbers]
        most = most_of_one(int(kept[: rows.num_paired].sum()))
        self._num_alone, self._num_rare = np.searchsorted(counts[order], (1, most), side="right")
        common = (self._ranks >= self._num_rare) & (self._parts == PROMPT)
        self.shared = frozenset(pairs.numbers[common].tolist())
        """Pairs of a template: more prompts have them than may share what is their own."""

    def prefixes(self, parts: Parts) -> tuple[list[int], list[int], list[int]]:
        """Return how many pairs of each example are compared, and where its rarest begin and are.

        These are of some parts, and those that another example has among its rarest, too.
        """
        used = self._is_used & self._in_parts(parts)
        rows, ranks = self._rows[used], self._ranks[used]
        sizes = np.bincount(rows, minlength=self._num_examples)
        alone = np.bincount(rows[ranks < self._num_alone], minlength=self._num_examples)
        left = sizes - np.ceil(JACCARD * sizes).astype(np.int64) + 1 - alone
        several = (ranks >= self._num_alone) & (left[rows] > 0)
        keys = rows[several].astype(np.int64) << 32 | ranks[several]
        keys.sort()
        rows, ranks = keys >> 32, keys & 0xFFFFFFFF
        keep = np.arange(len(keys)) - np.searchsorted(rows, rows) < left[rows]
        rows, ranks = rows[keep], ranks[keep]
        leads = np.bincount(ranks)[ranks] > 1
        rows, ranks = rows[leads], ranks[leads]
        starts = np.searchsorted(rows, np.arange(self._num_examples + 1))
        return sizes.tolist(), starts.tolist(), ranks.tolist()

    def _in_parts(self, parts: Parts) -> NDArray[np.bool_]:
        """Return for each pair whether it is in one of some parts; under `OWN`, of no template."""
        found = np.isin(self._parts, [part for part in parts if part != OWN])
        if OWN in parts:
            prompts = self._parts == PROMPT
            own = prompts & (self._ranks < self._num_rare)
            # Where nothing is its own, the template is what the example says.
            has_own = np.bincount(self._rows[own], minlength=self._num_examples) > 0
            found |= own | (prompts & ~has_own[self._rows])
        return found
