"""What is named without a number exists: how much of it the table takes for granted."""

from collections.abc import Mapping
from dataclasses import dataclass

from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.table import table
from ft_tools.approach.vocabulary import UNKNOWN

DEMONSTRATIONS = "num_demonstrations"
CORPUS = "corpus_tokens"
_EITHER = {"num_preference_pairs": "num_marks", "num_marks": "num_preference_pairs"}
"""Preferences come as pairs or as marks: where one is there, the other is not presumed."""


@dataclass(frozen=True)
class Presumed:
    """Numbers by argument, and which of them the question itself presumes."""

    numbers: Mapping[str, float]
    asked: frozenset[str]


def presumed(request: ApproachRequest) -> Presumed:
    """Return what a question about an approach presumes, and what a named author has written.

    Only for arguments that are not given. Raw text is presumed for a language alone, of which there
    is some everywhere, and not before a prompt was tried; how much text a firm has about its
    subject is not known.
    """
    asked = {table().presumes.get(approach, "") for approach in request.considering} - {""}
    if "new_language" not in request.symptoms or request.prompting_tried == "none":
        asked.discard(CORPUS)
    asked = {
        field
        for field in asked
        if getattr(request, field) is None and not _has(request, _EITHER.get(field, ""))
    }
    named = asked | ({DEMONSTRATIONS} if _has_author(request) else set())
    amount = table().derived["presumed"].value
    text = table().thresholds["pretraining_tokens"].value
    return Presumed(
        {field: text if field == CORPUS else amount for field in named}, frozenset(asked)
    )


def _has(request: ApproachRequest, field: str) -> bool:
    return bool(field) and getattr(request, field) not in (None, 0, "none")


def _has_author(request: ApproachRequest) -> bool:
    """Tell whether somebody wrote demonstrations that nobody counted."""
    is_named = request.data_source != UNKNOWN or request.teacher is not None
    is_of_preferences = _has(request, "num_preference_pairs") or _has(request, "num_marks")
    return is_named and request.num_demonstrations is None and not is_of_preferences
