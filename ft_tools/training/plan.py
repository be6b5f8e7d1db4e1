"""What a launch would do, in full: the model that is hashed, confirmed, stored and obeyed."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import rules, workspace
from ft_tools.errors import BadInput, HubUnavailable
from ft_tools.examples.masking import LossOn
from ft_tools.examples.training_rows import DatasetFacts, Task, survey
from ft_tools.models import weights
from ft_tools.models.resolve import ModelSource, pinned, resolve_model
from ft_tools.models.targets import adaptable_arguments
from ft_tools.publish import require_space
from ft_tools.runs import devices, directory
from ft_tools.runs.hardware import Device, find_device
from ft_tools.runs.launchers.place import Place
from ft_tools.training import cautions, counts, defaults, estimates, placing
from ft_tools.training.checks import arguments, demands, installation, memory, preconditions
from ft_tools.training.checks import engine as engines
from ft_tools.training.checks.engine import Engine
from ft_tools.training.checks.learnable import packing_of
from ft_tools.training.counts import CountRequest, Counts
from ft_tools.training.estimates import Estimate
from ft_tools.training.request import DpoRequest, Method, SftRequest, TrainingRequest

# Above these a DPO run usually collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
DPO_RATE_WARNED = 2e-5
DPO_RATE_REFUSED = 1e-4


class ModelPlan(BaseModel):
    """Where the weights come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="As it was asked for.")
    load_from: str = Field(description="Folder or Hub id of the base weights.")
    adapter: str | None = Field(None, description="Adapter that training continues from.")
    base_model: str = Field(description="Model argument that names the base; kept as lineage.")
    num_params: int | None = Field(
        None, description="Parameters of the base model, read from its files' headers."
    )
    config_sha256: str = Field("", description="Hash of config.json; empty if not downloaded yet.")
    revision: str = Field("", description="Commit on the Hub that is trained; empty: local files.")
    template_sha256: str = Field("", description="Hash of the chat template; empty without one.")


class TrainingPlan(BaseModel):
    """The parts that SFT and DPO share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["sft", "dpo", "kto"]
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
    quantization: dict[str, Any] | None = Field(
        description="Of BitsAndBytesConfig, or of mlx.nn.quantize; null if none."
    )
    training: dict[str, Any] = Field(description="Of trl.SFTConfig or DPOConfig.")
    patience: int | None = Field(
        None, description="Evaluations without a better one until it stops; null: never early."
    )
    samples: int = Field(0, description="Held-out prompts answered at each evaluation.")
    place: Place = Field(default_factory=Place, description="Where it runs.")
    estimate: Estimate
    accepted: list[str] = Field(default_factory=list, description="Findings taken as they are.")
    accept_reason: str = Field("", description="Why, in the user's words.")
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


class SftPlan(TrainingPlan):
    """A supervised run."""

    task: Literal["sft"] = "sft"
    loss_on: LossOn = Field("answers", description="Which tokens the loss counts.")


Reference = Literal["adapter_off", "frozen_copy", "second_model"]


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
    source = source_of(request.model)
    dataset, validation = _files("sft", request)
    loss_on = _loss_on(request, dataset)
    parts = _plan_parts("sft", request, source, (dataset, validation), loss_on)
    return SftPlan(**parts, loss_on=loss_on)


def plan_dpo(request: DpoRequest) -> DpoPlan:
    """Resolve everything a preference run needs.

    Raises:
        FineTuningError: As `launch_dpo`.
    """
    source, parts = _preference_parts("dpo", request)
    return DpoPlan(**parts, reference=_reference(request, source))


def plan_kto(request: DpoRequest) -> KtoPlan:
    """Resolve everything that a run on marked answers needs.

    Raises:
        FineTuningError: As `launch_dpo`.
    """
    source, parts = _preference_parts("kto", request)
    return KtoPlan(**parts, reference=_reference(request, source))


def _reference(request: DpoRequest, source: ModelSource) -> Reference:
    if request.method == "full":
        return "second_model"
    return "frozen_copy" if source.adapter else "adapter_off"


def _preference_parts(task: Task, request: DpoRequest) -> tuple[ModelSource, dict[str, Any]]:
    source = source_of(_start_of(request))
    rate = request.training.get("learning_rate", 0.0)
    if rate > DPO_RATE_REFUSED and "dpo_learning_rate" not in request.accept_findings:
        observed = f"training.learning_rate={rate:g} is above {DPO_RATE_REFUSED:g}"
        raise rules.refusal("dpo_learning_rate", observed, "Use 5e-6 with an adapter.")
    parts = _plan_parts(task, request, source, _files(task, request), "answers")
    if rate > DPO_RATE_WARNED:
        parts["warnings"].append(
            f"learning_rate {rate:g} is high for DPO: above {DPO_RATE_WARNED:g} the rewards of "
            "chosen answers often fall; 5e-6 is usual"
        )
    if request.training.get("sync_ref_model"):
        parts["warnings"].append(
            "the reference that sync_ref_model moves is in no checkpoint: a resumed run "
            "starts from the first one again"
        )
    return source, parts


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
    preconditions.require_trainable(source, request)
    preconditions.require_held_out(request, dataset, validation)
    preconditions.require_template(source, task, dataset, request)
    device, place = placing.find_place(request, task)
    given = _resolved_paths(arguments.without_decided(request.training))
    training = _training(task, request, source, given, device, validated=validation is not None)
    shared = placing.share_batch(training, place.num_processes)
    peft = None
    if request.method != "full" and not source.adapter:
        peft = defaults.lora_arguments(arguments.without_decided(request.peft))
        peft = adaptable_arguments(source.load_from, peft)
    preconditions.require_arguments(task, request.method, peft or {}, training)
    engine, about_engine = engines.choose(request, source, peft or {}, training)
    if engine == "mlx":
        device = find_device("cpu").model_copy(update={"precision": "float32"})
        if "gradient_checkpointing" not in given and engines.is_apple_silicon():
            training["gradient_checkpointing"] = True
    demands.require_packages(request, training)
    is_here = request.backend == "local"
    installation.require_attention(device, training, is_here=is_here)
    preconditions.require_number_format(request.method, device, training)
    absent = demands.require_layers(Path(source.path), peft or {}) if source.path else []
    if task != "sft":
        preconditions.require_reference(source, peft or {})
    if task == "kto":
        preconditions.require_marks(training, dataset)
        good = dataset.num_good or 0
        balanced, why = defaults.mark_weights(given, good, dataset.num_examples - good)
        training |= balanced
        shared += [why] if why else []
    audit_warnings = preconditions.require_audited(request, task, dataset, validation)
    counted, why_not = counts.count(_count_request(task, source, training, files, loss_on))
    num_rows = counted.num_rows if counted else dataset.num_examples
    steps = defaults.total_steps(training, num_rows, place.num_processes)
    epochs = steps / defaults.steps_an_epoch(training, num_rows, place.num_processes)
    evaluates = training["eval_strategy"] == "steps"
    training |= defaults.step_arguments(given, steps, evaluates=evaluates)
    preconditions.require_steps(training)
    declared = training["num_train_epochs"] if training.get("max_steps", -1) <= 0 else epochs
    preconditions.require_watched(request, declared, evaluates=training["eval_strategy"] != "no")
    model = _model_plan(source, training.get("chat_template_path"))
    dtype = _weights_dtype(request.method, device, training, engine)
    used_gib = devices.used_by_others_gib(device) if is_here else 0.0
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
        used_gib,
    )
    parts = {
        "model": model,
        "dataset": dataset,
        "validation": validation,
        "counts": counted,
        "method": request.method,
        "engine": engine,
        "device": device,
        "place": place,
        "weights_dtype": dtype,
        "peft": peft,
        "quantization": _quantization(request.method, engine),
        "training": training,
        "patience": defaults.patience(training),
        "samples": request.samples if validation is not None else 0,
        "accepted": sorted(set(request.accept_findings)),
        "accept_reason": request.accept_reason,
        "missing": installation.missing(device) if is_here else [],
        "warnings": [
            *cautions.about_hardware(device, place),
            *memory.about_unchecked(device, vram),
            *cautions.about_run(source, training, validation, steps),
            *cautions.about_unread(dataset),
            *cautions.about_form(source, dataset, training.get("chat_template_path")),
            *shared,
            *about_engine,
            *cautions.about_tokens(dataset, counted, why_not, training.get("max_length")),
            *cautions.about_decided(request, device),
            *absent,
            *audit_warnings,
        ],
    }
    tokens = int((counted.data.num_tokens if counted else dataset.estimated_tokens) * epochs)
    estimate = _estimate(task, request, parts, steps, tokens)
    in_use = {"vram": vram, "used_by_others_gib": used_gib}
    return parts | {"estimate": estimate.model_copy(update=in_use)}


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


def source_of(model: str) -> ModelSource:
    """Find a model, at the commit that the Hub has now if its weights are not on this machine.

    Where the Hub cannot be asked the plan goes without a commit.

    Raises:
        FineTuningError: As `resolve_model` and `hub.describe`.
    """
    source = resolve_model(model)
    try:
        return pinned(source)
    except HubUnavailable:
        return source


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
        revision=source.revision or "",
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


def _quantization(method: Method, engine: Engine) -> dict[str, Any] | None:
    if method != "qlora":
        return None
    return dict(engines.QUANTIZATION if engine == "mlx" else defaults.QUANTIZATION)


def _weights_dtype(method: str, device: Device, training: dict[str, Any], engine: Engine) -> str:
    """Name the numbers of the weights.

    Full training needs float32: small updates vanish in bfloat16's 8 bits. On a CPU memory is
    plentiful, and only products are taken in bfloat16.
    """
    asked = (training.get("model_init_kwargs") or {}).get("dtype")
    if asked is not None:
        return str(asked)
    if engine == "mlx" and engines.is_apple_silicon():
        return "bfloat16"
    return "float32" if method == "full" or device.name == "cpu" else device.precision


def _estimate(
    task: Task,
    request: TrainingRequest,
    parts: dict[str, Any],
    steps: int,
    tokens: int,
) -> Estimate:
    model: ModelPlan = parts["model"]
    adapter = parts["peft"] or {"r": defaults.LORA["r"]}
    trained = estimates.trained_params(model.num_params, request.method, adapter)
    place: Place = parts["place"]
    disk = estimates.disk_bytes(trained, place.sharding)
    require_space(workspace.runs_dir(), disk, "the run")
    is_mlx_4bit = parts["engine"] == "mlx" and parts["quantization"]
    held_as = "mlx 4-bit" if is_mlx_4bit else parts["weights_dtype"]
    memory.require_ram(model.num_params, trained, parts["device"], held_as, parts["accepted"])
    work = estimates.Work(
        task,
        request.method,
        model.num_params,
        model.config_sha256,
        parts["device"],
        place.num_processes,
    )
    return Estimate(
        steps=steps,
        tokens=tokens,
        duration=estimates.duration(work, tokens, request.price_per_hour),
        disk_bytes=disk,
    )
