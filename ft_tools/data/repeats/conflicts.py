"""Find answers that contradict each other, and decide which of them stays."""

from collections import Counter

from ft_tools.data.read.ledger import Ledger
from ft_tools.data.repeats.duplicates import Note
from ft_tools.data.request import Contradictions


def find(ledger: Ledger, note: Note) -> list[list[int]]:
    """Note the kept examples that others contradict, and return them in groups.

    Two answers to one prompt; an answer marked good and bad; a pair and the same pair reversed.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for at in ledger.kept(validation=False):
        if ledger.prompt[at]:
            groups.setdefault(_claim(ledger, at)[0], []).append(at)
    several = [
        group for group in groups.values() if len({_claim(ledger, at)[1] for at in group}) > 1
    ]
    for at in sorted(at for group in several for at in group):
        note("conflicting_targets", at)
    return several


def resolve(ledger: Ledger, groups: list[list[int]], rule: Contradictions) -> None:
    """Remove contradicting examples: by majority, all but the latest answer, or all (drop).

    A copy that was removed before still votes for its answer.
    """
    if rule == "keep":
        return
    votes: dict[tuple[int, ...], list[int]] = {}
    for at in range(ledger.num_validation, len(ledger)):
        if ledger.prompt[at] and ledger.reason_of(at) in {None, "exact_duplicate"}:
            about, answer = _claim(ledger, at)
            votes.setdefault(about, []).append(answer)
    for group in groups:
        answers = {at: _claim(ledger, at)[1] for at in group}
        kept = _chosen(votes[_claim(ledger, group[0])[0]], rule)
        for at in group:
            if answers[at] != kept:
                ledger.remove(at, "conflicting_targets")


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
