"""Divide rows into training, validation and test parts: by time, by templates, or at random.

Rows that were in a test set of the workspace before are in the test part again, and what was
trained on never becomes a test row: both are known by content.
"""

from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

from ft_tools.data.read.ledger import Ledger
from ft_tools.data.read.scan import Scan
from ft_tools.data.request import PrepareRequest
from ft_tools.data.split.choose import (
    MAX_OVER,
    Bundle,
    Labels,
    by_wording,
    choose,
    classes_of,
    groups_of,
    num_wanted,
    rows_in,
)
from ft_tools.data.write import Part

LEAST_VALIDATED = 2
"""Wordings of the validation part, whose loss chooses the checkpoint. Judgement."""
MOST_TESTED = 0.5
"""Of the rows: earlier test rows and those of their templates."""
ENOUGH_TEST_ROWS = 150
"""They show a difference of 0.1. Source: ft_tools/metrics/verdicts.py"""
ENOUGH_TRAINING_ROWS = 100
"""They are left to train on before the test part gets more than a tenth. Judgement."""
LEAST_TEST, MOST_TEST = 0.1, 0.25
"""Shares of the rows for the test part, if none is given. Judgement."""
SAME_GROUP = "same_group_as_test"


class Shares(NamedTuple):
    """Of the rows that are kept: which share each held-out part should have."""

    validation: float
    test: float = 0.0
    seed: int = 0


class HeldOut(NamedTuple):
    """Templates of prompts, in all and by part; 0 in each part where none can be held out."""

    num_wordings: int
    num_test: int = 0
    num_validation: int = 0


class Split(NamedTuple):
    """The rows that are held out."""

    validation: set[int]
    test: set[int]
    trained: set[int]
    """Rows that runs were trained on, or that belong to such, and stay out of the test part."""
    held_out: HeldOut | None
    """Where prompts follow few templates."""

    def parts(self, scan: Scan) -> bytearray:
        """Return the part of each row that was scanned."""
        of = bytearray(
            Part.UNLABELLED
            if at in scan.unlabelled
            else Part.REMOVED
            if removed
            else Part.VALIDATION
            if at < scan.ledger.num_validation
            else Part.TRAIN
            for at, removed in enumerate(scan.ledger.removal)
        )
        for part, rows in ((Part.TEST, self.test), (Part.VALIDATION, self.validation)):
            for at in rows:
                of[at] = part
        return of


NO_SPLIT = Split(set(), set(), set(), None)


def split(
    ledger: Ledger,
    kept: Sequence[int],
    shares: Shares,
    *,
    few_wordings: bool,
    labels: Labels | None = None,
    tested: Set[int] = frozenset(),
    trained: Set[int] = frozenset(),
    time_of: Callable[[int], str] | None = None,
) -> Split:
    """Choose the rows that are held out, so that nothing is on two sides.

    Rows that are linked stay together; where prompts follow few templates (`few_wordings`, with the
    words of the prompts in the ledger), these are held out whole. `time_of` makes the latest rows
    the test part; rows that belong to these are removed.
    """
    # Links what stays together.
    groups = groups_of(ledger, kept)
    test, trained = (_belonging_to(ledger, kept, rows) for rows in (tested, trained))
    if shares.test == 1:
        return Split(set(), {at for at in kept if at not in trained}, trained, None)
    validation: set[int] = set()
    bundles = by_wording(ledger, groups) if few_wordings else []
    held_out = HeldOut(_num_wordings(bundles)) if few_wordings else None
    if time_of is not None:
        test = _latest(ledger, kept, shares.test, test, trained, time_of)
    elif held_out and (held := _whole_wordings(ledger, bundles, shares, labels, test, trained)):
        held_out = HeldOut(held_out.num_wordings, *map(_num_wordings, held))
        test, validation = map(rows_in, held)
    else:
        free = [one for one in groups if (test | trained).isdisjoint(one.rows)]
        fraction = max(0.0, shares.test * len(kept) - len(test)) / max(1, len(rows_in(free)))
        test |= rows_in(_share_of(ledger, free, fraction, shares.seed))
    if not validation:
        free = [
            one for one in groups if not any(at in test or ledger.removal[at] for at in one.rows)
        ]
        fraction = min(shares.validation / (1 - shares.test), 0.9)
        validation = rows_in(_share_of(ledger, free, fraction, shares.seed))
    return Split(validation, test, trained, held_out)


def test_share(request: PrepareRequest, num_kept: int) -> float:
    """Return the share of the test part: as many rows as show what matters, within reason."""
    if request.test_fraction is not None:
        return request.test_fraction
    rows = max(1, num_kept)
    left = 1 - request.validation_fraction
    most = min(MOST_TEST, max(LEAST_TEST, left - ENOUGH_TRAINING_ROWS / rows), left / 2)
    return min(most, max(LEAST_TEST, ENOUGH_TEST_ROWS / rows))


def _share_of(ledger: Ledger, free: list[Bundle], fraction: float, seed: int) -> list[Bundle]:
    return choose(ledger, free, num_wanted(len(rows_in(free)), fraction), seed)


def _num_wordings(bundles: Sequence[Bundle]) -> int:
    return sum(one.is_wording for one in bundles)


def _whole_wordings(
    ledger: Ledger,
    bundles: Sequence[Bundle],
    shares: Shares,
    labels: Labels | None,
    tested: set[int],
    trained: set[int],
) -> tuple[list[Bundle], list[Bundle]] | None:
    """Return whole templates for the test and validation parts; None if that cannot be."""
    kept = rows_in(bundles)
    test = [one for one in bundles if not tested.isdisjoint(one.rows)]
    num_tested = len(rows_in(test))
    if num_tested > MOST_TESTED * len(kept):
        return None
    classes = classes_of(ledger, labels or {}, kept)
    free = [one for one in bundles if (tested | trained).isdisjoint(one.rows)]
    wanted = max(0, round(shares.test * len(kept)) - num_tested)
    test += choose(ledger, free, wanted, shares.seed, classes=classes)
    if shares.test and not _num_wordings(test):
        return None
    held = set(test)
    free = [one for one in bundles if one not in held]
    wanted = num_wanted(len(kept), shares.validation)
    validation = choose(ledger, free, wanted, shares.seed, classes=classes)
    if _num_wordings(validation) < LEAST_VALIDATED:
        validation = []
    # Not where hardly any are left to train on.
    planned = len(kept) * (1 - shares.validation) - max(shares.test * len(kept), num_tested)
    is_enough = MAX_OVER * (len(kept) - len(rows_in([*test, *validation]))) >= planned
    return (test, validation) if is_enough else None


def _belonging_to(ledger: Ledger, kept: Sequence[int], rows: Set[int]) -> set[int]:
    """Return some rows, and what must be in one part with them."""
    roots = {ledger.linked(at) for at in rows}
    return {at for at in kept if ledger.linked(at) in roots} if roots else set()


def _latest(
    ledger: Ledger,
    kept: Sequence[int],
    fraction: float,
    tested: set[int],
    trained: set[int],
    time_of: Callable[[int], str],
) -> set[int]:
    """Return the latest rows that no run was trained on, and those of earlier test sets.

    Earlier ones that belong to the same group or prompt as the latest are left out.
    """
    ordered = sorted(kept, key=lambda at: (time_of(at), ledger.lines[at]))
    ordered = [at for at in ordered if at not in trained]
    test = tested.union(ordered[max(0, len(ordered) - round(fraction * len(kept))) :])
    roots = {ledger.linked(at) for at in test}
    for at in kept:
        if at not in test and ledger.linked(at) in roots:
            ledger.remove(at, SAME_GROUP)
    return test
