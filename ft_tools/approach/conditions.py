"""What a condition of the decision table may say, in the words of a situation."""

from collections.abc import Collection, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from ft_tools.approach.request import Approach, ApproachRequest, Considered, Observed, RunsOn

UNKNOWN = "unknown"

SETS = ("all", "any", "none")
"""Conditions on the needs: all of these, any of these, none of these."""

CONSIDERS = "considers"
CONSIDERS_NONE = "considers_none"
"""Condition on what is asked about: any of these, or none of these."""

TRIED = "tried"
"""Condition on training that was done and missed: any of these approaches."""

LISTS: Mapping[str, Sequence[str]] = {
    "observed": get_args(Observed),
    "runs_on": get_args(RunsOn),
}
"""Conditions on arguments that are lists: any of these words."""

ARGUMENTS = (
    *("task", "personal_data", "target_met", "has_eval_set", "prompting_tried", "has_documents"),
    *("knowledge_changes", "wrong_with_passage", "schema_enforced", "has_verifiable_reward"),
    *("data_source", "teacher_terms", "product_use", "weights_access", "examples_have_reasoning"),
    *("budget", "checkpoint"),
)
"""Arguments of the request that conditions read as they are."""


def words_of(argument: str) -> tuple[str, ...]:
    """Return what an argument may be, without `unknown`.

    >>> words_of("budget"), words_of("target_met")
    (('low', 'medium', 'high'), ('yes', 'no'))
    """
    annotation: Any = ApproachRequest.model_fields[argument].annotation
    kinds = get_args(annotation) if get_origin(annotation) in (UnionType, Union) else (annotation,)
    if bool in kinds:
        return ("yes", "no")
    words = (word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind))
    return tuple(word for word in words if word != UNKNOWN)


PROMPTS = words_of("prompting_tried")
"""From no prompt measured to the best one."""

Kind = Literal[
    "text",
    "code",
    "label",
    "extract",
    "search",
    "table",
    "translate",
    "image",
    "document",
    "speech",
    "voice",
    "other",
    "reward_model",
    "rl",
]
"""What is trained: text (a language model), search (an embedder or reranker), document (it reads
pages), label (a classifier) and so on. A task of the request is one of them."""

CHOICES: Mapping[str, Sequence[str]] = {
    "kind": get_args(Kind),
    "named": ("yes", "no"),
    "stated": ("yes", "no"),
    "terms_open": ("yes", "no"),
    "failing": ("yes", "no"),
    "fault_of": ("none", "encoder", "examples", "preferences", "rewards", UNKNOWN),
    "prompt_assumed": ("yes", "no"),
    "retrieval": ("none", "misses", "unmeasured", "finds", UNKNOWN),
    "small_model": ("as_good", "worse", UNKNOWN),
    "thinking_at_risk": ("yes", "no"),
} | {argument: (*words_of(argument), UNKNOWN) for argument in ARGUMENTS}
NUMBERS = (
    "demonstrations",
    "num_demonstrations",
    "examples_per_class",
    "num_classes",
    "preference_pairs",
    "num_marks",
    "corpus_tokens",
    "context_tokens_per_day",
    "calls_per_day",
    "prompt_tokens",
    "success_fraction",
)
APPROACHES: Sequence[Approach] = get_args(Approach)


class Row(BaseModel):
    """A part of the table's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Row):
    """A condition on a number: bounds are names of thresholds."""

    at_least: str | None = None
    below: str | None = None
    unknown: bool = False  # does an unknown number satisfy it?


Condition = list[str] | Range


def check(
    field: str, condition: Condition, needs: Collection[str], thresholds: Collection[str]
) -> None:
    """Refuse a condition that nothing can fulfil.

    Raises:
        ValueError: It names a field, word, need or threshold that is not there.
    """
    if isinstance(condition, Range):
        bounds = {condition.at_least, condition.below} - {None}
        if field not in NUMBERS or not bounds or bounds - set(thresholds):
            raise ValueError(f"condition on {field}: {condition} names no number or threshold")
    elif field in (CONSIDERS, CONSIDERS_NONE, TRIED):
        known = APPROACHES if field == TRIED else get_args(Considered)
        if set(condition) - set(known):
            raise ValueError(f"condition on {field}: {condition} names nothing that is asked")
    elif field in LISTS:
        if set(condition) - set(LISTS[field]):
            raise ValueError(f"condition on {field}: {condition}; words: {LISTS[field]}")
    elif field in SETS:
        if set(condition) - set(needs):
            raise ValueError(f"condition on {field}: {condition} names no need")
    elif field not in CHOICES or set(condition) - set(CHOICES[field]):
        raise ValueError(f"condition on {field}: {condition}; choices: {CHOICES.get(field)}")
