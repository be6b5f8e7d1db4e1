"""What a launch would do, in full: the model that is hashed, confirmed, stored and obeyed."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from ft_tools import workspace
from ft_tools.advice.launches import LaunchAdvice
from ft_tools.formats.masking import LossOn
from ft_tools.formats.training_rows import DatasetFacts, survey
from ft_tools.formats.trl_formats import Task
from ft_tools.lora.dataset import shape_of_data
from ft_tools.models import tower_packages
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.launch import Plan
from ft_tools.runs.launchers.table import Place
from ft_tools.training import arguments, defaults, estimates, preference_runs, preflight
from ft_tools.training.checks import base_model, data_quality
from ft_tools.training.checks.engine import Engine
from ft_tools.training.estimates import Estimate
from ft_tools.training.model_plan import ModelPlan, config_if_known, model_plan, source_of
from ft_tools.training.plan_estimate import (
    Completions,
    count_tokens,
    estimated,
    require_memory,
    rows_in_batches,
    work_of,
)
from ft_tools.training.plan_warnings import few_evaluations, plan_warnings
from ft_tools.training.preference_runs import Reference
from ft_tools.training.request import DpoRequest, Method, SftRequest, TrainingRequest
from ft_tools.training.settings import Settings, basis_of, resolved_arguments, settle
from ft_tools.training.step_time import question_of
from ft_tools.training.token_counts import Counts
from ft_tools.training.validation_split import hold_out

Files = tuple[DatasetFacts, DatasetFacts | None]
"""The training file and the validation file."""


class TrainingPlan(Plan):
    """The parts that SFT and DPO share."""

    MACHINE: ClassVar[Mapping[str, Any]] = {
        "device": {"memory_gib", "capability", "driver", "cards"},
        # Where the caller names them, the hash covers the request's arguments.
        "training": {
            *defaults.BATCH,
            "gradient_checkpointing",
            "optim",
            "packing",
            "model_init_kwargs",
        },
        **dict.fromkeys(("advice", "chosen_for", "counts", "estimate", "missing"), True),
    }

    task: Task
    model: ModelPlan
    dataset: DatasetFacts
    validation: DatasetFacts | None = None
    counts: Counts | None = Field(
        None, description="After tokenisation; null where the tokenizer is not on this machine."
    )
    method: Method
    engine: Engine = Field("torch", description="What computes forward and backward passes.")
    device: Device
    weights_dtype: str = Field(description="Numbers that the base weights are held in.")
    peft: dict[str, Any] | None = Field(description="Of peft.LoraConfig; null for full.")
    attention: str = Field("", description="Kernel that was chosen, with its commit on the Hub.")
    quantization: dict[str, Any] | None = Field(
        description="Of BitsAndBytesConfig, or of mlx.nn.quantize; null if none."
    )
    training: dict[str, Any] = Field(description="Of trl.SFTConfig or DPOConfig.")
    chosen_for: str = Field("", description="What open arguments were chosen for.")
    patience: int | None = Field(
        None, description="Evaluations without a better one until it stops; null: never early."
    )
    place: Place = Field(default_factory=Place, description="Where it runs.")
    estimate: Estimate
    accepted: list[str] = Field(default_factory=list, description="Findings taken as they are.")
    accept_reason: str = Field("", description="Why, in the user's words.")
    advice: LaunchAdvice | None = Field(None, description="What recommend_approach says of it.")
    missing: list[str] = Field(
        default_factory=list,
        description="What this machine lacks for it; a confirmation is refused while it does.",
    )
    warnings: list[str] = Field(default_factory=list)

    @property
    def effective_batch(self) -> int:
        """Return the examples that one optimizer step sees."""
        micro: int = self.training["per_device_train_batch_size"]
        accumulated: int = self.training["gradient_accumulation_steps"]
        return micro * accumulated * self.place.num_processes

    @property
    def epochs(self) -> float:
        """Return the epochs in which the planned steps are made."""
        num_rows = rows_in_batches(self.counts, self.dataset)
        of_one = defaults.steps_an_epoch(self.training, num_rows, self.place.num_processes)
        return self.estimate.steps / of_one

    @property
    def answer_tokens(self) -> float | None:
        """Return the mean trained tokens of a row; None where they were not counted."""
        return None if self.counts is None else self.counts.lengths.mean_answer_tokens


class SftPlan(TrainingPlan):
    """A supervised run."""

    task: Literal["sft"] = "sft"
    loss_on: LossOn = Field("answers", description="Which tokens the loss counts.")


class DpoPlan(TrainingPlan):
    """A preference run."""

    task: Literal["dpo"] = "dpo"
    reference: Reference = Field(
        description="adapter_off: the base without the new adapter. frozen_copy: the SFT adapter "
        "as it was. second_model: the model before training, kept beside it."
    )


class KtoPlan(TrainingPlan):
    """A run on answers that are marked good or bad."""

    task: Literal["kto"] = "kto"
    reference: Reference = Field(description="As of a preference run.")


def plan_sft(request: SftRequest) -> SftPlan:
    """Resolve everything a supervised run needs.

    Raises:
        FineTuningError: As `launch_sft`.
    """
    source = source_of(request.model or "")
    dataset, validation = files_of("sft", request)
    loss_on = _loss_on(request, dataset)
    parts = plan_parts("sft", request, source, (dataset, validation), loss_on)
    return SftPlan(**parts, loss_on=loss_on)


def plan_dpo(request: DpoRequest) -> DpoPlan:
    """Resolve everything a preference run needs.

    Raises:
        FineTuningError: As `launch_dpo`.
    """
    return DpoPlan(**_preference_parts("dpo", request))


def plan_kto(request: DpoRequest) -> KtoPlan:
    """Resolve everything that a run on marked answers needs.

    Raises:
        FineTuningError: As `launch_dpo`.
    """
    return KtoPlan(**_preference_parts("kto", request))


def _preference_parts(task: Task, request: DpoRequest) -> dict[str, Any]:
    source = source_of(preference_runs.start_of(request.model, request.sft_run))
    preference_runs.require_rate(request)
    parts = plan_parts(task, request, source, files_of(task, request), "answers")
    return parts | {"reference": preference_runs.reference_of(request, source)}


def files_of(task: Task, request: TrainingRequest, read_beside: Collection[str] = ()) -> Files:
    """Describe the files that a request names.

    Raises:
        FineTuningError: As `survey`.
    """
    dataset = survey(workspace.existing(request.dataset), task, read_beside)
    if request.validation is None:
        return dataset, None
    validation = survey(workspace.existing(request.validation), task, read_beside)
    # Few rows have too few of each label to be known as labels by themselves.
    kind = {"answers": dataset.answers, "num_labels": dataset.num_labels}
    return dataset, validation.model_copy(update=kind)


def _loss_on(request: SftRequest, dataset: DatasetFacts) -> LossOn:
    training = request.training
    unmasked = training.get("completion_only_loss") is False
    everything = unmasked and not training.get("assistant_only_loss")
    return "everything" if everything or dataset.format == "text" else "answers"


def plan_parts(
    task: Task,
    request: TrainingRequest,
    source: ModelSource,
    files: Files,
    loss_on: LossOn,
    completions: Completions | None = None,
) -> dict[str, Any]:
    """Resolve what all kinds of run have in common, as arguments of their plans.

    Args:
        task: What is trained.
        request: What was asked.
        source: The model.
        files: For training and validation.
        loss_on: Tokens that the loss counts.
        completions: What is known of the answers that a reinforcement run writes itself.

    Raises:
        FineTuningError: As the launches.
    """
    asked = files
    _require_usable(task, request, source, files)
    # Before rows are held out, which writes files, and tokens counted, which takes longer.
    audited = data_quality.require_audited(request, task, *files)
    dataset, validation = files = _trained_parts(task, request, files)
    counted, why_not = count_tokens(task, source, resolved_arguments(request), files, loss_on)
    data = shape_of_data(dataset, counted, num_held_out=0, is_watched=validation is not None)
    if task != "sft":
        goal = "reasoning" if task == "grpo" else "preference"
        data = data.model_copy(update={"goal": goal})
    basis = basis_of(task, request, source, data)
    settings = settle(request, source, dataset, basis)
    training = settings.training
    if counted is not None:
        # Rows are cut, or packed, by what was chosen for their lengths.
        counted, why_not = count_tokens(task, source, training, files, loss_on, counted)
    num_rows = rows_in_batches(counted, dataset)
    arguments.require_complete(training, validated=training["eval_strategy"] != "no")
    # An evaluation is a forward pass; a reinforcement run writes answers in both.
    each = 0.0
    if validation is not None and task != "grpo":
        rows = validation.num_examples / dataset.num_examples
        each = estimates.forward_fraction(task, request.method) * rows
    steps, epochs = _set_steps(request, task, settings, num_rows, each)
    parts = {
        "task": task,
        "model": model_plan(source, training.get("chat_template_path")),
        "dataset": dataset,
        "validation": validation,
        "counts": counted,
        "method": request.method,
        "engine": settings.engine,
        "device": settings.device,
        "place": settings.place,
        "weights_dtype": settings.weights_dtype(request.method),
        "peft": settings.peft,
        "attention": settings.attention,
        "quantization": settings.quantization(request.method, source),
        "training": training,
        "chosen_for": basis.described,
        "patience": defaults.patience(training),
        "accepted": sorted(set(request.accept_findings)),
        "accept_reason": request.accept_reason,
    }
    memory_needed = require_memory(request, source, parts, settings)
    tokens = int((counted.data.num_tokens if counted else dataset.estimated_tokens) * epochs)
    evaluations = defaults.planned_evaluations(training, steps, epochs)
    work = work_of(task, request, parts, steps, evaluations)
    if completions is not None:
        tokens, work = completions.added_to(work, parts, tokens, evaluations)
    parts["missing"], work = _missing(request, source, settings, parts, work)
    estimate = estimated(request, parts, work, tokens)
    warnings = [
        *plan_warnings(request, source, asked, parts, memory_needed, why_not),
        *settings.notes,
        *audited,
    ]
    return parts | {"estimate": estimate.model_copy(update=memory_needed), "warnings": warnings}


def _missing(
    request: TrainingRequest,
    source: ModelSource,
    settings: Settings,
    parts: dict[str, Any],
    work: estimates.Work,
) -> tuple[list[str], estimates.Work]:
    """Return what this machine lacks for the run, if it is to run here, and its step if timed."""
    device = settings.device
    if not request.is_here or settings.place.exported_for:
        return [], work
    towers = tower_packages.missing(config_if_known(source))
    optimizer = arguments.missing_package(settings.training["optim"])
    if found := [*filter(None, (towers, optimizer))]:
        return found, work
    if settings.engine != "torch" or not request.preflight:
        return [], work
    named = (settings.training.get("model_init_kwargs") or {}).get("attn_implementation", "sdpa")
    quantized = settings.quantization(request.method, source) is not None
    # Earlier runs say better what a step takes.
    step = None if estimates.earlier_rates(work) else question_of(parts, work.load)
    tried = preflight.tried(device, quantized=quantized, attention=str(named), step=step)
    failed, unknown = preflight.problems(tried.checks, device)
    settings.notes += unknown
    return failed, replace(work, step=tried.step, why_no_step=tried.why_no_step)


def _require_usable(
    task: Task, request: TrainingRequest, source: ModelSource, files: Files
) -> None:
    dataset, validation = files
    base_model.require_trainable(source, request)
    data_quality.require_held_out(request, dataset, validation)
    base_model.require_template(source, task, dataset, request)


def _trained_parts(task: Task, request: TrainingRequest, files: Files) -> Files:
    """Return the files, or the parts of the only one, if rows of it are held out."""
    dataset, validation = files
    if validation is not None:
        return files
    given = request.training
    if task == "grpo":
        # A reward that nothing holds out can be gamed unseen, however short the run is.
        given = {name: given[name] for name in ("eval_strategy",) if name in given}
    return hold_out(dataset, task, given) or files


def _set_steps(
    request: TrainingRequest,
    task: Task,
    settings: Settings,
    num_rows: int,
    each: float,
) -> tuple[int, float]:
    """Set how often to log, evaluate and save.

    Args:
        request: What was asked.
        task: What is trained.
        settings: Changed in place.
        num_rows: That batches are made of.
        each: Epochs of training that take the work of one evaluation.

    Returns:
        The optimizer steps, and the epochs in which they are made.

    Raises:
        FineTuningError: Steps do not go together, or examples are repeated unwatched.
    """
    training, processes = settings.training, settings.place.num_processes
    steps = defaults.total_steps(training, num_rows, processes)
    epochs = steps / defaults.steps_an_epoch(training, num_rows, processes)
    by_steps = training["eval_strategy"] == "steps"
    share = each / epochs
    training |= defaults.step_arguments(settings.given, steps, evaluates=by_steps, share=share)
    settings.notes += few_evaluations(training, steps, epochs)
    declared = training["num_train_epochs"] if training.get("max_steps", -1) <= 0 else epochs
    evaluations = defaults.planned_evaluations(training, steps, epochs)
    data_quality.require_watched(request, task, declared, training, evaluations)
    return steps, epochs
