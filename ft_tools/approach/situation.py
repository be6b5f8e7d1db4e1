"""What a request says, in the words that the decision table uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from ft_tools.approach.request import ApproachRequest

UNKNOWN = "unknown"
_YES_NO = ("yes", "no", UNKNOWN)

SETS = ("all", "any", "none")
"""Conditions on the needs: all of these, any of these, none of these."""

CHOICES: Mapping[str, Sequence[str]] = {
    "named": ("yes", "no"),
    "target_met": _YES_NO,
    "has_eval_set": _YES_NO,
    "prompting_tried": ("none", "zero_shot", "few_shot", "optimized", UNKNOWN),
    "has_documents": _YES_NO,
    "knowledge_changes": ("never", "yearly", "monthly", "weekly", "daily", UNKNOWN),
    "wrong_with_passage": _YES_NO,
    "schema_enforced": _YES_NO,
    "has_verifiable_reward": _YES_NO,
    "data_source": get_args(ApproachRequest.model_fields["data_source"].annotation),
    "teacher_terms": ("allowed", "forbidden", UNKNOWN),
    "budget": ("low", "medium", "high", UNKNOWN),
    "checkpoint": ("base", "instruct", "sft_run", UNKNOWN),
}
NUMBERS = (
    "demonstrations",
    "num_demonstrations",
    "preference_pairs",
    "num_marks",
    "corpus_tokens",
    "context_tokens_per_day",
    "calls_per_day",
    "prompt_tokens",
    "success_fraction",
)


@dataclass(frozen=True)
class Situation:
    """A request in the table's words: needs, choices and numbers; None is an unknown number."""

    needs: frozenset[str]
    choices: Mapping[str, str]
    numbers: Mapping[str, float | None]


def situation(request: ApproachRequest, needs: Mapping[str, Sequence[str]]) -> Situation:
    """Put a request into the table's words.

    Three things are derived. `demonstrations` counts only what may and should be trained on: none
    if a model wrote them under terms that forbid it, or if the same model family wrote them and
    nothing checks them. `context_tokens_per_day` is the whole corpus in every call. Jargon is a
    lack of knowledge while documents can explain it, and a manner of speaking where there are none.
    """
    found = {name for name, symptoms in needs.items() if set(symptoms) & set(request.symptoms)}
    if "jargon" in found:
        found.add("manner" if request.has_documents is False else "knowledge")
    choices = {name: _choice(request, name) for name in CHOICES if name != "named"}
    choices["named"] = "yes" if request.symptoms else "no"
    numbers: dict[str, float | None] = {
        name: getattr(request, name) for name in NUMBERS if name in ApproachRequest.model_fields
    }
    forbidden = request.teacher_terms == "forbidden" and request.data_source != "human"
    unchecked = (
        request.data_source == "same_model_family" and request.has_verifiable_reward is not True
    )
    numbers["demonstrations"] = 0 if forbidden or unchecked else request.num_demonstrations
    numbers["preference_pairs"] = 0 if forbidden else request.num_preference_pairs
    numbers["context_tokens_per_day"] = _product(request.corpus_tokens, request.calls_per_day)
    return Situation(frozenset(found), choices, numbers)


def _choice(request: ApproachRequest, field: str) -> str:
    value = getattr(request, field)
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _product(one: int | None, other: int | None) -> float | None:
    return None if one is None or other is None else float(one) * other
