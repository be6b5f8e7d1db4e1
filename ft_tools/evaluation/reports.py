"""What evaluate takes, plans and reports."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ft_tools.contract import NextStep, Reason, Report, Request
from ft_tools.evaluation.contamination import Contamination
from ft_tools.evaluation.intervals.paired import Verdict

MetricName = Literal[
    "auto",
    "rouge",
    "exact_match",
    "token_f1",
    "json_valid",
    "json_fields",
    "json_schema",
    "regex",
    "perplexity",
    "classification",
    "tool_call",
    "judge",
]
TOO_FEW = "examples may be too few"
"""Words of the plan's warning that a finished report repeats only where it came true."""
Rendering = Literal["auto", "chat", "plain"]


class EvaluateRequest(Request):
    """Which two models to compare, on what, and by which measures."""

    model: str = Field(description="Tuned model: run id, folder, GGUF file or Hub id.")
    baseline: str | None = Field(
        None, description="Model to compare with; default: the base model that `model` came from."
    )
    dataset: str | None = Field(
        None,
        description="Held-out JSONL: `messages` ending with the wanted answer, or `prompt` and "
        "`completion`. May be left out when lm_eval_tasks are given.",
    )
    metrics: list[MetricName] = Field(
        ["auto"], min_length=1, description="auto chooses by the references and says why."
    )
    regex: str | None = Field(
        None, max_length=500, description="Python pattern that a right output contains."
    )
    json_schema: str | None = Field(
        None, description="File with the JSON Schema that a right output conforms to."
    )
    cluster_field: str | None = Field(
        None, description="Field of the dataset that groups examples of one source."
    )
    rendering: Rendering = Field(
        "auto",
        description="How prompts are written: the chat template, or plain text; auto: as the model "
        "was trained, else the chat template if there is one.",
    )
    max_new_tokens: int = Field(256, ge=1, le=8192, description="Longest output, in tokens.")
    max_examples: int | None = Field(None, ge=1, description="Use only the first so many.")
    batch_size: int = Field(32, ge=1, le=512, description="Prompts generated at a time.")
    seed: int = Field(0, ge=0, description="Of the resampling; generation itself is greedy.")
    smallest_effect_fraction: float = Field(
        0.1, gt=0, le=1, description="Smallest change that would matter, in units of the metric."
    )
    general_ability: bool = Field(
        True, description="Also measure general text, arithmetic, instructions and refusals."
    )
    lm_eval_tasks: list[str] = Field(
        default_factory=list, description="Tasks of lm-evaluation-harness, or of task_paths."
    )
    task_paths: list[str] = Field(
        default_factory=list, description="Folders with task YAML files; they work offline."
    )
    lm_eval_limit: int | None = Field(None, ge=1, description="Documents a task; null: all.")
    judge_url: str | None = Field(
        None, description="Base address of an OpenAI-compatible API, up to and with /v1."
    )
    judge_model: str | None = Field(None, description="Model name for the judge's API.")
    judge_key_variable: str | None = Field(
        None,
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="Environment variable with the key of the judge's API.",
    )
    judge_max_calls: int = Field(200, ge=2, description="Budget: two calls an example.")
    judge_criterion: str = Field(
        "Which answer serves the user better?", max_length=500, description="What to judge by."
    )
    accept_findings: list[str] = Field(
        default_factory=list, description="Ids of findings that the user accepts."
    )
    accept_reason: str = Field(
        "", max_length=500, description="Why the user accepts them; it is kept in the plan."
    )
    name: str = Field("", max_length=100, description="A name for people.")
    request_id: str = Field("", max_length=100, description="The same id never starts two runs.")
    confirm: str | None = Field(
        None, description="plan_hash of the plan that was shown; without it nothing starts."
    )

    @field_validator("regex")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no Python pattern: {error}") from error
        return value

    @field_validator("judge_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "EvaluateRequest":
        if self.dataset is None and not self.lm_eval_tasks:
            raise ValueError("give `dataset`, a held-out JSONL file, or `lm_eval_tasks`")
        if ("regex" in self.metrics) != (self.regex is not None):
            raise ValueError('`regex` is the pattern of metrics=["regex"]; give both or neither')
        if ("json_schema" in self.metrics) != (self.json_schema is not None):
            raise ValueError(
                '`json_schema` is the file of metrics=["json_schema"]; give both or neither'
            )
        if "judge" in self.metrics and not (self.judge_url and self.judge_model):
            raise ValueError('metrics=["judge"] needs `judge_url` and `judge_model`')
        if self.accept_findings and not self.accept_reason.strip():
            raise ValueError(
                "accept_findings needs accept_reason: a sentence on why the user takes the risk"
            )
        return self


class ModelPlan(Report):
    """A model as it would be loaded."""

    name: str
    kind: Literal["hub", "folder", "adapter", "gguf"]
    load_from: str = Field(description="Folder, GGUF file or Hub id of the weights.")
    adapter: str | None = Field(None, description="Adapter that is loaded over them.")
    files_sha256: str = Field(description="Of the names, sizes and configs of the files.")


class EvaluatePlan(Report):
    """What an evaluation would do."""

    tuned: ModelPlan
    baseline: ModelPlan
    alone: bool = Field(description="Measured without a baseline, because none is known.")
    dataset: str | None = Field(description="Path of the held-out file.")
    dataset_sha256: str | None = None
    num_examples: int = Field(description="Held-out examples that are used.")
    metrics: dict[str, str] = Field(description="Metric -> why it was chosen.")
    json_schema_sha256: str | None = None
    arguments: dict[str, object] = Field(
        default_factory=dict, description="What else was asked for that is not the default."
    )
    rendering: Literal["chat", "plain"]
    max_new_tokens: int
    batch_size: int
    seed: int
    num_general_prompts: int = Field(description="Questions of the general suite.")
    lm_eval_tasks: list[str] = Field(default_factory=list)
    task_paths: list[str] = Field(default_factory=list)
    contamination: Contamination | None = None
    minimum_detectable_effect: float | None = Field(
        description="Change of a yes/no metric that this many examples show in 4 of 5 evaluations, "
        "if the models differ on a fifth of them."
    )
    examples_for_smallest_effect: int = Field(
        description="Examples needed for the smallest effect that would matter."
    )
    estimated_seconds: float | None = Field(
        description="On this machine's CPU, outputs of full length; null on a GPU or if unknown."
    )
    accepted: list[str] = Field(default_factory=list, description="Findings taken as they are.")
    accept_reason: str = Field("", description="Why, in the user's words.")
    warnings: list[str] = Field(default_factory=list)


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
    p_adjusted: float = Field(description="Holm's, for all measures of its group.")
    standard_error: float
    num_examples: int
    num_better: int = Field(description="Examples on which the tuned model has a better value.")
    num_worse: int
    minimum_detectable_effect: float = Field(
        description="True change that this evaluation would have shown 4 times in 5."
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
    truncated_fraction: float = Field(description="Ended by max_new_tokens, not by the model.")
    repetitive_fraction: float = Field(description="Going round in a loop.")
    mean_length_ratio: float | None = Field(description="Words of output by words of reference.")
    copied_fraction: float | None = Field(
        None, description="With 12 words in a row from the training answers, not the reference."
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
        False, description="There was no baseline: `baseline` repeats the values of the one model."
    )
    summary: list[str] = Field(description="Three sentences: what changed, what not, what next.")
    comparisons: list[Comparison] = Field(default_factory=list)
    general_ability: list[Comparison] = Field(default_factory=list)
    benchmarks: list[Comparison] = Field(default_factory=list, description="Of lm-eval tasks.")
    outputs: dict[str, OutputHealth] = Field(
        default_factory=dict, description="baseline, tuned -> what their outputs look like."
    )
    confusion: dict[str, dict[str, dict[str, int]]] = Field(
        default_factory=dict, description="baseline, tuned -> class number -> class number: count."
    )
    samples: list[SampleLine] = Field(
        default_factory=list, description="The worst regressions, then the best gains."
    )
    contamination: Contamination | None = None
    notes: list[str] = Field(default_factory=list, description="What limits the comparison.")
    reasons: list[Reason] = Field(default_factory=list)
    next_steps: list[NextStep] = Field(default_factory=list)
    report_html: str = Field("", description="The page for people, with the texts.")
    samples_jsonl: str = Field("", description="Every prompt with both outputs.")
