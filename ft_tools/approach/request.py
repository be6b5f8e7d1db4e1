"""What recommend_approach takes."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from ft_tools.contract import Request, ResponseFormat

Symptom = Literal[
    "knowledge_gap",
    "stale_knowledge",
    "hallucination",
    "later_turns",
    "forgetting",
    "training_fault",
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
    "long_thinking",
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
    "check_setup",
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

Trained = Literal[
    "sft",
    "small_model_fine_tuning",
    "distillation",
    "dpo",
    "kto",
    "rl_verifiable_reward",
    "continued_pretraining",
]

Rough = Literal["none", "tens", "hundreds", "thousands", "more", "millions"]
"""A count that is only known roughly; `more` is tens of thousands and above."""

Share = Literal["none", "few", "half", "most", "all"]
"""A fraction that is only known roughly."""


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


def _fraction(value: object) -> object:
    """Accept a number from 0 to 1, also as text, or a rough word."""
    if value in get_args(Share):
        return value
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        words = ", ".join(get_args(Share))
        raise ValueError(f"must be a number from 0 to 1, or roughly: {words}")
    return number


Count = Annotated[Annotated[int, Field(ge=0)] | Rough, BeforeValidator(_count)]
Fraction = Annotated[Annotated[float, Field(ge=0, le=1)] | Share, BeforeValidator(_fraction)]

Teacher = Literal[
    "openai",
    "anthropic",
    "gemini",
    "gemma",
    "llama_2_or_3",
    "llama_3_1_or_later",
    "deepseek",
    "open_licence",
    "other",
]


class ApproachRequest(Request):
    """Recommend the cheapest approach likely to fix the model's answers, training or not.

    Answers what is considered (now, later or no), then gives the path: steps, each with the
    measurement at which to stop, and the questions whose answers would change it. Leave out what is
    not known.
    """

    problem: str = Field(
        "",
        max_length=4000,
        description="In words, for the record.",
    )
    considering: list[Approach] = Field(
        default_factory=list,
        max_length=6,
        description="What the user proposes or asks about. long_context includes prompt caching; "
        "small_model_fine_tuning, classifiers and encoders; sft_then_dpo, whether SFT "
        "comes before DPO.",
    )
    symptoms: list[Symptom] = Field(
        default_factory=list,
        description="How the answers fail. `classification`, `extraction`, `reasoning`, "
        "`tool_use`: they are wrong; leave out if no failure is stated. `latency`, "
        "`cost`, `long_thinking` (mostly reasoning), `privacy` alone: they are good. "
        "`later_turns`: right without the earlier turns. `forgetting`: training took an ability. "
        "`training_fault`: a run or server misbehaves (loss, template, no stop). "
        "`new_language`: of people, not of programming.",
    )
    prompting_tried: Literal["none", "zero_shot", "few_shot", "optimized"] | None = Field(
        None,
        description="Best prompt measured: instructions (zero_shot), examples (few_shot), an "
        "optimizer or long manual work (optimized).",
    )
    target_met: bool | None = Field(
        None,
        description="Are the best prompt's answers good enough? Too dear or slow are symptoms.",
    )
    evaluations: list[str] = Field(
        default_factory=list,
        max_length=10,
        description="Run ids of finished evaluations, read instead of claims.",
    )
    prompt_tokens: int | None = Field(
        None, ge=0, description="Prompt tokens that are the same in every call."
    )
    calls_per_day: Count | None = Field(None, description="Calls per day in production.")
    batch_calls: Count | None = Field(None, description="Calls in total, if the work is done once.")
    num_demonstrations: Count | None = Field(
        None, description="Examples of an input with the right answer."
    )
    num_classes: int | None = Field(
        None, ge=2, description="Number of classes, if the task is to choose one."
    )
    num_preference_pairs: Count | None = Field(
        None, description="Prompts with a better and a worse answer."
    )
    num_marks: Count | None = Field(
        None, description="Answers with a good or bad verdict, without pairs."
    )
    has_documents: bool | None = Field(
        None, description="Is the missing knowledge written down in searchable text?"
    )
    corpus_tokens: int | None = Field(
        None,
        ge=0,
        description="Tokens of that text, or of raw text to pretrain on.",
    )
    documents: str | None = Field(
        None,
        description="File or folder with that text, to count it and price its use.",
    )
    has_retrieval: bool | None = Field(None, description="Is retrieval already running?")
    retrieval_recall: Fraction | None = Field(
        None, description="Fraction of questions for which it finds the right passage."
    )
    knowledge_changes: (
        Literal["never", "yearly", "quarterly", "monthly", "weekly", "daily"] | None
    ) = Field(None, description="How often the facts, labels or rules change.")
    wrong_with_passage: bool | None = Field(
        None,
        description="Is it still wrong with the right passage in the prompt?",
    )
    schema_enforced: bool | None = Field(
        None, description="Is constrained decoding (schema, grammar) already on?"
    )
    has_verifiable_reward: bool | None = Field(
        None, description="Can a program tell a right answer from a wrong one?"
    )
    success_fraction: Fraction | None = Field(
        None, description="Fraction of samples that pass this check today."
    )
    small_model_score: float | None = Field(
        None, ge=0, le=1, description="Score of the smaller or local model, best prompt."
    )
    large_model_score: float | None = Field(
        None, ge=0, le=1, description="Score of the large model in use, on the same test."
    )
    small_model: Literal["as_good", "worse"] | None = Field(
        None, description="The same comparison without numbers."
    )
    has_eval_set: bool | None = Field(
        None, description="Do held-out examples with a metric and a target exist?"
    )
    data_source: Literal[
        "human", "production_logs", "stronger_model", "same_model_family", "unknown"
    ] = Field(
        "unknown",
        description="Who wrote the answers (the better ones of pairs). Set: such data exists.",
    )
    teacher: Teacher | None = Field(
        None,
        description="Whose model wrote them (open_licence: Apache, MIT).",
    )
    teacher_terms: Literal["allowed", "forbidden"] | None = Field(
        None, description="Do its terms allow training on them?"
    )
    product_use: Literal["internal", "sold"] | None = Field(
        None, description="Is the result only for internal use, or sold or given away?"
    )
    weights_access: Literal["api_only", "open_weights"] | None = Field(
        None, description="Is the model to improve available only over an API?"
    )
    must_keep_thinking: bool | None = Field(
        None, description="Is it a reasoning model that must stay one?"
    )
    examples_have_reasoning: bool | None = Field(
        None, description="Do the demonstrations contain that reasoning?"
    )
    budget: Literal["low", "medium", "high"] | None = Field(
        None,
        description="One-off: under 100 USD, up to 5,000, above.",
    )
    budget_usd: float | None = Field(None, ge=0, description="One-off, in US dollars.")
    checkpoint: Literal["base", "instruct", "sft_run"] | None = Field(
        None,
        description="What would be trained: a raw base model, a chat model, or a run's model.",
    )
    tried_training: list[Trained] = Field(
        default_factory=list,
        description="Training that was done and did not reach the goal.",
    )
    gpu: str | None = Field(None, description="GPU for training, as in `estimate_vram`.")
    model: str | None = Field(None, description="Model to train, if already chosen.")
    dataset: str | None = Field(
        None,
        description="File or folder with the demonstrations, pairs or verdicts; small ones are "
        "counted.",
    )
    response_format: ResponseFormat = Field(
        "concise",
        description="detailed adds alternatives, mistakes, GPU time and evidence.",
    )
