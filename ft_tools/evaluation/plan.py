"""What an evaluation would do: its examples, metrics, systems and time, and what is refused."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ft_tools import anti_patterns, facts, workspace
from ft_tools.errors import BadInput, MissingExtra
from ft_tools.evaluation import benchmark_time
from ft_tools.evaluation.contamination import (
    chose_the_checkpoint,
    find_contamination,
    pools_of,
    training_files,
)
from ft_tools.evaluation.estimates import SLOWER, Range, seconds_of
from ft_tools.evaluation.held_out import HeldOut, num_marked_bad, read_held_out
from ft_tools.evaluation.intervals.sample_size import detectable_effect, examples_needed
from ft_tools.evaluation.metrics.choose_metrics import MEASURES, choose_metrics
from ft_tools.evaluation.metrics.free_answers import require_patterns
from ft_tools.evaluation.metrics.general_questions import general_prompts
from ft_tools.evaluation.plan_warnings import (
    about_length,
    about_loading,
    about_marks,
    about_request,
    about_schema,
    about_size,
    about_systems,
    about_tasks,
    about_wordings,
)
from ft_tools.evaluation.report import GENERAL_LOSS, Contamination
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.requirements import NAMES
from ft_tools.evaluation.systems import on_mlx
from ft_tools.evaluation.systems.compared_models import (
    LoadPlan,
    ModelFiles,
    Models,
    chat_template,
    choose_rendering,
    load_plan,
    model_files,
    weight_bytes,
)
from ft_tools.evaluation.systems.files_present import require_tasks, require_there
from ft_tools.evaluation.systems.plan import SystemPlan, plan_system
from ft_tools.models import model_folder, tower_packages
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import sha256
from ft_tools.runs.launch import Plan

JUDGE_ARGUMENTS = ("judge_url", "judge_model", "judge_key_variable")
LEAK = "train_validation_leak"
CHOSEN = (
    "the run selected its checkpoint on this file, so the tuned model's score on it is slightly "
    "too high; evaluate on a third file"
)
SAME = (
    "baseline is the model itself, so no difference says anything; leave baseline out, or name "
    "another model"
)
# Measures of a whole set, which no single example has.
WHOLE_SET = {"macro_f1", "log_perplexity", "judge", "judge_equal_length"}
# Arguments that a plan shows only where they are not the default.
SHOWN_IF_GIVEN = {
    *(
        "regex",
        "json_schema",
        "number_tolerance",
        "cluster_field",
        "smallest_effect_fraction",
        "lm_eval_limit",
    ),
    *("judge_url", "judge_model", "judge_key_variable", "judge_max_calls", "judge_criterion"),
}


class EvaluatePlan(Plan):
    """What an evaluation would do."""

    MACHINE: ClassVar[Mapping[str, Any]] = {
        "systems": {"__all__": {"num_questions", "reused_from", "num_reused"}},
        **dict.fromkeys(
            ("device", "loading", "batch_size", "estimated_seconds_low", "estimated_seconds_high"),
            True,
        ),
    }

    systems: list[SystemPlan] = Field(description="The first is the reference.")
    target: dict[str, float] = Field(default_factory=dict, description="Metric -> needed value.")
    tuned: ModelFiles | None = None
    baseline: ModelFiles | None = None
    device: str = Field("", description="cpu, MLX or the GPU; empty: no model is loaded here.")
    alone: bool = Field(description="Measured without a baseline.")
    dataset: str | None = Field(description="Path of the held-out file.")
    dataset_sha256: str | None = None
    num_examples: int = Field(description="Held-out examples that are used.")
    metrics: dict[str, str] = Field(description="Metric -> why it was chosen.")
    json_schema_sha256: str | None = None
    arguments: dict[str, object] = Field(
        default_factory=dict, description="Other arguments that are not the default."
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
        description="Change of a yes/no metric that this many examples detect in 4 of 5 runs, if "
        "the models differ on a fifth of them."
    )
    examples_for_smallest_effect: int = Field(
        description="Examples needed to detect the smallest effect that matters."
    )
    loading: LoadPlan | None = Field(
        None, description="Where models are loaded; null: none is, or no size is known yet."
    )
    estimated_seconds_low: float | None = Field(
        None, description="Shortest likely time; null if a size or a device is not known."
    )
    estimated_seconds_high: float | None = Field(
        None, description="Longest. Warnings name lm-eval tasks that are not included."
    )
    accepted: list[str] = Field(default_factory=list, description="Ids of accepted findings.")
    accept_reason: str = Field("", description="Why, in the user's words.")
    size_warning: str = Field("", description="Why these may be too few examples.")
    warnings: list[str] = Field(default_factory=list)

    @property
    def has_models(self) -> bool:
        """Tell whether a model is loaded here, not asked at an endpoint."""
        return bool(self.tuned or self.lm_eval_tasks or any(one.model for one in self.systems))


def make_plan(request: EvaluateRequest, models: Models) -> EvaluatePlan:
    """Return what would be done; it reads the held-out file and the training files."""
    _require_judged(request)
    unchecked = [line for source in models.distinct for line in require_there(source)]
    path = workspace.existing(request.dataset) if request.dataset else None
    examples = _read(request, path)
    references = [example.reference for example in examples]
    rows = [example.row for example in examples]
    metrics = choose_metrics(request.metrics, references, rows) if examples else {}
    if "contains" in metrics:
        require_patterns([(example.line, example.row) for example in examples])
    if request.systems:
        # It compares weights; systems are compared by their answers.
        metrics.pop("perplexity", None)
    target = _target(request, metrics)
    sources = list(models.by_name.values())
    _require_packages(request, sources)
    task_paths = [_folder(name) for name in request.task_paths]
    if request.lm_eval_tasks:
        require_tasks(request.lm_eval_tasks, task_paths, sources)
    overlap = _contamination(request, path, examples, sources)
    accepted = _accept(request, overlap)
    schema = workspace.existing(request.json_schema) if request.json_schema else None
    discordance = facts.number("evaluation.discordance")
    has_general = request.general_ability and models.tuned is not None
    num_prompts = len(general_prompts()) if has_general else 0
    rendering = choose_rendering(request.rendering, examples, sources)
    uses_mlx, idle = on_mlx.choose(request, sources)
    loading = load_plan(sources, request.device, on_mlx=uses_mlx)
    engine = on_mlx.MLX if uses_mlx else ""
    systems = _systems(request, models, path, examples, rendering, engine) if path else []
    size = len(examples)
    digest = sha256(path) if path else None
    chose = path and digest and any(chose_the_checkpoint(one, path, digest) for one in sources)
    low, high = _seconds(request, models, systems, num_prompts, loading) or (None, None)
    return EvaluatePlan(
        systems=systems,
        target=target,
        tuned=model_files(models.tuned) if models.tuned else None,
        baseline=model_files(models.baseline) if models.baseline else None,
        alone=request.is_alone and models.tuned == models.baseline,
        dataset=str(path) if path else None,
        dataset_sha256=digest,
        num_examples=size,
        metrics=metrics,
        json_schema_sha256=sha256(schema) if schema else None,
        arguments=request.model_dump(mode="json", include=SHOWN_IF_GIVEN, exclude_defaults=True),
        rendering=rendering,
        max_new_tokens=request.max_new_tokens,
        batch_size=request.batch_size,
        seed=request.seed,
        num_general_prompts=num_prompts,
        lm_eval_tasks=request.lm_eval_tasks,
        task_paths=task_paths,
        contamination=overlap,
        minimum_detectable_effect=round(detectable_effect(size, discordance), 4) if size else None,
        examples_for_smallest_effect=examples_needed(request.smallest_effect_fraction, discordance),
        loading=loading,
        estimated_seconds_low=low,
        estimated_seconds_high=high,
        accepted=accepted,
        accept_reason=request.accept_reason,
        size_warning=about_size(request, size) if size else "",
        warnings=[
            *unchecked,
            *([CHOSEN] if chose else []),
            *(about_schema(schema, references) if schema else []),
            *(about_marks(num_marked_bad(path, examples[-1].line)) if path is not None else []),
            *(about_length(references, request.max_new_tokens) if examples else []),
            *about_wordings([example.asked for example in examples]),
            *([SAME] if request.baseline and models.tuned == models.baseline else []),
            *about_request(request, references, list(metrics), overlap, models),
            *about_systems(systems),
            *about_loading(loading, models, idle),
            *about_tasks(request),
        ],
    )


def _require_judged(request: EvaluateRequest) -> None:
    """Refuse a judge that no metric asks; an older request that is read again may name one."""
    useless = [name for name in JUDGE_ARGUMENTS if getattr(request, name) is not None]
    if useless and "judge" not in request.metrics:
        raise BadInput(
            f'{", ".join(useless)}: only for metrics=["judge"]; add the metric, or remove these'
        )


def _seconds(
    request: EvaluateRequest,
    models: Models,
    systems: list[SystemPlan],
    num_prompts: int,
    loading: LoadPlan | None,
) -> Range | None:
    """Return about how long all answers and lm-eval tasks take; None: not known."""
    batch = request.batch_size
    at_once = {s.name: s.endpoint.max_concurrency for s in request.all_systems() if s.endpoint}
    found = seconds_of(models, systems, num_prompts, batch, loading, at_once)
    if found is None:
        return None
    low, high = found
    for source in models.by_name.values() if request.lm_eval_tasks else ():
        size, limit = weight_bytes(source) or 0, request.lm_eval_limit
        tasks = benchmark_time.seconds(request.lm_eval_tasks, limit, size, batch, loading)
        if tasks is None:
            return None
        low, high = low + tasks / SLOWER, high + tasks * SLOWER
    return float(round(low)), float(round(high))


def _target(request: EvaluateRequest, metrics: Mapping[str, str]) -> dict[str, float]:
    """Return the target under the names that are measured; an exact match of a label is accuracy.

    Raises:
        BadInput: It names a metric that no single example has, or that is not measured.
    """
    measured = [m for metric in metrics for m in MEASURES[metric] if m not in WHOLE_SET]
    names = dict(NAMES)
    if "exact_match" not in measured and "accuracy" in measured:
        names["exact_match"] = "accuracy"
    target = {names.get(name, name): value for name, value in request.target.items()}
    here = f"each example has: {', '.join(measured)}"
    for name, value in target.items():
        if name in WHOLE_SET:
            raise BadInput(
                f"target {name!r} is measured for the whole set only, which has no target; {here}; "
                "set the target for one of these"
            )
        if name not in measured:
            raise BadInput(
                f"target {name!r} is not measured; {here}; add it to metrics, or set the target "
                "for one of these"
            )
        if not 0 <= value <= 1:
            raise BadInput(f"target {name}={value:g} is outside 0 to 1; write 90% as 0.9")
    return target


def _contamination(
    request: EvaluateRequest,
    path: Path | None,
    examples: Sequence[HeldOut],
    sources: Sequence[ModelSource],
) -> Contamination | None:
    if path is None:
        return None
    found = [training_files(source) for source in sources if source.run_id]
    files = list(dict.fromkeys(file for there, _ in found for file in there))
    gone = list(dict.fromkeys(name for _, missing in found for name in missing))
    pools = pools_of(request.all_systems(), path, examples)
    return find_contamination(examples, files, gone, pools)


def _systems(
    request: EvaluateRequest,
    models: Models,
    path: Path,
    examples: Sequence[HeldOut],
    rendering: str,
    engine: str,
) -> list[SystemPlan]:
    settings: dict[str, object] = {
        "dataset": sha256(path),
        "lines": [examples[0].line, examples[-1].line, len(examples)],
        "max_new_tokens": request.max_new_tokens,
        "rendering": rendering,
    }
    if engine:
        settings["engine"] = engine
    if models.tuned is not None:
        # Both get prompts in one template.
        settings["template"] = chat_template(models.tuned) or ""
    return [
        plan_system(
            spec, models.by_name.get(spec.name), path, examples, settings, reuse=request.reuse
        )
        for spec in request.all_systems()
    ]


def _read(request: EvaluateRequest, path: Path | None) -> list[HeldOut]:
    if path is None:
        return []
    return read_held_out(
        path, cluster_field=request.cluster_field, max_examples=request.max_examples
    )


def _folder(name: str) -> str:
    path = workspace.existing(name)
    if not path.is_dir():
        raise BadInput(f"task path {name!r} is not a folder; pass the folder with the YAML files")
    return str(path)


def _require_packages(request: EvaluateRequest, sources: Sequence[ModelSource]) -> None:
    kinds = {source.kind for source in sources}
    needed = dict.fromkeys(("torch", "transformers", "peft"), bool(sources)) | {"rouge_score": True}
    needed |= {"llama_cpp": "gguf" in kinds, "lm_eval": bool(request.lm_eval_tasks)}
    for module, is_needed in needed.items():
        if is_needed and importlib.util.find_spec(module) is None:
            raise MissingExtra("gguf" if module == "llama_cpp" else "eval", module)
    for source in sources:
        if source.path is not None and source.kind != "gguf":
            tower_packages.require(model_folder.config(Path(source.path)))


def _accept(request: EvaluateRequest, overlap: Contamination | None) -> list[str]:
    unknown = set(request.accept_findings) - {LEAK, GENERAL_LOSS}
    if unknown:
        raise BadInput(
            f"accept_findings {sorted(unknown)} is not known here; allowed: {LEAK}, {GENERAL_LOSS}"
        )
    general = [GENERAL_LOSS] if GENERAL_LOSS in request.accept_findings else []
    if overlap is None or not overlap.num_exact:
        return general
    if LEAK not in request.accept_findings:
        lines = ", ".join(map(str, overlap.lines))
        raise anti_patterns.refusal(
            LEAK,
            f"{overlap.num_exact} held-out questions are in the training data (lines {lines})",
            "Remove them from the held-out file, or split again with audit_dataset.",
        )
    return [LEAK, *general]
