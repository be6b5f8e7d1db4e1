"""Choose the rows of the test and validation parts: by time, by whole wordings, or at random."""

from typing import Any

from ft_tools.data.prepare.column_mapping import MAX_CLASSES, ColumnMapping
from ft_tools.data.prepare.decided import Decided, HeldOut, Part
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.times import is_month_first, sortable
from ft_tools.data.prepare.whole_wordings import MAX_ROWS, Bundle, bundles_of, choose
from ft_tools.data.split import choose_validation, groups_of

MOST_TESTED = 0.5
"""Of the rows: earlier test rows and those of their wordings."""
ENOUGH_TEST_ROWS = 150
"""They show a difference of 0.1. Source: ft_tools/evaluation/intervals/sample_size.py"""
ENOUGH_TRAINING_ROWS = 100
"""They are left to train on before the test part gets more than a tenth. Ours."""
LEAST_TEST, MOST_TEST = 0.1, 0.25
"""Shares of the rows for the test part, if none is given. Ours."""
SAME_GROUP = "same_group_as_test"
ASKED_AGAIN = "asked_again_in_test"


def split(result: Decided, mapping: ColumnMapping, request: PrepareRequest) -> None:
    """Set the parts of the rows that stay."""
    ledger = result.ledger
    kept = ledger.kept(validation=False)
    share = test_share(request, len(kept))
    if mapping.time_column:
        test = _latest(result, kept, share)
        test |= {at for at in result.tested if not result.outcomes[at]}
    elif _hold_out_wordings(result, request, kept, share):
        return
    else:
        test = _tested_before(result, kept)
        rest = [at for at in kept if at not in test]
        wanted = max(0.0, share * len(kept) - len(test)) / max(1, len(rest))
        test |= choose_validation(ledger, rest, wanted, request.seed)
    for at in test:
        result.parts[at] = Part.TEST
    rest = [at for at in kept if at not in test and not result.outcomes[at]]
    _put_aside(result, rest, request.validation_fraction / max(1e-9, 1 - share), request.seed)


def _put_aside(result: Decided, rest: list[int], share: float, seed: int) -> None:
    """Take the validation part out of the rows that are no test rows."""
    for at in choose_validation(result.ledger, rest, min(share, 0.9), seed):
        result.parts[at] = Part.VALIDATION


def test_share(request: PrepareRequest, num_kept: int) -> float:
    """Return the share of the test part: as many rows as show what matters, within reason."""
    if request.test_fraction is not None:
        return request.test_fraction
    rows = max(1, num_kept)
    left = 1 - request.validation_fraction
    most = min(MOST_TEST, max(LEAST_TEST, left - ENOUGH_TRAINING_ROWS / rows), left / 2)
    return min(most, max(LEAST_TEST, ENOUGH_TEST_ROWS / rows))


def _hold_out_wordings(
    result: Decided, request: PrepareRequest, kept: list[int], share: float
) -> bool:
    """Put whole wordings into the test and validation parts; False if that cannot be."""
    ledger = result.ledger
    is_asked = request.near_duplicates == "wordings" and result.compared
    if not is_asked or len(ledger) > MAX_ROWS or not result.wordings.findings():
        return False
    bundles = bundles_of(ledger, groups_of(ledger, kept))
    num_wordings = sum(one.is_wording for one in bundles)
    result.held_out = HeldOut(num_wordings, 0, 0)
    tested = result.tested.intersection(kept)
    test = [one for one in bundles if not tested.isdisjoint(one.rows)]
    num_test = sum(len(one.rows) for one in test)
    if num_test > MOST_TESTED * len(kept):
        return False
    strata = {at: ledger.split_key[at] for at in kept}
    classes = _classes(result, kept)

    def more(wanted: int, taken: list[Bundle]) -> list[Bundle]:
        left = [one for one in bundles if one not in taken]
        return choose(left, wanted, strata, classes, request.seed)

    test += more(round(share * len(kept)) - num_test, test)
    if share and not any(one.is_wording for one in test):
        return False
    validation = more(round(request.validation_fraction * len(kept)), test)
    if sum(len(one.rows) for one in (*test, *validation)) >= len(kept):
        return False
    for part, chosen in ((Part.TEST, test), (Part.VALIDATION, validation)):
        for at in (at for one in chosen for at in one.rows):
            result.parts[at] = part
    if not validation and request.validation_fraction:
        rest = [at for at in kept if result.parts[at] == Part.TRAIN]
        _put_aside(result, rest, request.validation_fraction / max(1e-9, 1 - share), request.seed)
    counts = (sum(one.is_wording for one in part) for part in (test, validation))
    result.held_out = HeldOut(num_wordings, *counts)
    return True


def _classes(result: Decided, kept: list[int]) -> dict[int, tuple[Any, ...]]:
    """Return what each row teaches if that is a class; else nothing."""
    names = {name for name, counts in result.labels.items() if len(counts) <= MAX_CLASSES}
    if result.classes:
        return {at: tuple(one for one in result.classes[at] if one[0] in names) for at in kept}
    answers = {at: (result.ledger.answer[at],) for at in kept}
    return answers if len(set(answers.values())) <= MAX_CLASSES else {}


def _tested_before(result: Decided, kept: list[int]) -> set[int]:
    """Return what belongs to an earlier test set, and what must be in one part with that."""
    if not result.tested:
        return set()
    ledger = result.ledger
    choose_validation(ledger, kept, 0.5, 0)
    roots = {ledger.linked(at) for at in result.tested}
    return {at for at in kept if ledger.linked(at) in roots}


def _latest(result: Decided, kept: list[int], fraction: float) -> set[int]:
    """Return the latest rows; earlier ones that belong to the same group or prompt are left out."""
    ledger = result.ledger
    choose_validation(ledger, kept, 0.5, 0)
    month_first = bool(is_month_first(result.times))
    times = {at: sortable(result.times[at], month_first=month_first) for at in kept}
    ordered = sorted(kept, key=lambda at: (times[at], ledger.lines[at]))
    test = set(ordered[len(ordered) - round(fraction * len(ordered)) :])
    roots = {ledger.linked(at) for at in test}
    groups = {result.groups[at] for at in test} - {0}
    for at in kept:
        if at not in test and ledger.linked(at) in roots:
            is_of_group = result.groups[at] in groups
            result.drop(at, SAME_GROUP if is_of_group else ASKED_AGAIN)
    return test
