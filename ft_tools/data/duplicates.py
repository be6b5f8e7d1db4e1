"""Find examples that say the same: copies, conflicting answers, lexical near-duplicates, leaks.

Near means: of the pairs of neighbouring words, Jaccard = |A and B| / |A or B| of at least
`JACCARD`, on the prompt and on the answer. Greedy in file order: an example goes if it is near one
that stays, and the report names that one.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ft_tools.data.ledger import ANSWER_BIT, Ledger
from ft_tools.data.reports import Fields

# Source: Lee et al. 2022 keep pairs at Jaccard 0.8, https://arxiv.org/abs/2107.06499
JACCARD = 0.8
# Comparing is cheap; on hostile data everything is a candidate, and then it stops and says so.
MAX_COMPARISONS = 3_000_000

Note = Callable[[str, int], None]
"""Called with a finding id and an index."""


@dataclass(frozen=True)
class NearResult:
    """How a search for near-duplicates went."""

    num_near: int
    is_complete: bool


def mark_exact(ledger: Ledger, note: Note) -> int:
    """Remove copies of an earlier example; a copy of a validation example is a leak."""
    first: dict[int, int] = {}
    num_exact = 0
    for index in range(len(ledger)):
        if ledger.fate[index] or not ledger.whole[index]:
            continue
        kept = first.setdefault(ledger.whole[index], index)
        if kept != index:
            leak = kept < ledger.num_validation <= index
            num_exact += index >= ledger.num_validation and not leak
            finding = "validation_leak" if leak else "exact_duplicate"
            ledger.remove(index, finding, kept)
            note(finding, index)
    return num_exact


def mark_prompt_leaks(ledger: Ledger, note: Note) -> None:
    """Remove training examples that ask what a validation example asks."""
    asked = {
        ledger.prompt[index]: index
        for index in range(ledger.num_validation - 1, -1, -1)
        if ledger.prompt[index] and not ledger.fate[index]
    }
    for index in range(ledger.num_validation, len(ledger)):
        twin = asked.get(ledger.prompt[index])
        if twin is not None and not ledger.fate[index]:
            ledger.remove(index, "validation_leak", twin)
            note("validation_leak", index)


def mark_conflicts(ledger: Ledger, note: Note) -> int:
    """Note the kept examples whose prompt has different answers; they stay."""
    answers: dict[int, int] = {}
    several: set[int] = set()
    kept = ledger.kept(validation=False)
    for index in kept:
        prompt = ledger.prompt[index]
        if prompt and answers.setdefault(prompt, ledger.answer[index]) != ledger.answer[index]:
            several.add(prompt)
    conflicting = [index for index in kept if ledger.prompt[index] in several]
    for index in conflicting:
        note("conflicting_targets", index)
    return len(conflicting)


def mark_repeated_prompts(ledger: Ledger, note: Note) -> int:
    """Note the examples whose first question came before; return how many different there are."""
    seen: set[int] = set()
    for index in range(ledger.num_validation, len(ledger)):
        first = ledger.first_prompt[index]
        if first in seen:
            note("repeated_prompt", index)
        elif first:
            seen.add(first)
    return len(seen)


def mark_near(ledger: Ledger, fields: Fields, note: Note) -> NearResult:
    """Remove lexical near-duplicates, each pair verified exactly."""
    index = _PrefixIndex(ledger, fields)
    num_near = 0
    for at in range(len(ledger)):
        if ledger.fate[at]:
            continue
        near = next(index.near(at), None)
        if near is not None:
            num_near += remove_near(ledger, at, *near, note)
        else:
            index.add(at)
        if index.num_compared > MAX_COMPARISONS:
            return NearResult(num_near, is_complete=False)
    return NearResult(num_near, is_complete=True)


def link_near_prompts(ledger: Ledger) -> bool:
    """Link kept training examples whose prompts are near, so that a split keeps them together.

    Returns:
        Whether all were compared, not whether there are any.
    """
    index = _PrefixIndex(ledger, "prompt")
    for at in ledger.kept(validation=False):
        for other, _ in index.near(at):
            ledger.link(at, other)
        index.add(at)
        if index.num_compared > MAX_COMPARISONS:
            return False
    return True


class _PrefixIndex:
    """Finds the earlier examples that can reach `JACCARD`, by their rarest word pairs.

    Two sets with Jaccard >= t share one of the rarest |A| - ceil(t |A|) + 1 elements of each, so
    only those are indexed. If prompt and answer each reach t, so does their union.

    Source: Bayardo et al. 2007, https://doi.org/10.1145/1242572.1242591
    """

    def __init__(self, ledger: Ledger, fields: Fields) -> None:
        self._ledger = ledger
        self._fields = fields
        self._frequency = Counter(ledger.pairs)
        self._having: dict[int, list[int]] = defaultdict(list)
        self.num_compared = 0

    def near(self, index: int) -> Iterator[tuple[int, float]]:
        """Yield (earlier example, Jaccard) of those that are near, in order."""
        pairs = select(self._ledger.pairs_at(index), self._fields)
        own = set(pairs)
        candidates = {o for pair in self._prefix(pairs) for o in self._having.get(pair, ())}
        for other in sorted(candidates):
            self.num_compared += 1
            there = set(select(self._ledger.pairs_at(other), self._fields))
            score = jaccard(own, there, self._fields)
            if score >= JACCARD:
                yield other, score

    def add(self, index: int) -> None:
        """Let later examples be compared with this one."""
        for pair in self._prefix(select(self._ledger.pairs_at(index), self._fields)):
            self._having[pair].append(index)

    def _prefix(self, pairs: Sequence[int]) -> list[int]:
        rare = sorted(pairs, key=lambda pair: (self._frequency[pair], pair))
        return rare[: len(rare) - _ceil(JACCARD * len(rare)) + 1] if rare else []


def remove_near(ledger: Ledger, index: int, kept: int, score: float, note: Note) -> int:
    """Remove a near-duplicate, or a leak if its twin is for validation.

    Returns:
        1 for a training example near another one, else 0: a leak is counted as a finding.
    """
    leak = kept < ledger.num_validation <= index
    finding = "validation_leak" if leak else "near_duplicate"
    ledger.remove(index, finding, kept, round(score, 4))
    note(finding, index)
    return int(index >= ledger.num_validation and not leak)


def select(pairs: "array[int]", fields: Fields) -> "array[int] | list[int]":
    """Return the pairs of the fields that are compared."""
    if fields == "prompt_and_response":
        return pairs
    answers = fields == "response"
    return [pair for pair in pairs if bool(pair & ANSWER_BIT) == answers]


def jaccard(one: set[int], other: set[int], fields: Fields) -> float:
    """Return the Jaccard similarity; of two fields, the lower one.

    >>> jaccard({1, 2, 3}, {2, 3, 4}, "prompt")
    0.5
    """
    if fields != "prompt_and_response":
        return _jaccard(one, other)
    shared = one & other
    if len(shared) < JACCARD * max(len(one), len(other)):
        return 0.0
    scores = []
    for bit in (0, ANSWER_BIT):
        a = {pair for pair in one if pair & ANSWER_BIT == bit}
        b = {pair for pair in other if pair & ANSWER_BIT == bit}
        scores.append(_jaccard(a, b))
    return min(scores)


def _jaccard(one: set[int], other: set[int]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 1.0


def _ceil(value: float) -> int:
    return int(value) if value == int(value) else int(value) + 1
