"""What a finished evaluation returns."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from ft_tools.contract import NextStep, Reason, Report
from ft_tools.metrics.verdicts import TargetVerdict, Verdict

Origin = Literal["collected", "written", "generated"]
"""Where held-out rows come from: use, somebody who wrote them for the test, or a model."""

# Accepted by users whose model has a single purpose.
GENERAL_LOSS = "general_ability_loss"

PROMPTED = ("model", "endpoint")
"""Kinds of systems that answer by a prompt; the others learn from examples."""


Exact = Annotated[float, AfterValidator(lambda value: float(f"{value:.6g}"))]
Short = Annotated[float, AfterValidator(lambda value: float(f"{value:.4g}"))]


class Part(Report):
    """A part of the report; reports of earlier versions, which may hold more, are read too."""

    model_config = ConfigDict(extra="ignore")


class Contamination(Part):
    """Held-out examples that are in the training data, or in what other systems learn from."""

    CONCISE = ("num_exact", "num_near", "not_checked")

    checked_against: list[str] = Field(description="Training files that were read.")
    learned_from: list[str] = Field(
        default_factory=list,
        description="Other files that simple classifiers learn from or few-shot examples are of.",
    )
    not_checked: list[str] = Field(description="Files named by the runs that are not there.")
    num_exact: int = Field(description="Held-out questions that were trained on, word for word.")
    num_near: int = Field(
        description="Others of which most word sequences were trained on, numbers aside."
    )
    lines: list[int] = Field(description="The first held-out lines concerned.")


class Comparison(Part):
    """One metric of the reference and of another system, on the same examples."""

    CONCISE = ("system", "metric", "change", "verdict")

    system: str = Field("tuned", description="The system that is compared with the reference.")
    metric: str
    higher_is_better: bool | None = Field(description="null: neither direction is better.")
    baseline: Exact
    tuned: Exact
    difference: Exact = Field(description="Tuned minus baseline.")
    ci_low: Exact = Field(description="Of the interval of the difference; see `coverage`.")
    ci_high: Exact
    p_value: Exact = Field(description="Two-sided, of this measure alone.")
    p_adjusted: Exact = Field(description="Holm-corrected over all measures of its group.")
    num_examples: int
    num_better: int | None = Field(
        None, description="Examples on which the tuned model has a better value."
    )
    num_worse: int | None = None
    minimum_detectable_effect: Exact = Field(
        description="True change that this evaluation would detect in 4 of 5 repetitions."
    )
    verdict: Verdict

    @property
    def is_shown(self) -> bool:
        """Return whether a change is claimed."""
        return self.verdict in {"improved", "regressed", "changed"}

    @property
    def change(self) -> str:
        """Return the change with its interval, as a sentence has it."""
        return (
            f"{self.baseline:.3g} -> {self.tuned:.3g} "
            f"({self.difference:+.3g}, 95% interval [{self.ci_low:+.3g}, {self.ci_high:+.3g}], "
            f"n={self.num_examples})"
        )

    @property
    def words(self) -> str:
        """Return the verdict as a sentence has it."""
        if self.verdict == "not_confirmed":
            return f"not confirmed (p {self.p_adjusted:.2g} after Holm's correction)"
        return self.verdict.replace("_", " ")


class Score(Part):
    """One metric of one system."""

    value: Short
    ci_low: Short | None = Field(None, description="Lower end of the interval of the mean.")
    ci_high: Short | None = None

    @property
    def words(self) -> str:
        """Return the value with its interval, as a sentence has it."""
        if self.ci_low is None or self.ci_high is None:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.ci_low:.3g}, {self.ci_high:.3g}]"


class ClassScore(Score):
    """How often one class is answered rightly."""

    num_examples: int = Field(description="Held-out rows of this class.")


class StressScore(Part):
    """One system under one change of the questions, beside its plain score on the same rows."""

    CONCISE = ("change", "plain", "score", "verdict", "target")

    change: str = Field(description="Such as typing_errors 0.05.")
    num_changed: int = Field(description="Held-out rows that the change applies to.")
    plain: Short = Field(description="Main metric on these rows as they are.")
    score: Score | None = Field(None, description="On the changed rows; null: there is none.")
    difference: Short = Field(0.0, description="Changed minus plain, on the same rows.")
    ci_low: Short = 0.0
    ci_high: Short = 0.0
    p_adjusted: Short = Field(1.0, description="Holm-corrected over all changes and systems.")
    verdict: Verdict | None = Field(None, description="null: no row could be changed.")
    target: TargetVerdict | None = None

    @property
    def is_loss(self) -> bool:
        """Return whether the change is shown to cost something."""
        return self.verdict in {"regressed", "changed"}


class SystemResult(Part):
    """What one system scored, and what it costs."""

    CONCISE = (
        *("name", "scores", "target", "fresh", "worst_stress", "empty_fraction"),
        *("repetitive_fraction", "cut_off_fraction", "seconds_mean", "usd_per_1000_calls"),
    )

    name: str
    kind: str = Field(description="model, endpoint, majority, tf_idf or nearest_example.")
    model: str = Field("", description="Its model, as in the request.")
    is_trained: bool = Field(False, description="A run's model or an adapter.")
    has_examples: bool = Field(False, description="It was shown few-shot examples.")
    scores: dict[str, Score] = Field(default_factory=dict)
    fresh: Score | None = Field(
        None,
        description="Main metric on the questions counted by the report's num_fresh; rows of one "
        "wording count as a group.",
    )
    stress: list[StressScore] = Field(default_factory=list, description="One per change.")
    target: TargetVerdict | None = Field(
        None,
        description="met: the whole interval meets the target; not_met: none of it does. The worst "
        "of the plain score, `stress` and, if it learned from examples, `fresh`; never met by rows "
        "that were written or generated, nor by what learned if num_fresh is 0.",
    )
    per_class: dict[str, ClassScore] = Field(
        default_factory=dict,
        description="Label, or key and key=value of JSON answers -> fraction of its rows that are "
        "right, the lowest first. #2: the third of the sorted ones where they are no plain names.",
    )
    empty_fraction: Short = 0.0
    repetitive_fraction: Short = Field(0.0, description="Answers stuck in a repetition loop.")
    mean_length_ratio: Short | None = Field(
        None, description="Words in the answer per word in the reference."
    )
    trivial_differences: dict[str, int] = Field(
        default_factory=dict,
        description="Answers that differ from the reference in nothing but null_or_empty (wrong "
        "for exact_match), case or key_order (right): count by kind.",
    )
    input_tokens_mean: Short = 0.0
    output_tokens_mean: Short = 0.0
    seconds_mean: Short = Field(0.0, description="Per answer; of a batch, divided by its size.")
    seconds_p95: Short = 0.0
    cut_off_fraction: Short = Field(0.0, description="Answers stopped at max_new_tokens.")
    usd_per_1000_calls: Short | None = Field(None, description="null: no price was given.")
    num_reused: int = Field(0, description="Answers taken from an earlier run.")
    served_by: list[str] = Field(
        default_factory=list, description="Models that an endpoint says answered."
    )

    def concise_parts(self, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the parts, each score with its interval as one text."""
        for name, part in super().concise_parts(asked):
            is_scores = name == "scores"
            yield name, {key: one.words for key, one in part.items()} if is_scores else part

    @property
    def worst_stress(self) -> StressScore | None:
        """Return the change that costs most; None where none costs anything that is shown."""
        losses = [one for one in self.stress if one.is_loss]
        return max(losses, key=lambda one: abs(one.difference), default=None)

    @property
    def has_learned(self) -> bool:
        """Return whether it has seen examples: by training, as a baseline, in its prompt."""
        return self.kind not in PROMPTED or self.is_trained or self.has_examples


class RankedSystem(Part):
    """A system's place in the cost ranking, compared with the best system in it."""

    name: str
    versus_best: Literal["best", "not_distinguishable", "worse"]
    difference: Short | None = Field(None, description="Main metric: this system minus the best.")
    ci_low: Short | None = None
    ci_high: Short | None = None


class EvaluationReport(Part):
    """A finished evaluation. No text of data or models is in it."""

    CONCISE = (
        *("summary", "notes", "systems", "num_examples", "num_fresh", "look", "comparisons"),
        *("majority_fraction", "general_ability", "worst_classes", "benchmarks", "contamination"),
        *("accepted", "ranking"),
    )

    tuned: str
    baseline: str
    alone: bool = Field(False, description="One system was measured; nothing is compared.")
    compares_systems: bool = Field(False, description="Named systems, not a model and its base.")
    summary: list[str] = Field(
        description="What breaks, the target, and what changed or which system to use."
    )
    num_examples: int = Field(0, description="Held-out examples; 0 in reports of version 0.1.")
    target: dict[str, float] = Field(default_factory=dict)
    main_metric: str = Field("", description="The metric that decides.")
    systems: list[SystemResult] = Field(default_factory=list)
    ranking: list[RankedSystem] = Field(
        default_factory=list,
        description="Systems that meet the target (all of them without one), the cheapest first.",
    )
    majority_fraction: float | None = Field(
        None, description="Classes: fraction of references that have the most frequent one."
    )
    comparisons: list[Comparison] = Field(default_factory=list)
    general_ability: list[Comparison] = Field(default_factory=list)
    benchmarks: list[Comparison] = Field(default_factory=list, description="lm-eval tasks.")
    origin: Origin | None = Field(None, description="Of the rows, as the caller named it.")
    look: int = Field(1, description="How often these rows have been looked at, this time too.")
    coverage: float = Field(
        0.95,
        description="Of each interval over the held-out rows: the best of all looks so far is "
        "covered in 95 of 100 cases. Those of general_ability and benchmarks are of 0.95.",
    )
    num_clusters: int | None = Field(
        None, description="Groups of cluster_field that intervals are over."
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

    def concise_parts(self, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the parts, of the notes their ids: none of them may be cut."""
        ids = list(dict.fromkeys(note.partition(":")[0] for note in self.notes))
        for name, part in super().concise_parts(asked):
            yield name, ids if name == "notes" else part

    @property
    def decisive(self) -> list[Comparison]:
        """Return the comparisons that say whether a model is better."""
        return [*self.comparisons, *self.benchmarks]

    @property
    def misses_target(self) -> bool:
        """Return whether no system is shown to meet the target; of a pair the tuned one counts."""
        systems = self.systems if self.compares_systems else self.systems[-1:]
        return bool(self.target) and not any(one.target == "met" for one in systems)

    @property
    def lost_abilities(self) -> list[str]:
        """Return the general measures that regressed; none where the user accepts such a loss."""
        if GENERAL_LOSS in self.accepted:
            return []
        return [row.metric for row in self.general_ability if row.verdict == "regressed"]

    @property
    def worst_classes(self) -> dict[str, str]:
        """Return the classes with errors of the trained system, else the best; the worst first."""
        best = next((one.name for one in self.ranking if one.versus_best == "best"), self.baseline)
        trained = self.trained_system
        named = [one for one in self.systems if one.name == (trained.name if trained else best)]
        found = [(key, own) for one in named for key, own in one.per_class.items() if own.value < 1]
        return {key: f"{own.words}, {own.num_examples} rows" for key, own in found}

    @property
    def trained_system(self) -> SystemResult | None:
        """Return the last trained system."""
        return next((one for one in reversed(self.systems) if one.is_trained), None)

    def system(self, name: str) -> SystemResult:
        """Return a system by name."""
        return next(one for one in self.systems if one.name == name)
