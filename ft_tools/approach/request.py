"""What recommend_approach takes."""

from typing import Literal

from pydantic import Field

from ft_tools.contract import Request

Symptom = Literal[
    "knowledge_gap",
    "stale_knowledge",
    "output_format",
    "style",
    "tone",
    "structure",
    "instruction_following",
    "domain_jargon",
    "reasoning",
    "classification",
    "extraction",
    "tool_use",
    "preference",
    "safety",
    "refusals",
    "latency",
    "cost",
    "privacy",
]

Approach = Literal[
    "prompting",
    "constrained_decoding",
    "few_shot",
    "prompt_optimization",
    "rag",
    "long_context",
    "tool_lookup",
    "sft",
    "small_model_fine_tuning",
    "dpo",
    "kto",
    "sft_then_dpo",
    "rl_verifiable_reward",
    "rlhf",
    "sft_and_rag",
    "continued_pretraining",
    "distillation",
    "collect_data_first",
    "build_eval_first",
    "do_nothing",
]

TRAINING: frozenset[Approach] = frozenset(
    {
        "sft",
        "small_model_fine_tuning",
        "dpo",
        "kto",
        "sft_then_dpo",
        "rl_verifiable_reward",
        "rlhf",
        "sft_and_rag",
        "continued_pretraining",
        "distillation",
    }
)
"""The approaches that change weights."""


class ApproachRequest(Request):
    """What is wrong, what was tried, and what is available. Leave out what you do not know."""

    problem: str = Field(
        "",
        max_length=4000,
        description="The problem in words. Kept for the record; it does not affect the answer.",
    )
    symptoms: list[Symptom] = Field(
        default_factory=list,
        max_length=18,
        description="How the current answers fail. `classification`, `extraction`, `reasoning` and "
        "`tool_use` mean that the answers to this task are wrong; `latency`, `cost` and `privacy` "
        "alone mean that the answers are good.",
    )
    prompting_tried: Literal["none", "zero_shot", "few_shot", "optimized"] | None = Field(
        None,
        description="The best prompt measured so far: instructions only (zero_shot), with examples "
        "(few_shot), or improved by an optimizer or long manual work (optimized).",
    )
    target_met: bool | None = Field(
        None,
        description="Does the best prompt reach the target on held-out examples, within the limits "
        "for cost and latency?",
    )
    prompt_tokens: int | None = Field(
        None, ge=0, description="Number of prompt tokens that are the same in every call."
    )
    calls_per_day: int | None = Field(None, ge=0, description="Calls per day in production.")
    num_demonstrations: int | None = Field(
        None, ge=0, description="Number of examples of an input with the right answer."
    )
    num_preference_pairs: int | None = Field(
        None, ge=0, description="Number of prompts with a better and a worse answer."
    )
    num_marks: int | None = Field(
        None, ge=0, description="Number of answers with a good or bad verdict, without pairs."
    )
    has_documents: bool | None = Field(
        None, description="Is the missing knowledge written down in text that can be searched?"
    )
    corpus_tokens: int | None = Field(None, ge=0, description="Number of tokens of all that text.")
    knowledge_changes: Literal["never", "yearly", "monthly", "weekly", "daily"] | None = Field(
        None, description="How often the facts, labels or rules change."
    )
    wrong_with_passage: bool | None = Field(
        None,
        description="Is it still wrong when the right passage is put into the prompt by hand?",
    )
    schema_enforced: bool | None = Field(
        None, description="Is constrained decoding (a JSON schema or grammar) already on?"
    )
    has_verifiable_reward: bool | None = Field(
        None, description="Can a program tell a right answer from a wrong one?"
    )
    success_fraction: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Fraction of 8 to 16 samples per prompt that pass this check today, 0 to 1.",
    )
    has_eval_set: bool | None = Field(
        None, description="Do held-out examples with a metric and a target exist?"
    )
    data_source: Literal[
        "human", "production_logs", "stronger_model", "same_model_family", "unknown"
    ] = Field("unknown", description="Who wrote the answers of the demonstrations.")
    teacher_terms: Literal["allowed", "forbidden"] | None = Field(
        None, description="Do the terms of the model that wrote them allow training on them?"
    )
    budget: Literal["low", "medium", "high"] | None = Field(
        None,
        description="One-off budget: low is under 100 USD, medium up to 5,000 USD, high above.",
    )
    checkpoint: Literal["base", "instruct", "sft_run"] | None = Field(
        None,
        description="What would be trained: a raw base model, a chat model, or the model of a run.",
    )
    gpu: str | None = Field(None, description="GPU for training, as in `estimate_vram`.")
    model: str | None = Field(None, description="Model to train, if already chosen.")
    dataset: str | None = Field(None, description="Path of the demonstrations, used in next_steps.")
