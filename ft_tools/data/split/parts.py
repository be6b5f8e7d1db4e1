"""Divide rows into training, validation and test parts: by time, by templates, or at random.

Rows that were in a test set of the workspace before are in the test part again, and what was
trained on never becomes a test row: both are known by content.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ft_tools.data.map.times import is_month_first, sortable
from ft_tools.data.read.scanned import Scan
from ft_tools.data.request import PrepareRequest
from ft_tools.data.split.draw import choose_validation, groups_of
from ft_tools.data.split.whole_wordings import (
    MAX_OVER,
    Bundle,
    bundles_of,
    choose,
    choose_validated,
    classes_of,
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
    bundles = _by_wording(scan, request, result, groups) if compared else []
    validation: set[int] = set()
    trained = _belonging_to(scan, kept, scan.trained)
    result.num_trained = len(trained)
    if scan.mapping.time_column:
        earlier = _belonging_to(scan, kept, scan.tested)
        test = _latest(scan, kept, share, earlier, trained)
    else:
        test = _belonging_to(scan, kept, scan.tested)
        if held_out := _whole_wordings(scan, request, result, bundles, share, test, trained):
            test, validation = held_out
        else:
            rest = [at for at in kept if at not in test and at not in trained]
            wanted = max(0.0, share * len(kept) - len(test)) / max(1, len(rest))
            test |= choose_validation(ledger, rest, wanted, request.seed)
    if not validation:
        rest = [at for at in kept if at not in test and not ledger.removal[at]]
        wanted = min(request.validation_fraction / (1 - share), 0.9)
        validation = choose_validation(ledger, rest, wanted, request.seed)
    result.of = bytearray(
        Part.UNLABELLED if at in scan.unlabelled else Part.REMOVED if removed else Part.TRAIN
        for at, removed in enumerate(ledger.removal)
    )
    for part, chosen in ((Part.TEST, test), (Part.VALIDATION, validation)):
        for at in chosen:
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


def _by_wording(
    scan: Scan, request: PrepareRequest, result: Parts, groups: list[list[int]]
) -> list[Bundle]:
    """Return the rows that stay together, and count their templates; none if there are not few."""
    if request.near_duplicates != "auto" or not scan.wordings.findings():
        return []
    bundles = bundles_of(scan.ledger, groups)
    result.held_out = HeldOut(sum(one.is_wording for one in bundles), 0, 0)
    return bundles


def _whole_wordings(
    scan: Scan,
    request: PrepareRequest,
    result: Parts,
    bundles: list[Bundle],
    share: float,
    tested: set[int],
    trained: set[int],
) -> tuple[set[int], set[int]] | None:
    """Return rows of whole templates for the test and validation parts; None if that cannot be."""
    if result.held_out is None:
        return None
    kept = rows_in(bundles)
    test = [one for one in bundles if not tested.isdisjoint(one.rows)]
    num_tested = len(rows_in(test))
    if num_tested > MOST_TESTED * len(kept):
        return None
    strata = scan.ledger.split_key
    classes = classes_of(scan.ledger, scan.answer_labels, kept)
    test += choose(
        [one for one in bundles if (tested | trained).isdisjoint(one.rows)],
        round(share * len(kept)) - num_tested,
        strata,
        classes,
        request.seed,
    )
    if share and not any(one.is_wording for one in test):
        return None
    held = set(test)
    validation = choose_validated(
        [one for one in bundles if one not in held],
        round(request.validation_fraction * len(kept)),
        strata,
        classes,
        request.seed,
    )
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
    """Return the latest rows, and those of earlier test sets.

    Earlier ones that belong to the same group or prompt as the latest are left out.

    Rows that a run was trained on are not among them.
    """
    ledger = scan.ledger
    month_first = bool(is_month_first(scan.times.values()))
    times = {at: sortable(scan.times.get(at, ""), month_first=month_first) for at in kept}
    ordered = sorted(kept, key=lambda at: (times[at], ledger.lines[at]))
    ordered = [at for at in ordered if at not in trained]
    test = tested.union(ordered[max(0, len(ordered) - round(fraction * len(kept))) :])
    roots = {ledger.linked(at) for at in test}
    groups = {scan.groups.get(at, 0) for at in test} - {0}
    for at in kept:
        if at not in test and ledger.linked(at) in roots:
            is_of_group = scan.groups.get(at) in groups
            ledger.remove(at, SAME_GROUP if is_of_group else ASKED_AGAIN)
    return test
