"""The words of the decision table's conditions."""

from collections.abc import Mapping, Sequence
from typing import get_args

from ft_tools.approach.request import Approach, ApproachRequest

UNKNOWN = "unknown"
_YES_NO = ("yes", "no", UNKNOWN)

SETS = ("all", "any", "none")
"""Conditions on the needs: all of these, any of these, none of these."""

CONSIDERS = "considers"
"""Condition on what is asked about: any of these approaches."""

TRIED = "tried"
"""Condition on training that was done and missed: any of these approaches."""

PROMPTS = ("none", "zero_shot", "few_shot", "optimized")
"""From no prompt measured to the best one."""

CHOICES: Mapping[str, Sequence[str]] = {
    "named": ("yes", "no"),
    "target_met": _YES_NO,
    "has_eval_set": _YES_NO,
    "prompting_tried": (*PROMPTS, UNKNOWN),
    "has_documents": _YES_NO,
    "retrieval": ("none", "misses", "unmeasured", "finds", UNKNOWN),
    "knowledge_changes": (
        "never",
        "yearly",
        "quarterly",
        "monthly",
        "weekly",
        "daily",
        UNKNOWN,
    ),
    "wrong_with_passage": _YES_NO,
    "schema_enforced": _YES_NO,
    "has_verifiable_reward": _YES_NO,
    "small_model": ("as_good", "worse", UNKNOWN),
    "data_source": get_args(ApproachRequest.model_fields["data_source"].annotation),
    "teacher_terms": ("allowed", "forbidden", UNKNOWN),
    "product_use": ("internal", "sold", UNKNOWN),
    "weights_access": ("api_only", "open_weights", UNKNOWN),
    "thinking_at_risk": ("yes", "no"),
    "examples_have_reasoning": _YES_NO,
    "budget": ("low", "medium", "high", UNKNOWN),
    "checkpoint": ("base", "instruct", "sft_run", UNKNOWN),
}
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
