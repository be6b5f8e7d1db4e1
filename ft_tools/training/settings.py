"""The arguments of a run as they are resolved: device, adapter, trainer, engine."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.errors import FineTuningError
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.trl_formats import Task
from ft_tools.lora import init_weights
from ft_tools.lora.data_shape import DataShape
from ft_tools.models import model_folder
from ft_tools.models.adapter_targets import adaptable_arguments
from ft_tools.models.config import has_row
from ft_tools.models.families import has_trait
from ft_tools.models.mlx import is_apple_silicon
from ft_tools.models.packing import (
    FLASH_CAPABILITY,
    may_be_packed,
    takes_flash,
)
from ft_tools.models.quantized import NF4, nf4
from ft_tools.models.resolve import ModelSource
from ft_tools.models.shape import ModelShape
from ft_tools.models.shape_of_model import config_of, shape_of_config
from ft_tools.runs.hardware.devices import Device, find_device
from ft_tools.runs.launchers.table import Place
from ft_tools.training import defaults, flash_kernel, preference_runs, run_place
from ft_tools.training.arguments import without_decided
from ft_tools.training.checks import base_model, memory
from ft_tools.training.checks import engine as engines
from ft_tools.training.checks.engine import Engine
from ft_tools.training.defaults import Basis
from ft_tools.training.findings import refusal, warning
from ft_tools.training.request import Method, TrainingRequest


@dataclass
class Settings:
    """What a run is trained with; the plan keeps these."""

    given: dict[str, Any]
    """The caller's trainer arguments, with paths resolved."""
    device: Device
    place: Place
    training: dict[str, Any]
    peft: dict[str, Any] | None = None
    engine: Engine = "torch"
    attention: str = ""
    """The kernel that was chosen for it."""
    notes: list[str] = field(default_factory=list)
    """What was changed, and what is missing in the model, in words."""

    def weights_dtype(self, method: Method) -> str:
        """Name the numbers of the weights.

        Full training needs float32: small updates vanish in bfloat16's 8 bits. On a CPU memory is
        plentiful, and only products are taken in bfloat16.
        """
        asked = (self.training.get("model_init_kwargs") or {}).get("dtype")
        if asked is not None:
            return str(asked)
        if self.engine == "mlx" and is_apple_silicon():
            return "bfloat16"
        is_exact = method == "full" or self.device.name == "cpu"
        return "float32" if is_exact else self.device.precision

    def quantization(self, method: Method, source: ModelSource) -> dict[str, Any] | None:
        """Return how the base is quantized; None if it is not."""
        if method != "qlora":
            return None
        if self.engine == "mlx":
            return dict(engines.QUANTIZATION)
        with contextlib.suppress(FineTuningError):
            return nf4(str(config_of(source.load_from).get("model_type")))
        return dict(NF4)


def settle(
    request: TrainingRequest, source: ModelSource, dataset: DatasetFacts, basis: Basis
) -> Settings:
    """Resolve the arguments that do not depend on the number of steps.

    Args:
        request: What was asked.
        source: The model.
        dataset: What is trained on.
        basis: What open arguments are chosen for.

    Raises:
        FineTuningError: An argument, package or layer cannot be used.
    """
    task = basis.task
    device, place = run_place.find_place(request, task)
    notes: list[str] = []
    if device.precision == "float16" and _overflows(source):
        device = device.model_copy(update={"precision": "float32"})
        notes.append(warning("overflows_float16", device=device.model))
    given = resolved_arguments(request)
    if notes:
        given = _without_16_bits(given)
    validated = basis.data.is_watched
    may_pack = basis.may_pack and _may_use_flash(request, device, given)
    here = replace(basis, may_pack=may_pack, num_processes=place.num_processes)
    training = defaults.training_arguments(here, given, device, validated=validated)
    if training["eval_strategy"] != "no" and not validated:
        raise refusal("evaluates_nothing", strategy=training["eval_strategy"])
    if "optim" not in given and device.name == "cuda":
        training["optim"] = "adamw_torch_fused"
    settings = Settings(given, device, place, training, notes=notes)
    if training.get("packing") and not {"packing", "model_init_kwargs"} & set(given):
        # Packs with a kernel that needs no mask.
        kernel = settings.attention = flash_kernel.implementation()
        training["model_init_kwargs"] = {"attn_implementation": kernel}
        settings.notes.append(warning("flash_attention", kernel=kernel))
    run_place.share_batch(training, place.num_processes)
    if request.method != "full" and not source.adapter:
        peft = defaults.lora_arguments(without_decided(request.peft), basis)
        settings.peft = adaptable_arguments(source.load_from, peft)
        init_weights.require_start(settings.peft.get("init_lora_weights"), request.method)
    _choose_engine(settings, request, source)
    if source.path:
        settings.notes += base_model.require_layers(Path(source.path), settings.peft or {})
    if task in {"dpo", "kto"}:
        base_model.require_reference(source, settings.peft or {})
    if task == "kto":
        settings.notes += preference_runs.balance_marks(given, training, dataset)
    return settings


def _without_16_bits(given: dict[str, Any]) -> dict[str, Any]:
    """Leave out a 16-bit dtype of the weights: they would be computed with as they are."""
    loaded = dict(given.get("model_init_kwargs") or {})
    if loaded.get("dtype") in {None, "float32"}:
        return given
    del loaded["dtype"]
    rest = {name: value for name, value in given.items() if name != "model_init_kwargs"}
    return rest | ({"model_init_kwargs": loaded} if loaded else {})


def _overflows(source: ModelSource) -> bool:
    with contextlib.suppress(FineTuningError):
        return has_trait(config_of(source.load_from), "overflows_float16")
    return False


def _may_use_flash(request: TrainingRequest, device: Device, given: Mapping[str, Any]) -> bool:
    """Return whether packed rows are attended to without a mask of all their positions."""
    named = memory.attention_of(given)
    if "model_init_kwargs" in given:
        return named == "flash"
    is_able = device.precision != "float32" and (device.capability or 0.0) >= FLASH_CAPABILITY
    return request.is_here and is_able and bool(flash_kernel.implementation())


def _choose_engine(settings: Settings, request: TrainingRequest, source: ModelSource) -> None:
    """Choose what computes; MLX has its own device, and checkpoints activations on a Mac."""
    training = settings.training
    settings.engine, about = engines.choose(request, source, settings.peft or {}, training)
    settings.notes += about
    if settings.engine != "mlx":
        return
    settings.device = find_device("cpu").model_copy(update={"precision": "float32"})
    if "gradient_checkpointing" not in settings.given and is_apple_silicon():
        training["gradient_checkpointing"] = True


def basis_of(task: Task, request: TrainingRequest, source: ModelSource, data: DataShape) -> Basis:
    """Return what the open arguments are chosen for."""
    folder = Path(source.path) if source.path else None
    shape = _known_shape(source)
    hidden_size = shape.hidden_size if shape else None
    if shape is None and folder is not None:
        hidden_size = model_folder.hidden_size(folder)
    return Basis(
        task,
        request.method,
        data,
        hidden_size=hidden_size,
        max_positions=model_folder.max_positions(folder) if folder else None,
        capacity=shape.lora_params if shape else None,
        may_pack=shape is not None and may_be_packed(shape) and takes_flash(shape),
    )


def _known_shape(source: ModelSource) -> ModelShape | None:
    """Return the model's shape where a formula gives it; others take a process to find out."""
    try:
        config = config_of(source.load_from)
        return shape_of_config(config, source.name) if has_row(config) else None
    except FineTuningError:
        return None


def resolved_arguments(request: TrainingRequest) -> dict[str, Any]:
    """Return the caller's trainer arguments, with paths resolved.

    Raises:
        BadInput: A template is no .jinja file.
    """
    training = without_decided(request.training)
    template = training.get("chat_template_path")
    if template is None:
        return training
    path = workspace.existing(template)
    if path.suffix not in {".jinja", ".j2"}:
        raise refusal("not_a_template_file", path=template)
    return {**training, "chat_template_path": str(path)}
