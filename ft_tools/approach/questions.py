"""What is unknown and would change the answer."""

from collections.abc import Sequence
from typing import Any

from ft_tools.approach.decision import decide
from ft_tools.approach.report import Question
from ft_tools.approach.request import TRAINING, ApproachRequest
from ft_tools.approach.table import Decision, table


def questions(request: ApproachRequest, row: Decision) -> list[Question]:
    """Ask for what is missing if some value of it leads to another approach: each is tried."""
    asked = []
    for field, ask in table().questions.items():
        if getattr(request, field) not in (None, [], "unknown"):
            continue
        leads = {
            decide(request.model_copy(update={field: value})).approach for value in _values(field)
        } - {row.approach}
        if leads:
            asked.append(Question(field=field, ask=ask, would_lead_to=sorted(leads)))
    return sorted(asked, key=_weight)


def _weight(question: Question) -> bool:
    """Order questions: what could spare a training run, or start one, first."""
    return not set(question.would_lead_to) & (TRAINING | {"do_nothing"})


def _values(field: str) -> Sequence[Any]:
    """Return values of a field that between them reach every row that depends on it."""
    if field == "symptoms":
        return [[symptom] for symptom in table().needs["quality"]]
    if field in _CHOICE_VALUES:
        return _CHOICE_VALUES[field]
    if field == "success_fraction":
        return [0.0, 0.5]
    lines = {int(threshold.value) for threshold in table().thresholds.values()}
    return sorted({0, 10**12} | lines | {line - 1 for line in lines if line > 0})


_CHOICE_VALUES: dict[str, Sequence[Any]] = {
    "prompting_tried": ("none", "zero_shot", "few_shot", "optimized"),
    "target_met": (True, False),
    "has_documents": (True, False),
    "knowledge_changes": ("never", "yearly", "monthly", "weekly", "daily"),
    "wrong_with_passage": (True, False),
    "schema_enforced": (True, False),
    "has_verifiable_reward": (True, False),
    "has_eval_set": (True, False),
    "data_source": ("human", "production_logs", "stronger_model", "same_model_family"),
    "teacher_terms": ("allowed", "forbidden"),
    "budget": ("low", "medium", "high"),
    "checkpoint": ("base", "instruct", "sft_run"),
}
