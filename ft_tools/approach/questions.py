"""What is unknown and would change the answer."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args

from ft_tools.approach.conditions import PROMPTS, Kind, Range
from ft_tools.approach.decision import decide
from ft_tools.approach.presumed import presumed
from ft_tools.approach.report import Question
from ft_tools.approach.request import ApproachRequest, Considered, Trained
from ft_tools.approach.situation import situation
from ft_tools.approach.table import table
from ft_tools.approach.table_rows import Decision

MOST_ASKED = 3


def questions(request: ApproachRequest, row: Decision) -> list[Question]:
    """Ask for what is missing if some value of it leads to another approach: each is tried.

    The order is the table's: what most often settles the answer comes first; before it, how much
    there is of what is taken for granted.
    """
    asked = []
    order = table().questions
    taken = [field for field in presumed(request).asked if field in order]
    for field in dict.fromkeys([*sorted(taken), *order]):
        if getattr(request, field) not in (None, [], "unknown") or not _makes_sense(request, field):
            continue
        leads = {
            decide(request.model_copy(update={field: value})).approach for value in _values(field)
        } - {row.approach}
        if leads:
            asked.append(Question(field=field, ask=order[field], would_lead_to=sorted(leads)))
        if len(asked) == MOST_ASKED:
            break
    return asked


def _makes_sense(request: ApproachRequest, field: str) -> bool:
    """Tell whether a question can be answered: some need something that is there."""
    if field == "symptoms":
        return _answers_today(request)
    if field in _BESIDE_PROMPTED:
        kind = situation(request).kind
        if not table().kinds[kind].is_prompted and kind not in _BESIDE_PROMPTED[field]:
            return False
    if field == "prompting_tried" and not _PROMPTLESS.isdisjoint(request.considering):
        return False
    if field in _NOT_OF_LICENCES and "licence" in request.considering:
        return False
    if field in _OF_A_TEACHER:
        return request.teacher is not None or request.data_source in _OF_A_TEACHER[field]
    needed = _NEEDED.get(field)
    return needed is None or bool(getattr(request, needed))


def _answers_today(request: ApproachRequest) -> bool:
    """Tell whether something is said to answer, so that it can fail."""
    is_asked = request.prompting_tried not in (None, PROMPTS[0])
    is_running = bool(request.has_retrieval) or bool(request.tried_training)
    return request.target_met is False or is_asked or is_running


_BESIDE_PROMPTED: Mapping[str, frozenset[Kind]] = {
    "checkpoint": frozenset({"rl", "reward_model"}),
    "prompting_tried": frozenset({"rl", "other"}),
    "has_documents": frozenset({"search", "other"}),
}
"""Question -> the kinds for which it makes sense beside those that a prompt asks."""

_PROMPTLESS: frozenset[Considered] = frozenset({"reward_design", "rl_verifiable_reward"})
"""What is asked where a prompt is the baseline and not what was tried."""

_NOT_OF_LICENCES = ("has_eval_set", "target_met", "tried_training", "data_source")
"""What no licence depends on: scores, earlier runs, who wrote answers where no model did."""

_OF_A_TEACHER: Mapping[str, Sequence[str]] = {
    "product_use": ("stronger_model",),
    "teacher_terms": ("stronger_model", "production_logs"),
}
"""Questions about terms -> the sources of data whose terms matter."""

_NEEDED: Mapping[str, str] = {
    "retrieval_recall": "has_retrieval",
    "examples_have_reasoning": "must_keep_thinking",
    "success_fraction": "has_verifiable_reward",
}
"""Question -> the argument that it needs."""


def _values(field: str) -> Sequence[Any]:
    """Return values of a field that between them reach every row that depends on it."""
    if field == "symptoms":
        return [[symptom] for symptom in table().needs["quality"]]
    if field in _CHOICE_VALUES:
        return _CHOICE_VALUES[field]
    if field in ("success_fraction", "retrieval_recall"):
        return [0.0, 0.5, 1.0]
    return _around_thresholds(field)


@cache
def _around_thresholds(field: str) -> Sequence[int]:
    """Return counts on both sides of every threshold that a row compares with the field."""
    names = _COMPARED.get(field, (field,))
    bounds = {
        bound
        for row in table().rows
        for name in names
        if isinstance(condition := row.when.get(name), Range)
        for bound in (condition.at_least, condition.below)
        if bound
    }
    lines = {int(table().thresholds[bound].value) for bound in bounds}
    return sorted({0, MOST} | lines | {line - 1 for line in lines if line > 0})


MOST = 10**12
_COMPARED: Mapping[str, Sequence[str]] = {
    "num_demonstrations": ("num_demonstrations", "demonstrations"),
    "num_preference_pairs": ("preference_pairs",),
}
"""Argument -> the numbers of the table that are made from it, where the names differ."""

_CHOICE_VALUES: dict[str, Sequence[Any]] = {
    "tried_training": [[each] for each in get_args(Trained)],
    "prompting_tried": ("none", "zero_shot", "few_shot", "optimized"),
    "target_met": (True, False),
    "has_documents": (True, False),
    "knowledge_changes": ("never", "quarterly", "monthly", "weekly", "daily", "hourly"),
    "wrong_with_passage": (True, False),
    "schema_enforced": (True, False),
    "has_verifiable_reward": (True, False),
    "has_eval_set": (True, False),
    "data_source": ("human", "production_logs", "stronger_model", "same_model_family"),
    "teacher_terms": ("allowed", "forbidden"),
    "has_retrieval": (True, False),
    "product_use": ("internal", "sold"),
    "weights_access": ("api_only", "open_weights"),
    "examples_have_reasoning": (True, False),
    "budget": ("low", "medium", "high"),
    "checkpoint": ("base", "instruct", "sft_run"),
}
