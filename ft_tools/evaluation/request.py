"""What evaluate takes."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.evaluation.report import Origin
from ft_tools.evaluation.systems.spec import MOST_TOKENS, SystemSpec
from ft_tools.formats.variations import Variation
from ft_tools.metrics.checks.request import MOST_CHECKS, Check, check_names
from ft_tools.metrics.table import MetricName
from ft_tools.runs.launchers.launcher import WANTED
from ft_tools.runs.request import LaunchRequest

Rendering = Literal["auto", "chat", "plain"]


class EvaluateRequest(LaunchRequest):
    """Compare models, prompts, endpoints and simple baselines on held-out examples.

    `model` is compared with its base. With `target`: which meet it, and which is cheapest.
    """

    model: str | None = Field(
        None,
        description="Tuned model: run id, folder, GGUF file or Hub id.",
    )
    baseline: str | None = Field(None, description="Default: the base model of `model`.")
    systems: list[SystemSpec] = Field(
        default_factory=list,
        max_length=8,
        description="Instead of model, up to eight; the first is the reference.",
    )
    target: dict[str, float] = Field(
        default_factory=dict,
        description='What is good enough, such as {"exact_match": 0.9}.',
    )
    device: str = Field(
        "auto",
        pattern=WANTED.replace("cpu", "cpu|mlx"),
        description="auto (a GPU if the models fit), cpu, mlx, cuda:1 or a UUID.",
    )
    reuse: bool = Field(True, description="Reuse answers of earlier runs with the same settings.")
    dataset: str = Field(
        "", description="Held-out JSONL that ends with the answer; other files: options.mapping."
    )
    mapping: ColumnMapping | None = Field(
        None, description="What the columns of a raw `dataset` mean, as in prepare_dataset."
    )
    metrics: list[MetricName] = Field(
        ["auto"],
        min_length=1,
        description="auto: by the references; or exact_match, json_fields, rouge ...",
    )
    origin: Origin | None = Field(
        None,
        description="collected (rows from use), written (for this test) or generated (by a model): "
        "only collected rows can show that a target is met.",
    )
    stress: list[Variation] = Field(
        default_factory=list,
        max_length=6,
        description="Changes of the questions to measure under, such as "
        '{"change": "typing_errors", "rate": 0.05}; the claim is that of the worst.',
    )
    checks: list[Check] = Field(
        default_factory=list,
        max_length=MOST_CHECKS,
        description="What makes an answer right, such as "
        '{"kind": "number"}; measured as metric checks.',
    )
    cluster_field: str | None = Field(
        None, description="Dataset field that groups related examples."
    )
    rendering: Rendering = Field(
        "auto",
        description="Prompt format. auto: as trained, else the chat template if there is one.",
    )
    max_new_tokens: int = Field(
        256, ge=1, le=MOST_TOKENS, description="Maximum output length in tokens."
    )
    max_examples: int | None = Field(None, ge=1, description="Use only the first N examples.")
    batch_size: int = Field(32, ge=1, le=512, description="Prompts generated at a time.")
    seed: int = Field(0, ge=0, description="For resampling; decoding is greedy.")
    smallest_effect_fraction: float = Field(
        0.1, gt=0, le=1, description="Smallest change that matters, in units of the metric."
    )
    general_ability: bool = Field(
        True, description="Also measure arithmetic, knowledge, instructions and refusals."
    )
    lm_eval_tasks: list[str] = Field(
        default_factory=list,
        description="Tasks of lm-evaluation-harness to compare `model` and `baseline` on, too.",
    )
    task_paths: list[str] = Field(
        default_factory=list, description="Folders with the tasks' YAML files; these work offline."
    )
    lm_eval_limit: int | None = Field(None, ge=1, description="Documents per task; null: all.")
    accept_findings: list[str] = Field(
        default_factory=list,
        description="Accepted by the user: train_validation_leak, general_ability_loss (for a "
        "model with a single purpose).",
    )
    accept_reason: str = Field(
        "", max_length=500, description="Why the user accepts them; kept in the plan."
    )

    @model_validator(mode="after")
    def _complete(self) -> "EvaluateRequest":
        if (self.model is None) == (not self.systems):
            raise ValueError("set either `model` or `systems`")
        names = [system.name for system in self.systems]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two systems have the same name, {', '.join(twice)}; rename one")
        if self.systems and self.baseline is not None:
            raise ValueError("`baseline` belongs to `model`; the first of `systems` is compared to")
        if self.systems and self.lm_eval_tasks:
            raise ValueError("lm_eval_tasks compares two models: use `model` and `baseline` for it")
        if not self.dataset:
            raise ValueError("set `dataset`, a held-out JSONL file")
        check_names(self.checks)
        if "checks" in self.metrics and not self.checks:
            raise ValueError('metrics=["checks"] requires `checks`, what makes an answer right')
        if len({one.name for one in self.stress}) < len(self.stress):
            raise ValueError("`stress` has the same change twice; remove one")
        if self.accept_findings and not self.accept_reason.strip():
            raise ValueError(
                "accept_findings requires accept_reason: one sentence on why the risk is accepted"
            )
        return self

    def all_systems(self) -> list[SystemSpec]:
        """Return the systems, the reference first; those of the short form have fixed names."""
        if self.model is None:
            return self.systems
        return [
            SystemSpec(name="baseline", model=self.baseline or self.model),
            SystemSpec(name="tuned", model=self.model),
        ]


def request_of(run_dir: Path) -> EvaluateRequest:
    """Return an evaluation's request; what only older versions took is left out.

    Raises:
        ValidationError: It is damaged.
    """
    # What reads saved requests starts processes, too, which no other request needs.
    from ft_tools.runs.processes.worker_session import read_saved

    saved = (run_dir / "request.json").read_bytes()
    return read_saved(EvaluateRequest, saved)
