"""What recommend_approach takes."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from ft_tools.contract import Request, ResponseFormat

Symptom = Literal[
    "knowledge_gap",
    "stale_knowledge",
    "hallucination",
    "later_turns",
    "input_cut",
    "forgetting",
    "training_fault",
    "nan_loss",
    "out_of_memory",
    "no_effect",
    "export_fault",
    "bad_rows",
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
    "missing_refusals",
    "latency",
    "cost",
    "long_thinking",
    "privacy",
]

Observed = Literal[
    "no_stop",
    "gibberish",
    "recites",
    "one_answer",
    "wrong_language",
    "below_base",
    "loss_zero",
    "loss_rises",
    "still_learning",
    "chosen_falls",
    "reward_gamed",
    "many_passes",
    "new_rows_only",
    "new_weights",
    "tiny_adapter",
    "other_template",
    "not_chat_model",
    "small_test",
    "unlike_use",
    "after_update",
    "breaks_midway",
]
"""What a run, its data or its serving show beside what fails: each has a usual cause."""

RunsOn = Literal["mac", "cpu", "phone", "browser", "ollama", "vllm", "api"]

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

Aside = Literal[
    "synthetic_data",
    "extend_vocabulary",
    "other_loss",
    "several_adapters",
    "merge_models",
    "other_model",
    "quantization",
    "full_training",
    "hyperparameters",
    "data_format",
    "hardware",
    "data_amount",
    "class_imbalance",
    "chunking",
    "retraining",
    "licence",
    "reward_design",
    "negatives",
    "serving",
    "routing",
    "guard",
    "data_mix",
    "roll_back",
    "continue_run",
    "decoding",
    "tool_design",
    "user_feedback",
    "none_of_these",
]
"""What is asked beside an approach; it gets a verdict and is no step of a path."""

Considered = Literal[Approach, Aside]
MOST_CONSIDERED = 6

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

    Answers what is considered (now, later, no), then the steps, and questions that would
    change them. Leave out what is not said.
    """

    problem: str = Field(
        "",
        max_length=4000,
        description="Decides nothing.",
    )
    considering: list[Considered] = Field(
        default_factory=list,
        max_length=MOST_CONSIDERED,
        description="All that is proposed or asked. long_context: also caching. "
        "small_model_fine_tuning: classifiers, taggers, embeddings. other_loss: ORPO, SimPO. "
        "chunking: also map-reduce. negatives: also rejected answers. serving: loading, speed. "
        "routing: also fallback, pre-pass. guard: checks, thresholds, review. data_mix: which "
        "rows, shares. roll_back: also checkpoints. tool_design: also errors. "
        "none_of_these: anything else.",
    )
    symptoms: list[Symptom] = Field(
        default_factory=list,
        description="What fails, if stated. no_effect: answers equal the untrained "
        "model's (not: no gain). export_fault: wrong "
        "once exported or served. bad_rows: noise, answers of other inputs. "
        "forgetting: training took an ability. training_fault: other fault of a run. "
        "classification, extraction, reasoning, "
        "tool_use: wrong results, not the task. latency, cost, long_thinking, "
        "privacy alone: answers are good. refusals: too many. input_cut: too long. "
        "later_turns: right without earlier turns.",
    )
    observed: list[Observed] = Field(
        default_factory=list,
        description="Seen in a run, rows, test or serving. no_stop: or repeats. "
        "recites: training rows. many_passes: over 5. new_rows_only: trained on without "
        "the old. new_weights: an untrained part (pruned student). tiny_adapter: file "
        "of a few kB. other_template: than the model's, or none. not_chat_model: a raw "
        "base. small_test: under 50. breaks_midway: good until a step.",
    )
    task: (
        Literal[
            "label",
            "extract",
            "search",
            "table",
            "code",
            "translate",
            "image",
            "speech",
            "voice",
            "other",
        ]
        | None
    ) = Field(
        None,
        description="If not free text. search: embeddings, rerankers; table: predict from "
        "columns; code: to write, also SQL; image: CLIP, detection; speech: recognition; voice: "
        "text to speech.",
    )
    prompting_tried: Literal["none", "zero_shot", "few_shot", "optimized"] | None = Field(
        None,
        description="Best tried: instructions, examples, an optimizer or long work.",
    )
    target_met: bool | None = Field(
        None,
        description="Are answers good? Too dear or slow are symptoms.",
    )
    evaluations: list[str] = Field(
        default_factory=list,
        max_length=10,
        description="Run ids.",
    )
    prompt_tokens: int | None = Field(None, ge=0, description="Shared by all calls.")
    calls_per_day: Count | None = Field(None, description="Calls per day.")
    batch_calls: Count | None = Field(None, description="In total, if done once.")
    num_demonstrations: Count | None = Field(
        None, description="Inputs with right answers; planned: none."
    )
    num_classes: int | None = Field(None, ge=2, description="To choose from.")
    num_preference_pairs: Count | None = Field(
        None, description="With a better and a worse answer."
    )
    num_marks: Count | None = Field(None, description="Answers marked good or bad.")
    has_documents: bool | None = Field(
        None, description="Is the knowledge text (false: database rows)?"
    )
    corpus_tokens: int | None = Field(
        None,
        ge=0,
        description="Of it, or of raw text.",
    )
    documents: str | None = Field(
        None,
        description="That text, as a path.",
    )
    has_retrieval: bool | None = Field(None, description="Is retrieval running?")
    retrieval_recall: Fraction | None = Field(None, description="Of passages found.")
    knowledge_changes: (
        Literal["never", "yearly", "quarterly", "monthly", "weekly", "daily", "hourly"] | None
    ) = Field(None, description="Facts or labels.")
    wrong_with_passage: bool | None = Field(
        None,
        description="Still wrong with the right passage?",
    )
    schema_enforced: bool | None = Field(None, description="Is a schema enforced?")
    has_verifiable_reward: bool | None = Field(
        None, description="Can a program tell right from wrong?"
    )
    success_fraction: Fraction | None = Field(None, description="Of samples that pass.")
    small_model_score: float | None = Field(
        None, ge=0, le=1, description="Of a small or local model."
    )
    large_model_score: float | None = Field(
        None, ge=0, le=1, description="Of the large model, same test."
    )
    small_model: Literal["as_good", "worse"] | None = Field(None, description="Without numbers.")
    has_eval_set: bool | None = Field(None, description="Is there a held-out test?")
    personal_data: bool | None = Field(None, description="Data about people (messages, faces)?")
    data_source: Literal[
        "human", "production_logs", "stronger_model", "same_model_family", "planned", "unknown"
    ] = Field(
        "unknown",
        description="Who wrote the answers (the better ones of pairs). planned: nobody yet.",
    )
    teacher: Teacher | None = Field(
        None,
        description="Whose model wrote them.",
    )
    teacher_terms: Literal["allowed", "forbidden"] | None = Field(
        None, description="To train on them."
    )
    product_use: Literal["internal", "sold"] | None = Field(
        None, description="sold: or given away."
    )
    weights_access: Literal["api_only", "open_weights"] | None = Field(
        None, description="Behind an API?"
    )
    runs_on: list[RunsOn] = Field(
        default_factory=list,
        description="Where it will answer. ollama: also llama.cpp, LM Studio.",
    )
    must_keep_thinking: bool | None = Field(None, description="Must it keep reasoning?")
    examples_have_reasoning: bool | None = Field(None, description="Do examples hold reasoning?")
    budget: Literal["low", "medium", "high"] | None = Field(
        None,
        description="One-off: to 100 USD, to 5,000, above.",
    )
    budget_usd: float | None = Field(None, ge=0, description="In US dollars.")
    checkpoint: Literal["base", "instruct", "sft_run"] | None = Field(
        None,
        description="Raw base, chat model, or trained by the user.",
    )
    tried_training: list[Trained] = Field(
        default_factory=list,
        description="Training that misses.",
    )
    gpu: str | None = Field(None, description="For training.")
    model: str | None = Field(None, description="To train, if chosen.")
    dataset: str | None = Field(
        None,
        description="Examples, as a path.",
    )
    response_format: ResponseFormat = Field(
        "concise",
        description="detailed: also alternatives, evidence.",
    )
