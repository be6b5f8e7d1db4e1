"""What a finished evaluation returns."""

from pydantic import Field

from ft_tools.contract import NextStep, Reason, Report
from ft_tools.evaluation.contamination import Contamination
from ft_tools.evaluation.intervals.paired import Verdict


class Comparison(Report):
    """One measure, before and after, on the same examples."""

    metric: str
    unit: str
    higher_is_better: bool
    baseline: float
    tuned: float
    difference: float = Field(description="Tuned minus baseline.")
    ci_low: float = Field(description="Of the 95% interval of the difference.")
    ci_high: float
    p_value: float = Field(description="Two-sided, of this measure alone.")
    p_adjusted: float = Field(description="Holm-corrected over all measures of its group.")
    standard_error: float
    num_examples: int
    num_better: int = Field(description="Examples on which the tuned model has a better value.")
    num_worse: int
    minimum_detectable_effect: float = Field(
        description="True change that this evaluation would detect in 4 of 5 repetitions."
    )
    verdict: Verdict
    method: str


def change_of(row: Comparison) -> str:
    """Return a change with its interval, as a sentence has it."""
    return (
        f"{row.baseline:.3g} -> {row.tuned:.3g} "
        f"({row.difference:+.3g}, 95% interval [{row.ci_low:+.3g}, {row.ci_high:+.3g}], "
        f"n={row.num_examples})"
    )


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

    line: int
    metric: str
    baseline: float
    tuned: float


class EvaluationReport(Report):
    """A finished evaluation. No text of data or models is in it."""

    tuned: str
    baseline: str
    alone: bool = Field(
        False, description="There was no baseline: `baseline` repeats the values of the only model."
    )
    summary: list[str] = Field(
        description="Three sentences: what changed, what did not, what to do next."
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
    notes: list[str] = Field(default_factory=list, description="Limitations of the comparison.")
    reasons: list[Reason] = Field(default_factory=list)
    next_steps: list[NextStep] = Field(default_factory=list)
    report_html: str = Field("", description="The page for people, with the texts.")
    samples_jsonl: str = Field("", description="Every prompt with both outputs.")
