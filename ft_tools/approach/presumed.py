"""What is named without a number exists: how much of it the table takes for granted."""

from collections.abc import Mapping
from dataclasses import dataclass

from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.approach.table import table
from ft_tools.approach.vocabulary import UNKNOWN

DEMONSTRATIONS = "num_demonstrations"
_EITHER = {"num_preference_pairs": "num_marks", "num_marks": "num_preference_pairs"}
"""Preferences come as pairs or as marks: where one is there, the other is not presumed."""
_OF_PREFERENCES: frozenset[Approach] = frozenset({"dpo", "kto", "sft_then_dpo", "rlhf"})


@dataclass(frozen=True)
class Presumed:
    """Numbers by argument, and which of them the question itself presumes."""

    numbers: Mapping[str, float]
    asked: frozenset[str]


def presumed(request: ApproachRequest) -> Presumed:
    """Return what a question about an approach presumes, and what a named author has written.

    Only for arguments that are not given. Raw text is never presumed: how much there is of it
    decides. Nor are pairs where a prompt was measured and DPO is one of several ways that are asked
    about: that they are compared does not mean that there are pairs.
    """
    asked = {
        table().presumes.get(approach, "")
        for approach in request.considering
        if not (approach in _OF_PREFERENCES and _is_one_of_several(request))
    } - {""}
    asked = {
        field
        for field in asked
        if getattr(request, field) is None and not _has(request, _EITHER.get(field, ""))
    }
    named = asked | ({DEMONSTRATIONS} if _has_author(request) else set())
    amount = table().derived["presumed"].value
    return Presumed(dict.fromkeys(named, amount), frozenset(asked))


def _is_one_of_several(request: ApproachRequest) -> bool:
    is_measured = request.prompting_tried not in (None, "none")
    return is_measured and bool(set(request.considering) - _OF_PREFERENCES)


def _has(request: ApproachRequest, field: str) -> bool:
    return bool(field) and getattr(request, field) not in (None, 0, "none")


def _has_author(request: ApproachRequest) -> bool:
    """Tell whether somebody wrote demonstrations that nobody counted."""
    is_named = request.data_source != UNKNOWN or request.teacher is not None
    is_of_preferences = _has(request, "num_preference_pairs") or _has(request, "num_marks")
    return is_named and request.num_demonstrations is None and not is_of_preferences
