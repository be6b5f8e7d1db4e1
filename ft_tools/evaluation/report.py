"""What a finished evaluation returns."""

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from ft_tools.contract import NextStep, Reason, Report
from ft_tools.evaluation.intervals.comparison_verdict import TargetVerdict, Verdict

# Accepted by users whose model has a single purpose.
GENERAL_LOSS = "general_ability_loss"

PROMPTED = ("model", "endpoint")
"""Kinds of systems that answer by a prompt; the others learn from examples."""


class Contamination(BaseModel):
    """Held-out examples that are in the training data, or in what other systems learn from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checked_against: list[str] = Field(description="Training files that were read.")
    learned_from: list[str] = Field(
        default_factory=list,
        description="Other files that simple classifiers learn from or few-shot examples are of.",
    )
    not_checked: list[str] = Field(description="Files named by the runs that are not there.")
    num_exact: int = Field(description="Held-out questions that were trained on, word for word.")
    num_near: int = Field(description="Others of which most word sequences were trained on.")
    num_twins: int = Field(
        0,
        description="Others whose question equals a training question except for digits and names.",
    )
    num_sentence_twins: int = Field(
        0,
        description="Others whose longest sentence, digits and names aside, is in a training "
        "question.",
    )
    num_same_wording: int = Field(
        0,
        description="Others in the wording of a training question, with other nouns, where prompts "
        "follow few templates.",
    )
    lines: list[int] = Field(description="The first held-out lines concerned.")

    @property
    def num_alike(self) -> int:
        """Return how many held-out questions resemble a learned one in any way."""
        copies = self.num_exact + self.num_near + self.num_twins
        return copies + self.num_sentence_twins + self.num_same_wording


class Comparison(Report):
    """One metric of the reference and of another system, on the same examples."""

    system: str = Field("tuned", description="The system that is compared with the reference.")

    metric: str
    unit: str = ""
    higher_is_better: bool
    baseline: float
    tuned: float
    difference: float = Field(description="Tuned minus baseline.")
    ci_low: float = Field(description="Of the 95% interval of the difference.")
    ci_high: float
    p_value: float = Field(description="Two-sided, of this measure alone.")
    p_adjusted: float = Field(description="Holm-corrected over all measures of its group.")
    standard_error: float | None = None
    num_examples: int
    num_better: int | None = Field(
        None, description="Examples on which the tuned model has a better value."
    )
    num_worse: int | None = None
    minimum_detectable_effect: float = Field(
        description="True change that this evaluation would detect in 4 of 5 repetitions."
    )
    verdict: Verdict
    method: str = ""


def change_of(row: Comparison) -> str:
    """Return a change with its interval, as a sentence has it."""
    return (
        f"{row.baseline:.3g} -> {row.tuned:.3g} "
        f"({row.difference:+.3g}, 95% interval [{row.ci_low:+.3g}, {row.ci_high:+.3g}], "
        f"n={row.num_examples})"
    )


def words_of(row: Comparison) -> str:
    """Return a verdict as a sentence has it; says why where the interval alone would claim more."""
    said = row.verdict.replace("_", " ")
    is_open = row.verdict not in {"improved", "regressed"}
    if not is_open or row.ci_low <= 0 <= row.ci_high:
        return said
    return f"{said} (p {row.p_adjusted:.2g} after Holm's correction for all measures)"


class OutputHealth(Report):
    """What the outputs of one model look like."""

    empty_fraction: float
    truncated_fraction: float = Field(description="Stopped at max_new_tokens, not by the model.")
    repetitive_fraction: float = Field(description="Stuck in a repetition loop.")
    mean_length_ratio: float | None = Field(
        description="Words in the output per word in the reference."
    )
    copied_fraction: float | None = Field(
        None,
        description="Contain 12 consecutive words of a training answer that the reference lacks.",
    )
    seconds_per_output: float


class SampleLine(Report):
    """An example that changed, by its line; the texts are in report.html."""

    system: str = Field("tuned", description="The system that is compared with the reference.")
    line: int
    metric: str
    baseline: float
    tuned: float


class Score(Report):
    """One metric of one system."""

    value: float
    ci_low: float | None = Field(None, description="Lower end of the 95% interval of the mean.")
    ci_high: float | None = None


class SystemResult(Report):
    """What one system scored, and what it costs."""

    name: str
    kind: str = Field(description="model, endpoint, majority, tf_idf or nearest_example.")
    model: str = Field("", description="Its model, as in the request.")
    is_trained: bool = Field(False, description="A run's model or an adapter.")
    has_examples: bool = Field(False, description="It was shown few-shot examples.")
    scores: dict[str, Score] = Field(default_factory=dict)
    fresh: Score | None = Field(
        None, description="Main metric on the questions counted by the report's num_fresh."
    )
    target: TargetVerdict | None = Field(
        None,
        description="met: the whole 95% interval meets the target; not_met: none of it does. "
        "not_shown, too, if num_fresh is 0 and the system learned from examples.",
    )
    fields: list[float] = Field(
        default_factory=list, description="JSON answers: fraction correct per key, in file order."
    )
    input_tokens_mean: float = 0.0
    output_tokens_mean: float = 0.0
    seconds_mean: float = Field(0.0, description="Per answer; of a batch, divided by its size.")
    seconds_median: float = 0.0
    seconds_p95: float = 0.0
    cut_off_fraction: float = Field(0.0, description="Answers stopped at max_new_tokens.")
    usd_per_1000_calls: float | None = Field(None, description="null: no price was given.")
    num_reused: int = Field(0, description="Answers taken from an earlier run.")
    served_by: list[str] = Field(
        default_factory=list, description="Models that an endpoint says answered."
    )

    @property
    def has_learned(self) -> bool:
        """Tell whether it has seen examples: by training, as a baseline, in its prompt."""
        return self.kind not in PROMPTED or self.is_trained or self.has_examples

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not so or 0: eight systems fit into a short report."""
        known = type(self).model_fields
        return {key: value for key, value in handler(self).items() if value != known[key].default}


class Ranked(Report):
    """A system's place in the cost ranking, compared with the best system in it."""

    name: str
    versus_best: Literal["best", "not_distinguishable", "worse"]
    difference: float | None = Field(None, description="Main metric: this system minus the best.")
    ci_low: float | None = None
    ci_high: float | None = None


class EvaluationReport(Report):
    """A finished evaluation. No text of data or models is in it."""

    tuned: str
    baseline: str
    alone: bool = Field(
        False, description="There was no baseline: `baseline` repeats the values of the only model."
    )
    compares_systems: bool = Field(False, description="Named systems, not a model and its base.")
    summary: list[str] = Field(
        description="Three sentences: what changed, what did not, what to do next."
    )
    target: dict[str, float] = Field(default_factory=dict)
    main_metric: str = Field("", description="The metric that decides.")
    systems: list[SystemResult] = Field(default_factory=list)
    field_names: list[str] = Field(
        default_factory=list,
        description="Keys that each system's `fields` are of, in order; empty where not plain.",
    )
    ranking: list[Ranked] = Field(
        default_factory=list,
        description="Systems that meet the target (all of them without one), the cheapest first.",
    )
    majority_fraction: float | None = Field(
        None, description="Classes: fraction of references that have the most frequent one."
    )
    comparisons: list[Comparison] = Field(default_factory=list)
    general_ability: list[Comparison] = Field(default_factory=list)
    benchmarks: list[Comparison] = Field(default_factory=list, description="lm-eval tasks.")
    outputs: dict[str, OutputHealth] = Field(
        default_factory=dict, description="Side (baseline, tuned) -> properties of its outputs."
    )
    confusion: dict[str, dict[str, dict[str, int]]] = Field(
        default_factory=dict, description="baseline, tuned -> class number -> class number: count."
    )
    samples: list[SampleLine] = Field(
        default_factory=list, description="The worst regressions, then the best gains."
    )
    contamination: Contamination | None = None
    num_fresh: int | None = Field(
        None,
        description="Held-out questions that resemble no learned or shown one; null: all of them.",
    )
    accepted: list[str] = Field(default_factory=list, description="Findings the user accepted.")
    notes: list[str] = Field(default_factory=list, description="Limitations of the comparison.")
    reasons: list[Reason] = Field(default_factory=list)
    next_steps: list[NextStep] = Field(default_factory=list)
    report_html: str = Field("", description="The page for people, with the texts.")
    samples_jsonl: str = Field("", description="Every prompt with both outputs.")


def lost_abilities(report: EvaluationReport) -> list[str]:
    """Return the general measures that regressed; none where the user accepts such a loss."""
    if GENERAL_LOSS in report.accepted:
        return []
    return [row.metric for row in report.general_ability if row.verdict == "regressed"]
