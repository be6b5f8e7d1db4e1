"""What recommend_approach returns."""

from typing import Literal

from pydantic import Field

from ft_tools.approach.request import Approach, Considered
from ft_tools.contract import NextStep, Reason, Report


class Option(Report):
    """Another approach, and when it would be better."""

    approach: Approach
    when: str = Field(description="The condition under which it is better.")


class Block(Report):
    """An approach that would be a mistake here."""

    approach: Approach
    rule: str = Field(description="The anti-pattern's id, as in references/choosing.md.")
    why: str
    source: str = Field(description="Evidence.")


class Question(Report):
    """An unknown that would change the answer."""

    field: str = Field(description="The argument of recommend_approach that answers it.")
    ask: str = Field(description="The question in words.")
    would_lead_to: list[Approach] = Field(description="Approaches that some answers would lead to.")


class Measurement(Report):
    """A measurement that could change the decision."""

    measure: str = Field(description="What to measure.")
    result: str = Field(description="If this is the result,")
    then: str = Field(description="do this.")
    source: str


class Mistake(Report):
    """A common mistake in this situation, and the question that catches it."""

    mistake: str
    ask: str = Field(description="The question to ask the user.")
    source: str


class ClassicRule(Report):
    """A rule of thumb that applies here, and its limits according to the evidence."""

    rule: str
    limit: str = Field(description="Where it stops holding, with the number.")
    source: str


class GpuTime(Report):
    """How long training takes on which GPUs: a range from published throughputs, not a quote."""

    model: str = Field(description="The requested model, or the one assumed.")
    gpu: str = Field(description="The requested GPU, or the cheaper of two that fits the run.")
    num_gpus: int | None = Field(
        description="GPUs needed (estimate_vram), sharded with FSDP if several; null: over 64."
    )
    method: str = Field(description="lora, qlora or full.")
    fits: str = Field(description="Does it fit these GPUs: yes or no (estimate_vram).")
    peak_allocated_gib: float = Field(description="Peak memory per GPU, GiB.")
    hours_low: float | None = Field(
        description="GPU hours, summed over all GPUs; null if no rate is published for this GPU."
    )
    hours_high: float | None = Field(description="GPU hours at the slowest published throughput.")
    assumptions: list[str]
    source: str


class CostBracket(Report):
    """Orders of magnitude, not a quote."""

    usd_low: float = Field(description="One-off, US dollars.")
    usd_high: float | None = Field(description="One-off, US dollars; null: no upper bound known.")
    time: str = Field(description="Time to a first measured result, including human work.")
    data: str = Field(description="Data needed.")
    running: str = Field(description="What it costs to run.")
    gpu_time: GpuTime | None = Field(
        None,
        description="Null for approaches without training, and for RL, where generation dominates.",
    )
    source: str


class PathStep(Report):
    """A step of the path: what to do, why here, and when to stop."""

    approach: Approach
    why: str
    measure_first: list[str] = Field(
        description="Cheap measurements to make before this step: they may make it unnecessary."
    )
    stop_if: str = Field(description="Stop here if this holds; else take the next step.")
    effort: str = Field(description="Time to a first measured result, including human work.")
    cost: str = Field(description="One-off cost, an order of magnitude.")
    data: str = Field(description="Data needed.")
    next_step: str = Field(description="The call or the first action.")
    depends_on: Approach | None = Field(
        description="The earlier step whose result leads here; null: it needs none of them."
    )
    rules: list[str] = Field(
        description="Ids of the rules that advise against it before the steps above are done."
    )


class ApproachVerdict(Report):
    """The answer to what was asked about."""

    approach: Considered
    verdict: Literal["now", "later", "no"]
    condition: str = Field(
        "",
        description="now: as part of what. later: `step N: ...` is step N of the path and taken "
        "if the step before misses its target; `off the path: ...` is not planned, and done only "
        "if what follows holds.",
    )
    why: str
    rules: list[str] = Field(
        default_factory=list, description="Stable ids of the rules that advise against it now."
    )
    instead: Approach | None = Field(None, description="What to do first.")
    source: str


class Asset(Report):
    """Something that the user has, and what it is good for here."""

    asset: str = Field(description="Argument of the request.")
    use: str


class DailyCost(Report):
    """What answering from these documents costs per day, at list prices."""

    approach: Literal["long_context", "rag", "tool_lookup"]
    usd_per_day: float | None = Field(description="Null while the calls per day are unknown.")
    usd_per_1000_calls: float
    assumptions: str


class DocumentsCost(Report):
    """The tokens of the documents, and what each way to use them costs."""

    num_files: int
    corpus_tokens: int
    counted: str = Field(description="How the tokens were counted.")
    costs: list[DailyCost]
    source: str


class MeasuredSystem(Report):
    """The cheapest system of an evaluation that meets its target, or else that nothing beats."""

    name: str
    evaluation: str = Field(description="Run id.")
    approach: Approach = Field(description="What it is, in the words of this report.")
    metric: str = ""
    score: float | None = None
    meets_target: bool | None = Field(description="null: the evaluation had no target.")


class Measured(Report):
    """What evaluations, documents and datasets showed, beside what was claimed."""

    filled_in: dict[str, str | int | float | bool] = Field(
        description="Arguments that were filled in from them."
    )
    contradictions: list[str] = Field(
        default_factory=list, description="Claims that a measurement contradicts. It is used."
    )
    best: MeasuredSystem | None = None
    notes: list[str] = Field(
        default_factory=list, description="What meets the target, and what could not be read."
    )
    lacks: str = Field("", description="What is asked and the dataset shows nowhere.")
    next_steps: list[NextStep] = Field(
        default_factory=list, description="The call after which a dataset can be counted."
    )


class ApproachReport(Report):
    """The answers to what was asked, the path from here, and what it rests on."""

    summary: str = Field(
        description="In three sentences: the first step, what decides it, what to measure first. "
        "Then the answers to what was asked, and how."
    )
    approach: Approach = Field(
        description="The first step: the cheapest approach that is likely to be enough."
    )
    row: str = Field(description="The row of the decision table that applied.")
    verdicts: list[ApproachVerdict] = Field(description="One for each approach considered.")
    path: list[PathStep] = Field(
        description="Ordered steps; take the next one only if the target is still missed. A "
        "concise report may show only the first ones."
    )
    decided_by: list[str] = Field(
        default_factory=list,
        description="Facts that lead to this first step. Fewer than two: check that it fits.",
    )
    unused: list[str] = Field(
        default_factory=list,
        description="Facts that change nothing here, each with where it weighs or what it alone "
        "would lead to, which what decided comes before: weigh them yourself.",
    )
    questions: list[Question] = Field(description="Ask these first: each can change the answer.")
    blocked: list[Block] = Field(description="Mistakes in this situation; none is in the path.")
    assets: list[Asset] = Field(description="What the user has, and what it is good for here.")
    measured: Measured | None = Field(
        None, description="What `evaluations`, `documents` and `dataset` showed."
    )
    documents: DocumentsCost | None = None
    cost_bracket: CostBracket
    reasons: list[Reason]
    next_steps: list[NextStep]
    actions: list[str] = Field(
        default_factory=list,
        description="What to do, in order; detailed reports only.",
    )
    alternatives: list[Option] = Field(default_factory=list)
    classic_rules: list[ClassicRule] = Field(
        default_factory=list, description="Rules of thumb that apply, with their limits."
    )
    measurements: list[Measurement] = Field(
        default_factory=list,
        description="Measurements that could change the decision, the most informative first.",
    )
    mistakes: list[Mistake] = Field(
        default_factory=list,
        description="Common in this situation; each can cost weeks.",
    )
