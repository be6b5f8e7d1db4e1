"""Choose the rows of the test and validation parts: by time, by whole wordings, or at random."""

from collections.abc import Hashable, Iterable, Mapping, Sequence

from ft_tools.data.prepare.column_mapping import ColumnMapping, are_classes
from ft_tools.data.prepare.decided import Decided, HeldOut, Part
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.times import is_month_first, sortable
from ft_tools.data.split import choose_validation, groups_of
from ft_tools.data.whole_wordings import (
    MAX_OVER,
    Bundle,
    bundles_of,
    choose,
    choose_validated,
    classes_of,
    rows_in,
)

MOST_TESTED = 0.5
"""Of the rows: earlier test rows and those of their wordings."""
ENOUGH_TEST_ROWS = 150
"""They show a difference of 0.1. Source: ft_tools/metrics/sample_size.py"""
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
    # Links what stays together.
    groups = groups_of(ledger, kept)
    bundles = _by_wording(result, request, groups)
    validation: set[int] = set()
    if mapping.time_column:
        test = _latest(result, kept, share)
        test |= {at for at in result.tested if not result.outcomes[at]}
    else:
        test = _tested_before(result, kept)
        if held_out := _whole_wordings(result, request, bundles, share, test):
            test, validation = held_out
        else:
            rest = [at for at in kept if at not in test]
            wanted = max(0.0, share * len(kept) - len(test)) / max(1, len(rest))
            test |= choose_validation(ledger, rest, wanted, request.seed)
    if not validation:
        rest = [at for at in kept if at not in test and not result.outcomes[at]]
        wanted = min(request.validation_fraction / (1 - share), 0.9)
        validation = choose_validation(ledger, rest, wanted, request.seed)
    for part, chosen in ((Part.TEST, test), (Part.VALIDATION, validation)):
        for at in chosen:
            result.parts[at] = part


def test_share(request: PrepareRequest, num_kept: int) -> float:
    """Return the share of the test part: as many rows as show what matters, within reason."""
    if request.test_fraction is not None:
        return request.test_fraction
    rows = max(1, num_kept)
    left = 1 - request.validation_fraction
    most = min(MOST_TEST, max(LEAST_TEST, left - ENOUGH_TRAINING_ROWS / rows), left / 2)
    return min(most, max(LEAST_TEST, ENOUGH_TEST_ROWS / rows))


def _by_wording(result: Decided, request: PrepareRequest, groups: list[list[int]]) -> list[Bundle]:
    """Return the rows that stay together, and count their wordings; none if these do not matter."""
    is_asked = request.near_duplicates == "wordings" and result.compared
    if not is_asked or not result.wordings.findings():
        return []
    bundles = bundles_of(result.ledger, groups)
    result.held_out = HeldOut(sum(one.is_wording for one in bundles), 0, 0)
    return bundles


def _whole_wordings(
    result: Decided,
    request: PrepareRequest,
    bundles: list[Bundle],
    share: float,
    tested: set[int],
) -> tuple[set[int], set[int]] | None:
    """Return rows of whole wordings for the test and validation parts; None if that cannot be.

    Args:
        result: To which the number of wordings of each part is added.
        request: What is asked for.
        bundles: Rows that stay together; none if wordings do not matter.
        share: Of the test part.
        tested: Rows that have to be in it.
    """
    if result.held_out is None:
        return None
    kept = rows_in(bundles)
    test = [one for one in bundles if not tested.isdisjoint(one.rows)]
    num_tested = len(rows_in(test))
    if num_tested > MOST_TESTED * len(kept):
        return None
    strata = result.ledger.split_key
    classes = _classes(result, kept)
    test += choose(
        [one for one in bundles if tested.isdisjoint(one.rows)],
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


def _classes(result: Decided, kept: Iterable[int]) -> Mapping[int, Sequence[Hashable]]:
    """Return what each row teaches if that is a class; else nothing."""
    names = {name for name, counts in result.labels.items() if are_classes(counts)}
    if result.classes:
        return {at: tuple(one for one in result.classes[at] if one[0] in names) for at in kept}
    return classes_of(result.ledger, kept)


def _tested_before(result: Decided, kept: list[int]) -> set[int]:
    """Return what belongs to an earlier test set, and what must be in one part with that."""
    if not result.tested:
        return set()
    ledger = result.ledger
    roots = {ledger.linked(at) for at in result.tested}
    return {at for at in kept if ledger.linked(at) in roots}


def _latest(result: Decided, kept: list[int], fraction: float) -> set[int]:
    """Return the latest rows; earlier ones that belong to the same group or prompt are left out."""
    ledger = result.ledger
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
