"""What recommend_approach returns."""

from pydantic import Field

from ft_tools.approach.request import Approach
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


class ApproachReport(Report):
    """The recommended approach, its evidence, and what would change it."""

    approach: Approach = Field(description="The cheapest approach that is likely to be enough.")
    row: str = Field(description="The row of the decision table that applied.")
    summary: str = Field(description="The decision in one sentence.")
    actions: list[str] = Field(description="What to do, in order.")
    alternatives: list[Option]
    blocked: list[Block]
    questions: list[Question] = Field(description="Ask these first: each can change the answer.")
    classic_rules: list[ClassicRule] = Field(
        description="Rules of thumb that apply, with their limits."
    )
    measurements: list[Measurement] = Field(
        description="Measurements that could change the decision, the most informative first."
    )
    mistakes: list[Mistake] = Field(description="Common in this situation; each can cost weeks.")
    cost_bracket: CostBracket
    reasons: list[Reason]
    next_steps: list[NextStep]
