"""Search for near-duplicates by their words, in plain Python.

Near means: of the pairs of neighbouring words, a Jaccard similarity of at least `JACCARD`, on the
prompt and on the answer; on the prompt also of what is left when word pairs of a template, which
over a tenth of the prompts share, are set aside. Of preference pairs the rejected answers must be
near too; marked answers need the same mark. A copy in the validation file needs neither.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ft_tools import caller
from ft_tools.data.read.ledger import ANSWER, PROMPT, REJECTED, Ledger
from ft_tools.data.repeats.duplicates import Note, remove_near
from ft_tools.data.repeats.word_pairs import JACCARD, jaccard, most_of_one
from ft_tools.data.request import Fields

# Word pairs looked at in one search; on hostile data everything is a candidate, and then it stops
# and says so. A call has to answer within a minute; a run may take longer.
MAX_WORK = 100_000_000
MAX_WORK_OF_A_RUN = 20 * MAX_WORK
# Of the table of counts.
MIN_BITS, MAX_BITS = 10, 24
GOLDEN = 0.6180339887
"""The inverse of the golden ratio."""
Parts = tuple[int, ...]


@dataclass(frozen=True)
class NearResult:
    """How a search went: examples removed, and how many of all were compared."""

    num_near: int
    num_searched: int
    is_complete: bool


class Lexical:
    """What a ledger's kept examples say, ready to be compared."""

    def __init__(self, ledger: Ledger, most_work: int = MAX_WORK) -> None:
        self._ledger = ledger
        self._most_work = most_work
        kept = [at for at in range(ledger.num_paired) if not ledger.removal[at]]
        self._counts = _Counts(ledger, kept)
        self.shared = self._counts.prompt_pairs_of_more_than(most_of_one(len(kept)))
        """Word pairs of a template."""

    def mark_near(self, fields: Fields, note: Note) -> NearResult:
        """Remove near-duplicates, each pair verified exactly."""
        ledger = self._ledger
        # A text has an answer only.
        has_prompts = any(ledger.num_pairs_at(at, PROMPT) for at in range(ledger.num_paired))
        index = self._index(fields if has_prompts else "response")
        num_near = 0
        for at in range(ledger.num_paired):
            if ledger.removal[at]:
                continue
            if index.is_spent:
                return NearResult(num_near, at, is_complete=False)
            row = index.row(at)
            near = next(index.near(row), None)
            if near is not None:
                num_near += remove_near(ledger, at, *near, note)
            else:
                index.add(row)
        return NearResult(num_near, ledger.num_paired, is_complete=True)

    def link_near_prompts(self) -> bool:
        """Link kept training examples whose prompts are near, so that a split keeps them together.

        Returns:
            Whether all were compared, not whether there are any.
        """
        ledger = self._ledger
        index = self._index("prompt")
        for at in ledger.kept(validation=False):
            if at >= ledger.num_paired or index.is_spent:
                return False
            row = index.row(at)
            for other, _ in index.near(row):
                ledger.link(at, other)
            index.add(row)
        return True

    def _index(self, fields: Fields) -> "_PrefixIndex":
        return _PrefixIndex(self._ledger, self._counts, self.shared, fields, self._most_work)


class _Row(NamedTuple):
    """An example that is looked for."""

    at: int
    prefix: list[int]
    """Its rarest word pairs, without those that no other example has."""
    sets: dict[int, set[int]]
    """Its word pairs by part, once they were needed; under `OWN`, its prompt's without those of a
    template."""


OWN = -1


class _PrefixIndex:
    """Finds the earlier examples that can reach `JACCARD`, by their rarest word pairs.

    Two sets with Jaccard >= t share one of the rarest |A| - ceil(t |A|) + 1 elements of each, so
    only those are indexed. If prompt and answer each reach t, so does their union.

    Source: Bayardo et al. 2007, https://doi.org/10.1145/1242572.1242591
    """

    def __init__(
        self,
        ledger: Ledger,
        counts: "_Counts",
        shared: frozenset[int],
        fields: Fields,
        most_work: int,
    ) -> None:
        self._ledger = ledger
        self._counts = counts
        self._shared = shared
        self._left = most_work
        own = () if fields == "response" else (OWN,) if shared else (PROMPT,)
        answer = () if fields == "prompt" else (ANSWER,)
        self._indexed: Parts = (*own, *answer)
        # The cheapest first; what a template adds comes last.
        whole = (PROMPT,) if own == (OWN,) else ()
        self._in_a_leak: Parts = (*own, *answer, *whole)
        self._compared: Parts = (*self._in_a_leak, *((REJECTED,) if answer else ()))
        self._having: dict[int, list[int]] = defaultdict(list)

    @property
    def is_spent(self) -> bool:
        """Tell whether as much was compared as there is time for."""
        return self._left <= 0

    def row(self, at: int) -> _Row:
        """Prepare an example."""
        sets: dict[int, set[int]] = {}
        if OWN in self._indexed:
            sets = {part: self._set(at, part) for part in self._indexed}
            pairs: Collection[int] = set[int]().union(*sets.values())
        else:
            # Pairs of prompts and answers differ in a bit, so that none is there twice.
            pairs = self._ledger.pairs_at(at, self._indexed[0], self._indexed[-1])
        self._left -= len(pairs)
        size = len(pairs) - _ceil(JACCARD * len(pairs)) + 1 if pairs else 0
        return _Row(at, self._counts.rarest(pairs, size), sets)

    def near(self, row: _Row) -> Iterator[tuple[int, float]]:
        """Yield (earlier example, Jaccard) of those that are near, in order, while there is time.

        The Jaccard is the lowest of the parts.
        """
        caller.require_waiting()
        candidates: set[int] = set()
        for pair in row.prefix:
            having = self._having.get(pair, ())
            self._left -= len(having)
            candidates.update(having)
        for other in sorted(candidates):
            if self.is_spent:
                return
            score = self._score(row, other)
            if score >= JACCARD:
                yield other, score

    def add(self, row: _Row) -> None:
        """Let later examples be compared with this one."""
        for pair in row.prefix:
            self._having[pair].append(row.at)

    def _score(self, row: _Row, other: int) -> float:
        """Return the lowest Jaccard of the parts; 0 if one is too low."""
        ledger = self._ledger
        leak = other < ledger.num_validation <= row.at
        if not leak and ledger.label[row.at] != ledger.label[other]:
            return 0.0
        parts = self._in_a_leak if leak else self._compared
        for part in parts:
            if part != OWN:
                sizes = ledger.num_pairs_at(row.at, part), ledger.num_pairs_at(other, part)
                if min(sizes) < JACCARD * max(sizes):
                    return 0.0
        lowest = 1.0
        for part in parts:
            if part not in row.sets:
                row.sets[part] = self._set(row.at, part)
            mine, there = row.sets[part], self._set(other, part)
            self._left -= len(mine) + len(there)
            if mine or there:
                lowest = min(lowest, jaccard(mine, there))
            elif not self._is_same(row.at, other, part):
                return 0.0
            if lowest < JACCARD:
                return 0.0
        return lowest

    def _is_same(self, at: int, other: int, part: int) -> bool:
        """Tell whether two texts without a word are the same."""
        column = {ANSWER: self._ledger.answer, REJECTED: self._ledger.rejected}
        hashes = column.get(part, self._ledger.prompt)
        return hashes[at] == hashes[other]

    def _set(self, at: int, part: int) -> set[int]:
        if part != OWN:
            return set(self._ledger.pairs_at(at, part, part))
        whole = self._ledger.pairs_at(at, PROMPT, PROMPT)
        # Where nothing is its own, the template is what the example says.
        return set(whole) - self._shared or set(whole)


class _Counts:
    """How many examples have a word pair, in a table that does not grow with them.

    Pairs that meet in a place are counted together: a count is that or less. It only orders the
    pairs and tells those that one example alone has.
    """

    def __init__(self, ledger: Ledger, kept: list[int]) -> None:
        self._ledger = ledger
        self._kept = kept
        bits = min(MAX_BITS, max(MIN_BITS, (2 * len(ledger.pairs)).bit_length()))
        # Far from a power of two, so that the remainder depends on all bits of both words.
        self._size = size = int(GOLDEN * (1 << bits)) | 1
        self._table = table = array("I", bytes(array("I").itemsize * size))
        for at in kept:
            for pair in ledger.pairs_at(at, PROMPT, ANSWER):
                table[pair % size] += 1

    def of(self, pairs: Iterable[int]) -> list[int]:
        """Return for each pair how many examples have it, or a few more."""
        table, size = self._table, self._size
        return [table[pair % size] for pair in pairs]

    def rarest(self, pairs: Collection[int], size: int) -> list[int]:
        """Return the `size` rarest pairs, without those that no other example has."""
        counts = self.of(pairs)
        left = size - counts.count(1)
        if left <= 0:
            return []
        common = sorted(pair for pair in zip(counts, pairs, strict=True) if pair[0] > 1)
        return [pair for _, pair in common[:left]]

    def prompt_pairs_of_more_than(self, limit: float) -> frozenset[int]:
        """Return the pairs that more prompts than this have, counted one by one."""
        if max(self._table) <= limit:
            return frozenset()
        counts: Counter[int] = Counter()
        for at in self._kept:
            pairs = self._ledger.pairs_at(at, PROMPT, PROMPT)
            held = zip(pairs, self.of(pairs), strict=True)
            counts.update(pair for pair, count in held if count > limit)
        return frozenset(pair for pair, count in counts.items() if count > limit)


def _ceil(value: float) -> int:
    return int(value) if value == int(value) else int(value) + 1
