"""Divide rows into training, validation and test parts: by time, by templates, or at random.

Rows that were in a test set of the workspace before are in the test part again, and what was
trained on never becomes a test row: both are known by content.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ft_tools.data.read.scanned import Scan
from ft_tools.data.request import PrepareRequest
from ft_tools.data.split.choose import (
    LEAST_VALIDATED,
    MAX_OVER,
    Bundle,
    by_wording,
    choose,
    classes_of,
    groups_of,
    num_wanted,
    rows_in,
)
from ft_tools.data.write import Part

MOST_TESTED = 0.5
"""Of the rows: earlier test rows and those of their templates."""
ENOUGH_TEST_ROWS = 150
"""They show a difference of 0.1. Source: ft_tools/metrics/sample_size.py"""
ENOUGH_TRAINING_ROWS = 100
"""They are left to train on before the test part gets more than a tenth. Judgement."""
LEAST_TEST, MOST_TEST = 0.1, 0.25
"""Shares of the rows for the test part, if none is given. Judgement."""
SAME_GROUP = "same_group_as_test"
ASKED_AGAIN = "asked_again_in_test"


class HeldOut(NamedTuple):
    """Templates of prompts, in all and by part; 0 in each part where none can be held out."""

    num_wordings: int
    num_test: int
    num_validation: int


@dataclass
class Parts:
    """Which part each row goes to."""

    of: bytearray
    held_out: HeldOut | None = None
    """Where prompts follow few templates."""
    num_earlier: int = 0
    """Test rows that were in a test set before."""
    num_trained: int = 0
    """Rows that runs were trained on, or that belong to such, and stay out of the test part."""

    def indices(self, part: Part) -> list[int]:
        """Return the rows of a part."""
        return [at for at, own in enumerate(self.of) if own == part]


def choose_parts(scan: Scan, request: PrepareRequest, *, compared: bool) -> Parts:
    """Divide the rows that stay.

    Args:
        scan: With links between the rows that stay together.
        request: What is asked for.
        compared: Whether similar prompts were linked.
    """
    ledger = scan.ledger
    kept = ledger.kept(validation=False)
    share = test_share(request, len(kept))
    # Links what stays together.
    groups = groups_of(ledger, kept)
    result = Parts(bytearray())
    trained = _belonging_to(scan, kept, scan.trained)
    test = _belonging_to(scan, kept, scan.tested)
    result.num_trained = len(trained)
    validation: set[int] = set()
    few = compared and request.near_duplicates == "auto" and scan.num_templated > 0
    bundles = by_wording(ledger, groups) if few else []
    if few:
        result.held_out = HeldOut(sum(one.is_wording for one in bundles), 0, 0)
    if scan.mapping.time_column:
        test = _latest(scan, kept, share, test, trained)
    elif few and (held := _whole_wordings(scan, request, result, bundles, test, trained)):
        test, validation = held
    else:
        free = [one for one in groups if (test | trained).isdisjoint(one.rows)]
        num_free = sum(len(one.rows) for one in free)
        fraction = max(0.0, share * len(kept) - len(test)) / max(1, num_free)
        test |= rows_in(choose(ledger, free, num_wanted(num_free, fraction), request.seed))
    if not validation:
        free = [one for one in groups if _is_left(scan, one, test)]
        num_left = sum(len(one.rows) for one in free)
        fraction = min(request.validation_fraction / (1 - share), 0.9)
        chosen = choose(ledger, free, num_wanted(num_left, fraction), request.seed)
        validation = rows_in(chosen)
    result.of = bytearray(
        Part.UNLABELLED if at in scan.unlabelled else Part.REMOVED if removed else Part.TRAIN
        for at, removed in enumerate(ledger.removal)
    )
    for part, rows in ((Part.TEST, test), (Part.VALIDATION, validation)):
        for at in rows:
            result.of[at] = part
    result.num_earlier = sum(result.of[at] == Part.TEST for at in scan.tested)
    return result


def test_share(request: PrepareRequest, num_kept: int) -> float:
    """Return the share of the test part: as many rows as show what matters, within reason."""
    if request.test_fraction is not None:
        return request.test_fraction
    rows = max(1, num_kept)
    left = 1 - request.validation_fraction
    most = min(MOST_TEST, max(LEAST_TEST, left - ENOUGH_TRAINING_ROWS / rows), left / 2)
    return min(most, max(LEAST_TEST, ENOUGH_TEST_ROWS / rows))


def _is_left(scan: Scan, one: Bundle, test: set[int]) -> bool:
    return all(at not in test and not scan.ledger.removal[at] for at in one.rows)


def _whole_wordings(
    scan: Scan,
    request: PrepareRequest,
    result: Parts,
    bundles: Sequence[Bundle],
    tested: set[int],
    trained: set[int],
) -> tuple[set[int], set[int]] | None:
    """Return rows of whole templates for the test and validation parts; None if that cannot be."""
    ledger, kept = scan.ledger, rows_in(bundles)
    share = test_share(request, len(kept))
    test = [one for one in bundles if not tested.isdisjoint(one.rows)]
    num_tested = len(rows_in(test))
    if result.held_out is None or num_tested > MOST_TESTED * len(kept):
        return None
    classes = classes_of(ledger, scan.answer_labels, kept)
    free = [one for one in bundles if (tested | trained).isdisjoint(one.rows)]
    wanted = round(share * len(kept)) - num_tested
    test += choose(ledger, free, max(0, wanted), request.seed, classes=classes)
    if share and not any(one.is_wording for one in test):
        return None
    held = set(test)
    free = [one for one in bundles if one not in held]
    wanted = round(request.validation_fraction * len(kept))
    validation = choose(ledger, free, wanted, request.seed, classes=classes)
    if sum(one.is_wording for one in validation) < LEAST_VALIDATED:
        validation = []
    held_out = rows_in(test), rows_in(validation)
    planned = len(kept) - max(share * len(kept), num_tested)
    planned -= request.validation_fraction * len(kept)
    if MAX_OVER * (len(kept) - sum(map(len, held_out))) < planned:
        return None
    result.held_out = result.held_out._replace(
        num_test=sum(one.is_wording for one in test),
        num_validation=sum(one.is_wording for one in validation),
    )
    return held_out


def _belonging_to(scan: Scan, kept: Iterable[int], rows: set[int]) -> set[int]:
    """Return some rows, and what must be in one part with them."""
    ledger = scan.ledger
    roots = {ledger.linked(at) for at in rows}
    return {at for at in kept if ledger.linked(at) in roots} if roots else set()


def _latest(
    scan: Scan, kept: list[int], fraction: float, tested: set[int], trained: set[int]
) -> set[int]:
    """Return the latest rows that no run was trained on, and those of earlier test sets.

    Earlier ones that belong to the same group or prompt as the latest are left out.
    """
    ledger, time_of = scan.ledger, scan.times_of_rows()
    ordered = sorted(kept, key=lambda at: (time_of(at), ledger.lines[at]))
    ordered = [at for at in ordered if at not in trained]
    test = tested.union(ordered[max(0, len(ordered) - round(fraction * len(kept))) :])
    roots = {ledger.linked(at) for at in test}
    groups = {scan.groups.get(at, 0) for at in test} - {0}
    for at in kept:
        if at not in test and ledger.linked(at) in roots:
            is_of_group = scan.groups.get(at) in groups
            ledger.remove(at, SAME_GROUP if is_of_group else ASKED_AGAIN)
    return test
