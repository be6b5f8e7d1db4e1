"""What recommend_approach takes."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from ft_tools.contract import Request, ResponseFormat

Symptom = Literal[
    "knowledge_gap",
    "stale_knowledge",
    "hallucination",
    "new_language",
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
    "multi_turn_tool_use",
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

Rough = Literal["none", "tens", "hundreds", "thousands", "more"]
"""A count that is only known roughly; `more` is tens of thousands and above."""


def _count(value: object) -> object:
    """Accept a number from 0 on, also as text, or a rough word."""
    if (isinstance(value, str) and value.isdecimal()) or (
        isinstance(value, float) and value.is_integer()
    ):
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not is_number and value not in get_args(Rough):
        words = ", ".join(get_args(Rough))
        raise ValueError(f"must be a number from 0, or roughly: {words}")
    return value


Count = Annotated[Annotated[int, Field(ge=0)] | Rough, BeforeValidator(_count)]

ROUGH = "A number, or roughly: none, tens, hundreds, thousands, more."

Teacher = Literal[
    "openai",
    "anthropic",
    "gemini",
    "llama_2_or_3",
    "llama_3_1_or_later",
    "deepseek",
    "open_licence",
    "other",
]


class ApproachRequest(Request):
    """Recommend the cheapest approach likely to fix the model's answers, training or not.

    Answers first what is considered (now, later or no), then returns the path: two to five steps,
    each with the measurement at which to stop. Also returns the questions whose answers would
    change it, what not to do, and what the user's data is good for.
    """

    problem: str = Field(
        "",
        max_length=4000,
        description="The problem in words. Kept for the record; it does not affect the answer.",
    )
    considering: list[Approach] = Field(
        default_factory=list,
        max_length=6,
        description="Approaches that the user proposes or asks about. The report answers each "
        "first: now, later or no.",
    )
    symptoms: list[Symptom] = Field(
        default_factory=list,
        max_length=21,
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
    evaluations: list[str] = Field(
        default_factory=list,
        max_length=10,
        description="Run ids of finished evaluations. What they measured fills in "
        "prompting_tried, target_met and has_eval_set, and contradictions are reported.",
    )
    prompt_tokens: int | None = Field(
        None, ge=0, description="Number of prompt tokens that are the same in every call."
    )
    calls_per_day: int | None = Field(None, ge=0, description="Calls per day in production.")
    batch_calls: int | None = Field(
        None, ge=0, description="Calls in total, if the work is done once instead of every day."
    )
    num_demonstrations: Count | None = Field(
        None, description=f"Examples of an input with the right answer. {ROUGH}"
    )
    num_classes: int | None = Field(
        None, ge=2, description="Number of classes, if the task is to choose one of them."
    )
    num_preference_pairs: Count | None = Field(
        None, description=f"Prompts with a better and a worse answer. {ROUGH}"
    )
    num_marks: Count | None = Field(
        None, description=f"Answers with a good or bad verdict, without pairs. {ROUGH}"
    )
    has_documents: bool | None = Field(
        None, description="Is the missing knowledge written down in text that can be searched?"
    )
    corpus_tokens: int | None = Field(
        None, ge=0, description="Number of tokens of all that text; counted if `documents` is set."
    )
    documents: str | None = Field(
        None,
        description="File or folder with that text. Its tokens are counted and the cost per day of "
        "long context, retrieval and a lookup is computed.",
    )
    has_retrieval: bool | None = Field(None, description="Is retrieval already running?")
    retrieval_recall: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Fraction of questions for which it finds the right passage, 0 to 1.",
    )
    knowledge_changes: (
        Literal["never", "yearly", "quarterly", "monthly", "weekly", "daily"] | None
    ) = Field(None, description="How often the facts, labels or rules change.")
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
    small_model_score: float | None = Field(
        None, ge=0, le=1, description="Score of the smaller or local model with its best prompt."
    )
    large_model_score: float | None = Field(
        None, ge=0, le=1, description="Score of the large model in use, on the same test."
    )
    has_eval_set: bool | None = Field(
        None, description="Do held-out examples with a metric and a target exist?"
    )
    data_source: Literal[
        "human", "production_logs", "stronger_model", "same_model_family", "unknown"
    ] = Field("unknown", description="Who wrote the answers of the demonstrations.")
    teacher: Teacher | None = Field(
        None, description="Whose model wrote them. Its terms depend on `product_use`."
    )
    teacher_terms: Literal["allowed", "forbidden"] | None = Field(
        None, description="Do the terms of the model that wrote them allow training on them?"
    )
    product_use: Literal["internal", "sold"] | None = Field(
        None, description="Is the result used only internally, or sold or given to others?"
    )
    weights_access: Literal["api_only", "open_weights"] | None = Field(
        None, description="Is the model to improve available only over an API?"
    )
    must_keep_thinking: bool | None = Field(
        None, description="Does the model reason before it answers, and must it keep doing so?"
    )
    examples_have_reasoning: bool | None = Field(
        None, description="Do the demonstrations contain that reasoning, not only the answers?"
    )
    budget: Literal["low", "medium", "high"] | None = Field(
        None,
        description="One-off budget: low is under 100 USD, medium up to 5,000 USD, high above.",
    )
    budget_usd: float | None = Field(None, ge=0, description="One-off budget in US dollars.")
    checkpoint: Literal["base", "instruct", "sft_run"] | None = Field(
        None, description="What would be trained: a raw base model, a chat model, or a run's model."
    )
    gpu: str | None = Field(None, description="GPU for training, as in `estimate_vram`.")
    model: str | None = Field(None, description="Model to train, if already chosen.")
    dataset: str | None = Field(
        None,
        description="File or folder with the demonstrations, pairs or verdicts. Small files are "
        "audited, and the counts fill in what is missing here.",
    )
    response_format: ResponseFormat = Field(
        "concise",
        description="detailed adds alternatives, measurements, common mistakes, rules of thumb, "
        "GPU time and all evidence.",
    )
