"""launch_sft and launch_dpo: request -> checks -> plan -> run."""

from pathlib import Path
from typing import Any, Literal

from ft_tools import rules, workspace
from ft_tools.contract import NextStep
from ft_tools.errors import BadInput
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.publish import new_folder, require_space
from ft_tools.runs import directory, start
from ft_tools.runs.plan import Launch, plan_hash, require_same
from ft_tools.training import (
    arguments,
    defaults,
    estimates,
    exports,
    gates,
    memory,
    weights,
)
from ft_tools.training.examples import DatasetFacts, Task, survey
from ft_tools.training.hardware import Device, find_device
from ft_tools.training.plan import DpoPlan, Estimate, ModelPlan, SftPlan, TrainingPlan
from ft_tools.training.requests import DpoRequest, SftRequest, TrainingRequest

# Above these a DPO run usually collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
DPO_RATE_WARNED = 2e-5
DPO_RATE_REFUSED = 1e-4


def launch_sft(request: SftRequest) -> Launch:
    """Plan a supervised fine-tuning run; start it when `confirm` names the plan that was shown.

    Raises:
        FineTuningError: A gate said no, or an argument, file or model cannot be used.
    """
    arguments.require_packages()
    gates.backend(request)
    arguments.check_arguments("lora", request.peft)
    arguments.check_arguments("sft", request.training)
    return _launch("sft", request, plan_sft(request), request.model)


def launch_dpo(request: DpoRequest) -> Launch:
    """Plan a preference run (DPO); start it when `confirm` names the plan that was shown.

    Raises:
        FineTuningError: A gate said no, or an argument, file or model cannot be used.
    """
    arguments.require_packages()
    gates.backend(request)
    arguments.check_arguments("lora", request.peft)
    arguments.check_arguments("dpo", _listed(request).training)
    parent = request.sft_run or request.model or ""
    return _launch("dpo", request, plan_dpo(_listed(request)), parent)


def plan_sft(request: SftRequest) -> SftPlan:
    """Resolve everything a supervised run needs.

    Raises:
        FineTuningError: As `launch_sft`.
    """
    source = resolve_model(request.model)
    parts = _plan_parts("sft", request, source)
    unmasked = request.training.get("completion_only_loss") is False
    everything = parts["dataset"].format == "text" or (
        unmasked and not request.training.get("assistant_only_loss")
    )
    return SftPlan(**parts, loss_on="everything" if everything else "answers")


def plan_dpo(request: DpoRequest) -> DpoPlan:
    """Resolve everything a preference run needs.

    Raises:
        FineTuningError: As `launch_dpo`.
    """
    source = resolve_model(_start_of(request))
    rate = request.training.get("learning_rate", 0.0)
    if rate > DPO_RATE_REFUSED and "dpo_learning_rate" not in request.accept_findings:
        observed = f"training.learning_rate={rate:g} is above {DPO_RATE_REFUSED:g}"
        raise rules.refusal("dpo_learning_rate", observed, "Use 5e-6 with an adapter.")
    parts = _plan_parts("dpo", request, source)
    if rate > DPO_RATE_WARNED:
        parts["warnings"].append(
            f"learning_rate {rate:g} is high for DPO: above {DPO_RATE_WARNED:g} the rewards of "
            "chosen answers often fall; 5e-6 is usual"
        )
    if request.method == "full":
        return DpoPlan(**parts, reference="second_model")
    return DpoPlan(**parts, reference="frozen_copy" if source.adapter else "adapter_off")


def _listed(request: DpoRequest) -> DpoRequest:
    """Give `loss_type` as the list that DPOConfig makes of it."""
    loss = request.training.get("loss_type")
    if not isinstance(loss, str):
        return request
    return request.model_copy(update={"training": {**request.training, "loss_type": [loss]}})


def _start_of(request: DpoRequest) -> str:
    if request.sft_run is None:
        return request.model or ""
    info = directory.read_info(directory.find(request.sft_run))
    if info.kind != "sft":
        raise BadInput(f"sft_run={request.sft_run!r} is a {info.kind} run; pass it as `model`")
    return request.sft_run


def _plan_parts(task: Task, request: TrainingRequest, source: ModelSource) -> dict[str, Any]:
    """Resolve what both kinds of run have in common, as arguments of their plans."""
    gates.model_fits(source, task, request, request.method)
    accepted = sorted(set(request.accept_findings))
    dataset = survey(workspace.existing(request.dataset), task)
    validation = None
    if request.validation is not None:
        validation = survey(workspace.existing(request.validation), task)
    gates.template_fits(source, task, dataset, request)
    device = find_device(request.backend_options.get("device", "auto"))
    if request.training.get("bf16") is False and device.precision == "bfloat16":
        device = device.model_copy(update={"precision": "float32"})
    given = _resolved_paths(arguments.without_decided(request.training))
    training = defaults.training_arguments(
        task, request.method, given, device, validated=validation is not None
    )
    limit = weights.max_positions(Path(source.path)) if source.path else None
    if limit and "max_length" not in given:
        training["max_length"] = min(training["max_length"], limit)
    steps = defaults.total_steps(training, dataset.num_examples)
    batch = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]
    epochs = steps * batch / dataset.num_examples
    if training["eval_strategy"] != "no" and validation is None:
        raise BadInput(f"eval_strategy={training['eval_strategy']!r} needs `validation`")
    evaluates = training["eval_strategy"] == "steps"
    training |= defaults.step_arguments(given, steps, evaluates=evaluates)
    peft = None
    if request.method != "full" and not source.adapter:
        peft = defaults.lora_arguments(arguments.without_decided(request.peft))
    gates.arguments_fit(task, peft or {}, training)
    declared = training["num_train_epochs"] if training.get("max_steps", -1) <= 0 else epochs
    gates.data_fits(request, dataset, validation, declared)
    audit_warnings = gates.audited(request, task, dataset, validation)
    model = _model_plan(source, request)
    dtype = _weights_dtype(request.method, device, training)
    vram = memory.require_fit(
        source.load_from, task, request.method, peft, training, device, dtype, accepted
    )
    estimate = _estimate(task, request.method, model, peft, dataset, device, steps, epochs)
    estimate = estimate.model_copy(update={"vram": vram})
    return {
        "model": model,
        "dataset": dataset,
        "validation": validation,
        "method": request.method,
        "device": device,
        "weights_dtype": dtype,
        "peft": peft,
        "quantization": defaults.QUANTIZATION if request.method == "qlora" else None,
        "training": training,
        "patience": defaults.PATIENCE if training["eval_strategy"] != "no" else None,
        "estimate": estimate,
        "accepted": accepted,
        "accept_reason": request.accept_reason,
        "warnings": [
            *_warnings(source, training, dataset, validation, steps),
            *_decided(request, device),
            *audit_warnings,
        ],
    }


def _model_plan(source: ModelSource, request: TrainingRequest) -> ModelPlan:
    folder = Path(source.path) if source.path else None
    base = source.name
    if source.run_id:
        lineage = directory.read_info(directory.find(source.run_id)).lineage
        base = lineage.get("base_model", source.name) if source.adapter else source.run_id
    elif source.adapter:
        base = source.load_from
    return ModelPlan(
        name=source.name,
        load_from=source.load_from,
        adapter=source.adapter,
        base_model=base,
        num_params=weights.num_params(folder) if folder else None,
        config_sha256=weights.config_hash(folder) if folder else "",
        template_sha256=weights.template_hash(folder) if folder else "",
    )


def _resolved_paths(training: dict[str, Any]) -> dict[str, Any]:
    template = training.get("chat_template_path")
    if template is None:
        return training
    path = workspace.existing(template)
    if path.suffix not in {".jinja", ".j2"}:
        raise BadInput(f"training.chat_template_path={template!r}: name a .jinja file")
    return {**training, "chat_template_path": str(path)}


def _weights_dtype(method: str, device: Device, training: dict[str, Any]) -> str:
    """Name the numbers of the weights.

    Full training needs float32: small updates vanish in bfloat16's 8 bits. On a CPU memory is
    plentiful, and only products are taken in bfloat16.
    """
    asked = (training.get("model_init_kwargs") or {}).get("dtype")
    if asked is not None:
        return str(asked)
    return "float32" if method == "full" or device.name == "cpu" else device.precision


def _estimate(
    task: Task,
    method: str,
    model: ModelPlan,
    peft: dict[str, Any] | None,
    dataset: DatasetFacts,
    device: Device,
    steps: int,
    epochs: float,
) -> Estimate:
    tokens = int(dataset.estimated_tokens * epochs)
    trained = estimates.trained_params(model.num_params, method, peft or {"r": defaults.LORA["r"]})
    disk = estimates.disk_bytes(model.num_params, trained, method)
    require_space(workspace.runs_dir(), disk, "the run")
    return Estimate(
        steps=steps,
        tokens=tokens,
        seconds=estimates.seconds(model.num_params, tokens, method, task, device),
        disk_bytes=disk,
    )


def _warnings(
    source: ModelSource,
    training: dict[str, Any],
    dataset: DatasetFacts,
    validation: DatasetFacts | None,
    steps: int,
) -> list[str]:
    found = []
    if source.path is None:
        found.append(
            f"{source.name} is not on this machine; the run downloads it, and checks its chat "
            "template only then"
        )
    if validation is None:
        found.append(
            "no validation file: overfitting will not be seen, the last model is kept, not the best"
        )
    if steps < 20:
        found.append(f"only {steps} steps: smaller batches or more examples teach more")
    length = training.get("max_length")
    limit = weights.max_positions(Path(source.path)) if source.path else None
    if length and limit and length > limit:
        found.append(f"max_length {length} is beyond the model's {limit} positions")
    if length and dataset.longest_characters > 4 * length:
        found.append(
            f"the longest example has {dataset.longest_characters} characters, about "
            f"{dataset.longest_characters // 4} tokens; what is beyond max_length {length} is cut"
        )
    return found


def _decided(request: TrainingRequest, device: Device) -> list[str]:
    asked = {"bf16": "bfloat16", "fp16": "float16"}
    found = [
        f"training.{name} is left out: on {device.name} the plan computes in {device.precision}"
        for name, precision in asked.items()
        if request.training.get(name) and precision != device.precision
    ]
    optimizer = request.training.get("optim", "")
    if defaults.needs_gpu(optimizer) and device.name == "cpu":
        found.append(
            f"training.optim={optimizer!r} needs a GPU; on {device.name} it is adamw_torch"
        )
    return found


def _exported(export_dir: str, plan: TrainingPlan) -> list[str]:
    final = workspace.new_folder(export_dir)
    with new_folder(final) as staging:
        written = exports.write_exports(staging, plan)
    return [str(final / path.name) for path in written]


def _launch(kind: Literal["sft", "dpo"], request: Any, plan: TrainingPlan, parent: str) -> Launch:
    digest = plan_hash(plan)
    shown = plan.model_dump(mode="json")
    arguments_again = request.model_dump(mode="json", exclude_unset=True) | {"confirm": digest}
    if request.confirm is None:
        arguments_again.pop("export_dir", None)
        if request.export_dir is not None:
            shown["export"] = _exported(request.export_dir, plan)
        why = "starts exactly this plan, once the user has agreed to it"
        step = NextStep(tool=f"launch_{kind}", arguments=arguments_again, why=why)
        return Launch(plan_hash=digest, plan=shown, warnings=plan.warnings, next_steps=[step])
    require_same(request.confirm, plan)
    lineage = {"base_model": plan.model.base_model, "dataset": plan.dataset.path}
    if directory.RUN_ID.fullmatch(parent):
        lineage["parent_run"] = parent
    run_id = start.start(
        kind,
        request,
        plan,
        request_id=request.request_id,
        name=request.name,
        device=plan.device.name,
        lineage=lineage,
    )
    why = "shows how far it is; a minute between two looks is enough"
    step = NextStep(tool="get_run", arguments={"run_id": run_id}, why=why)
    return Launch(
        plan_hash=digest,
        plan=shown,
        warnings=plan.warnings,
        started=True,
        run_id=run_id,
        next_steps=[step],
    )
