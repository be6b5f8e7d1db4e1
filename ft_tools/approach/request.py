"""What recommend_approach is asked and what it answers."""

from typing import Literal

from pydantic import Field

from ft_tools.contract import NextStep, Reason, Report, Request

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
    """What is wrong, what was tried, and what there is to work with. Leave out what is unknown."""

    problem: str = Field(
        "", max_length=4000, description="The problem in words. Kept for the record, not read."
    )
    symptoms: list[Symptom] = Field(
        default_factory=list,
        max_length=18,
        description="How the present answers fail. `classification`, `extraction`, `reasoning` and "
        "`tool_use` mean that this task is done wrong; `latency`, `cost` and `privacy` alone mean "
        "that the answers are good.",
    )
    prompting_tried: Literal["none", "zero_shot", "few_shot", "optimized"] | None = Field(
        None,
        description="The best prompt measured so far: instructions only (zero_shot), with examples "
        "(few_shot), or searched for by an optimiser or long manual work (optimized).",
    )
    target_met: bool | None = Field(
        None,
        description="The best prompt reaches the target on held-out examples, its cost and latency "
        "within their limits.",
    )
    prompt_tokens: int | None = Field(
        None, ge=0, description="Tokens of the prompt's part that is the same in every call."
    )
    calls_per_day: int | None = Field(None, ge=0, description="Calls a day in production.")
    num_demonstrations: int | None = Field(
        None, ge=0, description="Examples of an input with the answer wanted."
    )
    num_preference_pairs: int | None = Field(
        None, ge=0, description="Prompts with a better and a worse answer."
    )
    num_marks: int | None = Field(
        None, ge=0, description="Answers with a good or bad verdict, without pairs."
    )
    has_documents: bool | None = Field(
        None, description="The missing knowledge is written down in text that can be searched."
    )
    corpus_tokens: int | None = Field(None, ge=0, description="Tokens of all that text.")
    knowledge_changes: Literal["never", "yearly", "monthly", "weekly", "daily"] | None = Field(
        None, description="How often the facts, labels or rules change."
    )
    wrong_with_passage: bool | None = Field(
        None,
        description="Still wrong when the passage with the answer is put into the prompt by hand.",
    )
    schema_enforced: bool | None = Field(
        None, description="Constrained decoding (a JSON schema or grammar) is already on."
    )
    has_verifiable_reward: bool | None = Field(
        None, description="Code can tell a right answer from a wrong one."
    )
    success_fraction: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of 8 to 16 samples a prompt that this check passes today, 0 to 1.",
    )
    has_eval_set: bool | None = Field(
        None, description="Held-out examples with a metric and a target exist."
    )
    data_source: Literal[
        "human", "production_logs", "stronger_model", "same_model_family", "unknown"
    ] = Field("unknown", description="Who wrote the answers of the demonstrations.")
    teacher_terms: Literal["allowed", "forbidden"] | None = Field(
        None, description="Do the terms of the model that wrote them allow training on them?"
    )
    budget: Literal["low", "medium", "high"] | None = Field(
        None, description="One-off: low is under 100 USD, medium to 5,000 USD, high above."
    )
    checkpoint: Literal["base", "instruct", "sft_run"] | None = Field(
        None, description="What would be trained: a raw base model, a chat model, or a run's model."
    )
    gpu: str | None = Field(None, description="GPU for training, as in `estimate_vram`.")
    model: str | None = Field(None, description="Model to be trained, if it is chosen already.")
    dataset: str | None = Field(None, description="Path of the demonstrations, for next_steps.")


class Option(Report):
    """Another approach, and when it would be the better one."""

    approach: Approach
    when: str = Field(description="What would have to be so.")


class Block(Report):
    """What the asker may have wanted and should not do."""

    approach: Approach
    rule: str = Field(description="The anti-pattern's id, as in references/choosing.md.")
    why: str
    source: str = Field(description="Evidence.")


class Question(Report):
    """An unknown that would change the answer."""

    field: str = Field(description="Argument of recommend_approach that answers it.")
    ask: str = Field(description="The question in words.")
    would_lead_to: list[Approach] = Field(description="What some answers would lead to.")


class Measurement(Report):
    """A measurement that would flip the decision."""

    measure: str = Field(description="What to measure.")
    result: str = Field(description="If it is so,")
    then: str = Field(description="then this follows.")
    source: str


class Mistake(Report):
    """A mistake that is often made in this situation, and the question that catches it."""

    mistake: str
    ask: str = Field(description="To be put to the user.")
    source: str


class ClassicRule(Report):
    """A rule of thumb that holds here, and where the evidence bends it."""

    rule: str
    limit: str = Field(description="Where it stops holding, with the number.")
    source: str


class GpuTime(Report):
    """How long training takes on which cards: a range of published throughputs, not a quote."""

    model: str = Field(description="The model named, or the one assumed.")
    gpu: str = Field(description="The card named, or the cheapest of two that holds the run.")
    num_gpus: int | None = Field(
        description="Cards needed by estimate_vram, sharded (FSDP) if several; null: over 64."
    )
    method: str = Field(description="lora, qlora or full.")
    fits: str = Field(description="Does it fit these cards: yes or no (estimate_vram).")
    peak_allocated_gib: float = Field(description="Memory of one card at the peak, GiB.")
    hours_low: float | None = Field(
        description="GPU hours, all cards added up; null where the card's rate is not published."
    )
    hours_high: float | None = Field(description="The same at the slowest published throughput.")
    assumptions: list[str]
    source: str


class CostBracket(Report):
    """Orders of magnitude, not a quote."""

    usd_low: float = Field(description="One-off, US dollars.")
    usd_high: float | None = Field(description="One-off, US dollars; null: no upper bound known.")
    time: str = Field(description="Time to a first measured result, people's work included.")
    data: str = Field(description="Data that is needed.")
    running: str = Field(description="What it costs to run.")
    gpu_time: GpuTime | None = Field(
        None, description="Null for what trains nothing, and for RL, where generation takes most."
    )
    source: str


class ApproachReport(Report):
    """One approach, what it rests on, and what would change it."""

    approach: Approach = Field(description="The cheapest approach that is sufficient here.")
    row: str = Field(description="The row of the decision table that decided.")
    summary: str = Field(description="The decision in one sentence.")
    actions: list[str] = Field(description="What to do by hand, in order.")
    alternatives: list[Option]
    blocked: list[Block]
    questions: list[Question] = Field(description="Ask these first: each can change the answer.")
    classic_rules: list[ClassicRule] = Field(
        description="Rules of thumb that apply, with their limits."
    )
    measurements: list[Measurement] = Field(
        description="What would flip the decision, the most telling first; measure before arguing."
    )
    mistakes: list[Mistake] = Field(
        description="Often made in this situation; none need change the answer, all cost weeks."
    )
    cost_bracket: CostBracket
    reasons: list[Reason]
    next_steps: list[NextStep]
