"""What a launch would do, in full: every open argument is chosen, and what cannot work refused."""

from collections.abc import Collection
from typing import Any, TypeVar

from ft_tools import workspace
from ft_tools.formats.training_rows import DatasetFacts, survey
from ft_tools.formats.trl_formats import Task
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.estimates import present_load
from ft_tools.runs.hardware import device_slots
from ft_tools.training import arguments, defaults, estimates, preflight
from ft_tools.training.checks import base_model, data_quality, memory
from ft_tools.training.estimates import Completions
from ft_tools.training.findings import refusal
from ft_tools.training.model_plan import model_plan, source_of
from ft_tools.training.plan_warnings import plan_warnings
from ft_tools.training.preflight import PreflightResult, question_of
from ft_tools.training.request import DpoRequest, SftRequest, TrainingRequest
from ft_tools.training.settings import resolved_arguments, settle
from ft_tools.training.suggestion import shape_of_data
from ft_tools.training.token_counts import count_tokens
from ft_tools.training.training_plan import DpoPlan, Estimate, KtoPlan, SftPlan, TrainingPlan
from ft_tools.training.validation_split import hold_out

Files = tuple[DatasetFacts, DatasetFacts | None]
"""The training file and the validation file."""
# Above this a DPO run usually collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
RATE_REFUSED = 1e-4
Kind = TypeVar("Kind", bound=TrainingPlan)


def plan_sft(request: SftRequest) -> SftPlan:
    """Resolve everything a supervised run needs."""
    files, training = files_of("sft", request), request.training
    unmasked = training.get("completion_only_loss") is False
    everything = unmasked and not training.get("assistant_only_loss")
    loss_on = "everything" if everything or files[0].format == "text" else "answers"
    return make_plan(SftPlan, request, source_of(request.model), files, loss_on=loss_on)


def plan_dpo(request: DpoRequest) -> DpoPlan:
    """Resolve everything a preference run needs."""
    return _plan_preferences(DpoPlan, request)


def plan_kto(request: DpoRequest) -> KtoPlan:
    """Resolve everything that a run on marked answers needs."""
    return _plan_preferences(KtoPlan, request)


def _plan_preferences(kind: type[Kind], request: DpoRequest) -> Kind:
    source = source_of(request.model, request.sft_run)
    rate = request.training.get("learning_rate", 0.0)
    if rate > RATE_REFUSED and "dpo_learning_rate" not in request.accept_findings:
        raise refusal("high_dpo_rate", rate=rate, limit=RATE_REFUSED)
    reference = "frozen_copy" if source.adapter else "adapter_off"
    if request.method == "full":
        reference = "second_model"
    return make_plan(kind, request, source, files_of(_task(kind), request), reference=reference)


def files_of(task: Task, request: TrainingRequest, read_beside: Collection[str] = ()) -> Files:
    """Describe the files that a request names."""
    dataset = survey(workspace.existing(request.dataset), task, read_beside)
    if request.validation is None:
        return dataset, None
    validation = survey(workspace.existing(request.validation), task, read_beside)
    # Few rows have too few of each label to be known as labels by themselves.
    kind = {"answers": dataset.answers, "num_labels": dataset.num_labels}
    return dataset, validation.model_copy(update=kind)


def make_plan(
    kind: type[Kind],
    request: TrainingRequest,
    source: ModelSource,
    asked: Files,
    completions: Completions | None = None,
    **own: Any,
) -> Kind:
    """Return the plan of a run.

    `asked` are the files that were named, `own` the fields of this kind of plan alone.
    """
    task, loss_on = _task(kind), own.get("loss_on", "answers")
    base_model.require_trainable(source, request)
    data_quality.require_held_out(request, *asked)
    base_model.require_template(source, task, asked[0], request)
    # Before rows are held out, which writes files, and tokens counted, which takes longer.
    audited = data_quality.require_audited(request, task, *asked)
    dataset, validation = files = _trained_parts(task, request, asked)
    given = resolved_arguments(request)
    counts, why_not = count_tokens(task, source, given, files, loss_on)
    data = shape_of_data(dataset, counts, num_held_out=0, is_watched=validation is not None)
    if task != "sft":
        goal = "reasoning" if task == "grpo" else "preference"
        data = data.model_copy(update={"goal": goal})
    settled, notes = settle(task, request, given, source, dataset, data)
    training = settled["training"]
    if counts is not None:
        # Rows are cut, or packed, by what was chosen for their lengths.
        counts, why_not = count_tokens(task, source, training, files, loss_on, counts)
    arguments.require_complete(training, validated=training["eval_strategy"] != "no")
    used_gib = device_slots.used_by_others_gib(settled["device"]) if request.is_here else 0.0
    plan = kind(
        task=task,
        model=model_plan(source, training.get("chat_template_path")),
        dataset=dataset,
        validation=validation,
        counts=counts,
        method=request.method,
        accepted=sorted(set(request.accept_findings)),
        accept_reason=request.accept_reason,
        estimate=Estimate(steps=0, tokens=0, disk_bytes=0, used_by_others_gib=used_gib),
        **settled,
        **own,
    )
    plan = _with_steps(plan, request, given)
    plan.training.update(memory.fastest_that_fits(plan, given))
    needed = {
        "vram": memory.require_fit(plan, plan.accepted),
        "ram": memory.host_memory(plan, plan.accepted) if plan.is_here else None,
    }
    # Before a step is timed, which is work of its own.
    load = present_load(plan.device) if plan.is_here else 0.0
    missing, timed, unknown = _missing(plan, request, source, load)
    estimate = estimates.estimated(plan, timed, completions, load, request.price_per_hour)
    plan = plan.model_copy(
        update={"estimate": estimate.model_copy(update=needed), "missing": missing}
    )
    warnings = [*plan_warnings(request, source, asked, plan, why_not), *notes, *unknown, *audited]
    return plan.model_copy(update={"warnings": warnings})


def _task(kind: type[TrainingPlan]) -> Task:
    task: Task = kind.model_fields["task"].default
    return task


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


def _with_steps(plan: Kind, request: TrainingRequest, given: dict[str, Any]) -> Kind:
    """Return the plan with its steps, and how often it logs, evaluates and saves."""
    training, processes = plan.training, plan.place.num_processes
    steps = defaults.total_steps(training, plan.num_rows, processes)
    plan = plan.model_copy(update={"estimate": plan.estimate.model_copy(update={"steps": steps})})
    epochs, share = plan.epochs, 0.0
    if plan.validation is not None and plan.task != "grpo":
        # An evaluation is a forward pass; a reinforcement run writes answers in both.
        rows = plan.validation.num_examples / plan.dataset.num_examples
        share = estimates.forward_fraction(plan.task, plan.method) * rows / epochs
    by_steps = training["eval_strategy"] == "steps"
    training.update(defaults.step_arguments(given, steps, evaluates=by_steps, share=share))
    declared = training["num_train_epochs"] if training.get("max_steps", -1) <= 0 else epochs
    data_quality.require_watched(request, plan.task, declared, training, plan.num_evaluations)
    return plan


def _missing(
    plan: TrainingPlan, request: TrainingRequest, source: ModelSource, load: float
) -> tuple[list[str], PreflightResult, list[str]]:
    """Return what this machine lacks for a run here, the step that was timed, and warnings."""
    nothing = PreflightResult()
    if not plan.is_here:
        return [], nothing, []
    if optimizer := arguments.missing_package(plan.training["optim"]):
        return [optimizer], nothing, []
    if plan.engine != "torch" or not request.preflight:
        return [], nothing, []
    named = (plan.training.get("model_init_kwargs") or {}).get("attn_implementation", "sdpa")
    # Earlier runs say better what a step takes.
    step = None if estimates.earlier_rates(plan) else question_of(plan, load)
    quantized = plan.quantization is not None
    tried = preflight.tried(plan.device, quantized=quantized, attention=str(named), step=step)
    failed, unknown = preflight.problems(tried.checks, plan.device)
    return failed, tried, unknown
