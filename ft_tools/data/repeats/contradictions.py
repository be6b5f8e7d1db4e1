"""Find answers that contradict each other, and decide which of them stays."""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise

from ft_tools.data.read.ledger import Ledger
from ft_tools.data.repeats.duplicates import Note
from ft_tools.data.request import Contradictions, Decision

Rank = tuple[int, ...]
"""Of a row, by each preferred column: the place of the value that it has, lower is better."""


def find(ledger: Ledger, note: Note) -> list[list[int]]:
    """Note the kept examples that others contradict, and return them in groups.

    Two answers to one prompt; an answer marked good and bad; a pair and the same pair reversed.
    """
    # Of a million rows few ask what others ask: only these are grouped.
    asked = sorted(ledger.prompt)
    repeated = {one for one, other in pairwise(asked) if one == other} - {0}
    groups: dict[tuple[int, ...], list[int]] = {}
    for at in ledger.kept(validation=False) if repeated else ():
        if ledger.prompt[at] in repeated:
            groups.setdefault(_claim(ledger, at)[0], []).append(at)
    several = [
        group for group in groups.values() if len({_claim(ledger, at)[1] for at in group}) > 1
    ]
    for at in sorted(at for group in several for at in group):
        note("conflicting_targets", at)
    return several


def resolve(
    ledger: Ledger,
    groups: list[list[int]],
    rule: Decision,
    time_of: Callable[[int], str],
    ranks: Mapping[int, Rank],
) -> list[list[int]]:
    """Remove contradicting examples: by majority, all but the latest answer, or all (drop).

    A copy that was removed before still votes for its answer, with its own rank. Of equal times the
    order of the file decides. Returns the groups that stay as they are: all with `keep`, and those
    of which several answers are preferred alike.
    """
    if rule == "keep":
        return groups
    left: list[list[int]] = []
    for group, votes in zip(groups, _votes(ledger, groups), strict=True):
        if isinstance(rule, str):
            kept = _chosen([_claim(ledger, at)[1] for at in sorted(votes, key=time_of)], rule)
        else:
            best = min(ranks[at] for at in votes)
            kept, *others = {_claim(ledger, at)[1] for at in votes if ranks[at] == best}
            if others:
                left.append(group)
                continue
        for at in group:
            if _claim(ledger, at)[1] != kept:
                ledger.remove(at, "conflicting_targets")
    return left


def num_with_majority(ledger: Ledger, groups: list[list[int]]) -> int:
    """Count the groups with a most frequent answer; where no row has a copy, none has one."""
    votes = ([_claim(ledger, at)[1] for at in group] for group in _votes(ledger, groups))
    return sum(_chosen(answers, "majority") is not None for answers in votes)


def _votes(ledger: Ledger, groups: list[list[int]]) -> list[list[int]]:
    """Return the examples of each group, copies that were removed before among them."""
    places = {_claim(ledger, group[0])[0]: place for place, group in enumerate(groups)}
    votes: list[list[int]] = [[] for _ in groups]
    asked = {ledger.prompt[group[0]] for group in groups}
    for at in range(ledger.num_validation, len(ledger)) if groups else ():
        if ledger.prompt[at] in asked and ledger.reason_of(at) in {None, "exact_duplicate"}:
            place = places.get(_claim(ledger, at)[0])
            if place is not None:
                votes[place].append(at)
    return votes


def _chosen(votes: list[int], rule: Contradictions) -> int | None:
    """Return the answer that stays; None if none does."""
    if rule == "latest":
        return votes[-1]
    first, *others = Counter(votes).most_common(2)
    is_clear = all(count < first[1] for _, count in others)
    return first[0] if rule == "majority" and is_clear else None


def _claim(ledger: Ledger, at: int) -> tuple[tuple[int, ...], int]:
    """Return what an example is about, and what it says of that."""
    prompt, answer, rejected = ledger.prompt[at], ledger.answer[at], ledger.rejected[at]
    if ledger.label[at] >= 0:
        return (prompt, answer), ledger.label[at]
    if rejected:
        return (prompt, min(answer, rejected), max(answer, rejected)), answer
    return (prompt,), answer
