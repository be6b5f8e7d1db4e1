"""What recommend_approach takes."""

from typing import Literal

from pydantic import Field

from ft_tools.contract import ToolRequest

RungId = Literal[
    "do_nothing", "check_setup", "clear_terms", "build_eval_first",
    "prompting", "constrained_decoding", "few_shot", "prompt_optimization",
    "long_context", "tool_lookup", "rag",
    "small_model_fine_tuning", "distillation", "sft", "sft_and_rag",
    "kto", "dpo", "rl_verifiable_reward", "continued_pretraining", "collect_data_first",
]  # fmt: skip
Teacher = Literal[
    "openai", "anthropic", "gemini", "gemma", "llama_2_or_3", "llama_3_1_or_later",
    "deepseek", "open_licence", "other", "same_family", "cleared",
]  # fmt: skip


class ApproachRequest(ToolRequest):
    """Help decide whether to fine-tune: computed facts, a ladder of approaches, sourced evidence.

    You judge. What is omitted stays unknown.
    """

    problem: str = Field(
        "", max_length=4000, description="In the user's words; only searched with."
    )
    considering: list[RungId] = Field(
        default_factory=list,
        max_length=6,
        description="Proposals: prompting, few_shot, rag, sft ...",
    )
    dataset: str | None = Field(None, description="Path of training examples.")
    documents: str | None = Field(None, description="Path of texts with the facts.")
    evaluations: list[str] = Field(
        default_factory=list, max_length=10, description="Run ids of finished evaluations."
    )
    model: str | None = Field(None, description="Model to train, if chosen.")
    gpu: str | None = Field(None, description="GPU to train on.")
    tried: list[RungId] = Field(
        default_factory=list, description="What was measured and misses the target."
    )
    target_met: bool | None = Field(None, description="Are today's answers good enough?")
    purpose: Literal["facts", "form", "skill", "shorter_prompt", "lower_cost"] | None = Field(
        None, description="What training would have to achieve."
    )
    num_examples: int | None = Field(None, ge=0, description="Inputs with right answers.")
    num_classes: int | None = Field(None, ge=2, description="Classes to choose from.")
    num_pairs: int | None = Field(None, ge=0, description="Better and worse answers to a prompt.")
    num_marks: int | None = Field(None, ge=0, description="Answers marked good or bad.")
    num_eval_rows: int | None = Field(None, ge=0, description="Held-out rows with right answers.")
    success_fraction: float | None = Field(
        None, ge=0, le=1, description="Samples of the model that pass a program's check."
    )
    corpus_tokens: int | None = Field(None, ge=0, description="Tokens of the documents.")
    prompt_tokens: int | None = Field(None, ge=0, description="Tokens that every call repeats.")
    calls_per_day: int | None = Field(None, ge=0, description="Calls per day.")
    price_per_million_tokens: float | None = Field(
        None, gt=0, description="Of uncached input, in your currency."
    )
    knowledge_changes: (
        Literal["never", "yearly", "quarterly", "monthly", "weekly", "daily", "hourly"] | None
    ) = Field(None, description="How often facts or labels change.")
    teacher: Teacher | None = Field(
        None,
        description="Whose model wrote the answers. cleared: someone read its terms, and they "
        "allow it. same_family: the model that is trained.",
    )
    product_use: Literal["internal", "sold"] | None = Field(
        None, description="sold: or given away."
    )
