"""What a launch would do: arguments, files, tokens, memory and time, resolved into a plan."""

from pathlib import Path
from typing import Any

from ft_tools import rules, workspace
from ft_tools.errors import BadInput
from ft_tools.examples.masking import LossOn
from ft_tools.examples.training_rows import UNTRAINED, DatasetFacts, Task, survey
from ft_tools.models import weights
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.publish import require_space
from ft_tools.runs import directory
from ft_tools.runs.hardware import Device
from ft_tools.training import counts, defaults, estimates, placing
from ft_tools.training.checks import arguments, demands, memory, preconditions
from ft_tools.training.checks.learnable import packing_of
from ft_tools.training.counts import CountRequest, Counts
from ft_tools.training.plan import DpoPlan, Estimate, ModelPlan, SftPlan
from ft_tools.training.request import DpoRequest, SftRequest, TrainingRequest

# Above these a DPO run usually collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
DPO_RATE_WARNED = 2e-5
DPO_RATE_REFUSED = 1e-4
KEEPS_OUT = "audit_dataset with output_dir keeps them out of the loss"


def plan_sft(request: SftRequest) -> SftPlan:
    """Resolve everything a supervised run needs.

    Raises:
        FineTuningError: As `launch_sft`.
    """
    source = resolve_model(request.model)
    dataset, validation = _files("sft", request)
    loss_on = _loss_on(request, dataset)
    parts = _plan_parts("sft", request, source, (dataset, validation), loss_on)
    return SftPlan(**parts, loss_on=loss_on)


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
    parts = _plan_parts("dpo", request, source, _files("dpo", request), "answers")
    if rate > DPO_RATE_WARNED:
        parts["warnings"].append(
            f"learning_rate {rate:g} is high for DPO: above {DPO_RATE_WARNED:g} the rewards of "
            "chosen answers often fall; 5e-6 is usual"
        )
    if request.training.get("sync_ref_model"):
        parts["warnings"].append(
            "the reference that sync_ref_model moves is in no checkpoint: a run that goes on "
            "starts from the first one again"
        )
    if request.method == "full":
        return DpoPlan(**parts, reference="second_model")
    return DpoPlan(**parts, reference="frozen_copy" if source.adapter else "adapter_off")


def _start_of(request: DpoRequest) -> str:
    if request.sft_run is None:
        return request.model or ""
    info = directory.read_info(directory.find(request.sft_run))
    if info.kind != "sft":
        raise BadInput(f"sft_run={request.sft_run!r} is a {info.kind} run; pass it as `model`")
    return request.sft_run


def _files(task: Task, request: TrainingRequest) -> tuple[DatasetFacts, DatasetFacts | None]:
    dataset = survey(workspace.existing(request.dataset), task)
    if request.validation is None:
        return dataset, None
    return dataset, survey(workspace.existing(request.validation), task)


def _loss_on(request: SftRequest, dataset: DatasetFacts) -> LossOn:
    training = request.training
    unmasked = training.get("completion_only_loss") is False
    everything = unmasked and not training.get("assistant_only_loss")
    return "everything" if everything or dataset.format == "text" else "answers"


def _plan_parts(
    task: Task,
    request: TrainingRequest,
    source: ModelSource,
    files: tuple[DatasetFacts, DatasetFacts | None],
    loss_on: LossOn,
) -> dict[str, Any]:
    """Resolve what both kinds of run have in common, as arguments of their plans."""
    dataset, validation = files
    preconditions.model_fits(source, task, request, request.method)
    preconditions.held_out(request, dataset, validation)
    preconditions.template_fits(source, task, dataset, request)
    device, place = placing.find_place(request, task)
    given = _resolved_paths(arguments.without_decided(request.training))
    training = _training(task, request, source, given, device, validated=validation is not None)
    shared = placing.share_batch(training, place.num_processes)
    peft = None
    if request.method != "full" and not source.adapter:
        peft = defaults.lora_arguments(arguments.without_decided(request.peft))
    preconditions.arguments_fit(task, request.method, peft or {}, training)
    demands.require_packages(request, training)
    absent = demands.require_layers(Path(source.path), peft or {}) if source.path else []
    if task == "dpo":
        preconditions.reference_fits(source, peft or {})
    audit_warnings = preconditions.audited(request, task, dataset, validation)
    counted, why_not = counts.count(_count_request(task, source, training, files, loss_on))
    num_rows = counted.num_rows if counted else dataset.num_examples
    steps = defaults.total_steps(training, num_rows, place.num_processes)
    epochs = steps / defaults.steps_an_epoch(training, num_rows, place.num_processes)
    evaluates = training["eval_strategy"] == "steps"
    training |= defaults.step_arguments(given, steps, evaluates=evaluates)
    preconditions.steps_fit(training)
    declared = training["num_train_epochs"] if training.get("max_steps", -1) <= 0 else epochs
    preconditions.watched(request, declared, evaluates=training["eval_strategy"] != "no")
    model = _model_plan(source, training.get("chat_template_path"))
    dtype = _weights_dtype(request.method, device, training)
    vram = memory.require_fit(
        source.load_from,
        task,
        request.method,
        peft,
        training,
        device,
        dtype,
        sorted(set(request.accept_findings)),
        place,
    )
    parts = {
        "model": model,
        "dataset": dataset,
        "validation": validation,
        "counts": counted,
        "method": request.method,
        "device": device,
        "place": place,
        "weights_dtype": dtype,
        "peft": peft,
        "quantization": defaults.QUANTIZATION if request.method == "qlora" else None,
        "training": training,
        "patience": defaults.patience(training),
        "samples": request.samples if validation is not None else 0,
        "accepted": sorted(set(request.accept_findings)),
        "accept_reason": request.accept_reason,
        "warnings": [
            *_warnings(source, training, validation, steps),
            *_about_unread(dataset),
            *_about_form(source, dataset, training.get("chat_template_path")),
            *shared,
            *_about_tokens(dataset, counted, why_not, training.get("max_length")),
            *_decided(request, device),
            *absent,
            *audit_warnings,
        ],
    }
    tokens = int((counted.data.num_tokens if counted else dataset.estimated_tokens) * epochs)
    return parts | {"estimate": _estimate(task, request, parts, steps, tokens, vram)}


def _training(
    task: Task,
    request: TrainingRequest,
    source: ModelSource,
    given: dict[str, Any],
    device: Device,
    *,
    validated: bool,
) -> dict[str, Any]:
    """Return the trainer's arguments that do not depend on the number of steps."""
    training = defaults.training_arguments(task, request.method, given, device, validated=validated)
    limit = weights.max_positions(Path(source.path)) if source.path else None
    if limit and "max_length" not in given:
        training["max_length"] = min(training["max_length"], limit)
    if training["eval_strategy"] != "no" and not validated:
        raise BadInput(f"eval_strategy={training['eval_strategy']!r} needs `validation`")
    return training


def _count_request(
    task: Task,
    source: ModelSource,
    training: dict[str, Any],
    files: tuple[DatasetFacts, DatasetFacts | None],
    loss_on: LossOn,
) -> CountRequest:
    return CountRequest(
        task=task,
        tokenizer=weights.tokenizer_folder(source.adapter, source.load_from),
        template_path=training.get("chat_template_path"),
        dataset=files[0],
        validation=files[1],
        max_length=training.get("max_length"),
        loss_on=loss_on,
        packing=packing_of(training),
    )


def _model_plan(source: ModelSource, template_path: str | None) -> ModelPlan:
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
        template_sha256=_template_hash(source, template_path) if folder else "",
    )


def _template_hash(source: ModelSource, template_path: str | None) -> str:
    folder = weights.tokenizer_folder(source.adapter, source.load_from)
    return weights.template_hash(Path(folder), template_path)


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
    request: TrainingRequest,
    parts: dict[str, Any],
    steps: int,
    tokens: int,
    vram: dict[str, Any] | None,
) -> Estimate:
    model: ModelPlan = parts["model"]
    adapter = parts["peft"] or {"r": defaults.LORA["r"]}
    trained = estimates.trained_params(model.num_params, request.method, adapter)
    disk = estimates.disk_bytes(model.num_params, trained, request.method)
    require_space(workspace.runs_dir(), disk, "the run")
    memory.require_ram(
        model.num_params, trained, parts["device"], parts["weights_dtype"], parts["accepted"]
    )
    return Estimate(
        steps=steps,
        tokens=tokens,
        duration=estimates.duration(
            model, request.method, task, parts["device"], tokens, request.price_per_hour
        ),
        disk_bytes=disk,
        vram=vram,
    )


def _warnings(
    source: ModelSource,
    training: dict[str, Any],
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
    elif training.get("loss_type") == "dft":
        found.append(
            "the loss of dft may rise while the model gets better: no checkpoint is chosen by it, "
            "the last model is kept"
        )
    if steps < 20:
        found.append(f"only {steps} steps: smaller batches or more examples teach more")
    length = training.get("max_length")
    limit = weights.max_positions(Path(source.path)) if source.path else None
    if length and limit and length > limit:
        found.append(f"max_length {length} is beyond the model's {limit} positions")
    return found


def _about_unread(dataset: DatasetFacts) -> list[str]:
    """Name what the rows say of their prompts, and of what is not to be trained, to no effect."""
    cures = {"chat_template_kwargs": "write them into a template (training.chat_template_path)"}
    cures |= dict.fromkeys(UNTRAINED, f"such answers are trained; {KEEPS_OUT}")
    usual = "audit_dataset with output_dir puts it into the prompts"
    return [
        f"`{name}` of {count} examples is not read; {cures.get(name, usual)}"
        for name, count in sorted(dataset.unread.items())
    ]


def _about_form(source: ModelSource, dataset: DatasetFacts, template: str | None) -> list[str]:
    """Say so when questions and answers of plain text are to train a model that is made to chat."""
    if dataset.format not in {"prompt_completion_text", "pairs_text"} or not source.path:
        return []
    folder = Path(weights.tokenizer_folder(source.adapter, source.path))
    if template is None and weights.chat_template(folder) is None:
        return []
    return [
        f"{Path(dataset.path).name} is plain text, so the chat template of {source.name} is not "
        "applied, and a chat will show little of what is learned; unless the texts have its marks "
        "already, train on what audit_dataset with output_dir writes: messages"
    ]


def _about_tokens(
    dataset: DatasetFacts, counted: Counts | None, why_not: str, length: int | None
) -> list[str]:
    """Say what tokenisation leaves out, as far as it is known."""
    found = []
    if counted is None:
        found.append(f"tokens are estimated from characters: {why_not}")
        if length and dataset.longest_characters > 4 * length:
            found.append(
                f"the longest example has {dataset.longest_characters} characters, about "
                f"{dataset.longest_characters // 4} tokens; what is beyond max_length {length} is "
                "cut"
            )
        return found
    data = counted.data
    if counted.num_counted < dataset.num_examples:
        found.append(
            f"tokens are scaled from the first {counted.num_counted} of {dataset.num_examples} "
            "examples"
        )
    if data.num_truncated:
        found.append(f"{data.num_truncated} of {data.num_sequences} sequences are cut at {length}")
    if data.num_dropped:
        found.append(f"{data.num_dropped} sequences have nothing to learn and are left out")
    if data.num_prompt_drifts:
        found.append(
            f"{data.num_prompt_drifts} prompts are tokenized differently alone than with their "
            "answer"
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
