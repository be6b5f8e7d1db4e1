"""Where a run executes and with which arguments: what of a plan its steps do not change."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ft_tools import facts, workspace
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
    FLASH,
    FLASH_CAPABILITY,
    flash_packages,
    may_be_packed,
    takes_flash,
)
from ft_tools.models.quantized import nf4
from ft_tools.models.resolve import ModelSource
from ft_tools.models.shape_of_model import shape_of_config
from ft_tools.runs.hardware.devices import Device, find_device
from ft_tools.runs.kinds import KINDS
from ft_tools.runs.launchers.attend import shown_job
from ft_tools.runs.launchers.launcher import Launcher, LocalOptions, Options
from ft_tools.runs.launchers.table import Place, parse, place_of, require_programs
from ft_tools.runs.processes.answers import AnswerFile
from ft_tools.training import defaults
from ft_tools.training.arguments import without_decided
from ft_tools.training.checks import base_model, data_quality, memory
from ft_tools.training.checks import engine as engines
from ft_tools.training.defaults import Basis
from ft_tools.training.findings import refusal, warning
from ft_tools.training.model_plan import config_if_known
from ft_tools.training.request import TrainingRequest

REMOTE_CPU = "unknown cores"
KERNEL = "kernels-community/flash-attn2"
# Source: transformers 5.24, modeling_flash_attention_utils.py, FLASH_ATTN_KERNEL_VERSIONS.
KERNEL_BRANCH = "v4"
HUB_SECONDS = 5.0


def settle(
    task: Task,
    request: TrainingRequest,
    given: dict[str, Any],
    source: ModelSource,
    dataset: DatasetFacts,
    data: DataShape,
) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a plan that do not depend on its steps, and warnings.

    `given` is what `resolved_arguments` returns; open arguments are chosen for the shape of `data`.
    """
    notes: list[str] = []
    config = config_if_known(source)
    device, place = find_place(request, task)
    if device.precision == "float16" and has_trait(config, "overflows_float16"):
        device = device.model_copy(update={"precision": "float32"})
        notes.append(warning("overflows_float16", device=device.model))
        given = _without_16_bits(given)
    basis = _basis(task, request, source, config, data)
    may_pack = basis.may_pack and _takes_flash_there(request, device, given)
    if may_pack and "model_init_kwargs" not in given:
        may_pack = bool(flash_attention())
        notes += [] if may_pack else [warning("kernel_unknown", kernel=KERNEL)]
    basis = replace(basis, may_pack=may_pack, num_processes=place.num_processes)
    training = defaults.training_arguments(basis, given, device)
    if training["eval_strategy"] != "no" and not data.is_watched:
        raise refusal("evaluates_nothing", strategy=training["eval_strategy"])
    kernel = ""
    if training.get("packing") and not {"packing", "model_init_kwargs"} & set(given):
        # Packs with a kernel that needs no mask.
        kernel = flash_attention()
        training["model_init_kwargs"] = {"attn_implementation": kernel}
        notes.append(warning("flash_attention", kernel=kernel))
    share_batch(training, place.num_processes)
    peft = None
    if request.method != "full" and not source.adapter:
        chosen = defaults.lora_arguments(without_decided(request.peft), basis)
        peft = adaptable_arguments(source.load_from, chosen)
        init_weights.require_start(peft.get("init_lora_weights"), request.method)
    engine, about = engines.choose(request, source, peft or {}, training)
    if engine == "mlx":
        # It has its own device, and recomputes activations on a Mac.
        device = find_device("cpu").model_copy(update={"precision": "float32"})
        defaults_there = {"gradient_checkpointing": True} if is_apple_silicon() else {}
        training.update({k: v for k, v in defaults_there.items() if k not in given})
    notes += [*about, *base_model.require_layers(source, peft or {})]
    if task in {"dpo", "kto"}:
        base_model.require_reference(source, peft or {})
    if task == "kto":
        notes += data_quality.balance_marks(given, training, dataset)
    of_family = nf4(str(config.get("model_type")))
    quantization = dict(engines.QUANTIZATION if engine == "mlx" else of_family)
    found = {
        "device": device,
        "place": place,
        "training": training,
        "peft": peft,
        "engine": engine,
        "attention": kernel,
        "weights_dtype": _weights_dtype(request, training, engine, device),
        "quantization": quantization if request.method == "qlora" else None,
        "chosen_for": basis.described,
        "patience": defaults.patience(training),
    }
    return found, notes


def _weights_dtype(
    request: TrainingRequest, training: Mapping[str, Any], engine: str, device: Device
) -> str:
    """Name the numbers of the weights.

    Full training needs float32: small updates vanish in bfloat16's 8 bits. On a CPU memory is
    plentiful, and only products are taken in bfloat16.
    """
    asked = (training.get("model_init_kwargs") or {}).get("dtype")
    if asked is not None:
        return str(asked)
    if engine == "mlx" and is_apple_silicon():
        return "bfloat16"
    is_exact = request.method == "full" or device.name == "cpu"
    return "float32" if is_exact else device.precision


def _without_16_bits(given: dict[str, Any]) -> dict[str, Any]:
    """Leave out a 16-bit dtype of the weights: they would be computed with as they are."""
    loaded = dict(given.get("model_init_kwargs") or {})
    if loaded.get("dtype") in {None, "float32"}:
        return given
    del loaded["dtype"]
    rest = {name: value for name, value in given.items() if name != "model_init_kwargs"}
    return rest | ({"model_init_kwargs": loaded} if loaded else {})


def _takes_flash_there(request: TrainingRequest, device: Device, given: Mapping[str, Any]) -> bool:
    """Return whether packed rows may be attended to without a mask of all their positions."""
    if "model_init_kwargs" in given:
        return memory.attention_of(given) == "flash"
    is_able = device.precision != "float32" and (device.capability or 0.0) >= FLASH_CAPABILITY
    return request.is_here and is_able and bool(flash_packages())


def _basis(
    task: Task,
    request: TrainingRequest,
    source: ModelSource,
    config: dict[str, Any],
    data: DataShape,
) -> Basis:
    """Return what the open arguments are chosen for."""
    folder, shape = Path(source.path) if source.path else None, None
    with contextlib.suppress(FineTuningError):
        # Where a formula gives it; others take a process to find out.
        shape = shape_of_config(config, source.name) if has_row(config) else None
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


def resolved_arguments(request: TrainingRequest) -> dict[str, Any]:
    """Return the caller's trainer arguments, with paths resolved."""
    training = without_decided(request.training)
    template = training.get("chat_template_path")
    if template is None:
        return training
    path = workspace.existing(template)
    if path.suffix not in {".jinja", ".j2"}:
        raise refusal("not_a_template_file", path=template)
    return {**training, "chat_template_path": str(path)}


def find_place(request: TrainingRequest, task: Task) -> tuple[Device, Place]:
    """Return the device of each process, and the place with what would be submitted."""
    options = parse(request.backend, request.backend_options)
    require_programs(request.backend, options)
    if options.sharding == "fsdp" and request.method == "qlora":
        raise refusal("sharded_4_bit", sharding=options.sharding)
    if options.sharding == "fsdp" and request.training.get("precompute_ref_log_probs"):
        raise refusal("sharded_reference", sharding=options.sharding)
    place = place_of(request.backend, options)
    if isinstance(options, LocalOptions) and not place.exported_for:
        device = find_device(options.device, options.processes)
        if device.name == "cpu" and options.sharding != "ddp":
            raise refusal("sharding_needs_gpus", sharding=options.sharding)
    else:
        device = _device_there(options)
    if isinstance(options, Launcher):
        job = shown_job(task, KINDS[task].worker, options)
        submitted = {"files": options.files(job), "commands": [options.submit(job)]}
        place = place.model_copy(update=submitted)
    asked = {"bfloat16": "bf16", "float16": "fp16"}.get(device.precision, "")
    if request.training.get(asked) is False:
        device = device.model_copy(update={"precision": "float32"})
    return device, place


def _device_there(options: Options) -> Device:
    """Return the device of another machine, from its name; it cannot be looked at from here."""
    if not options.gpu:
        return Device(name="cpu", model=REMOTE_CPU, memory_gib=0.0, precision="float32")
    card = facts.gpu(options.gpu)
    precision: Any = "bfloat16" if card.has_bf16 else "float16"
    memory_gib = card.usable_gib or card.memory_gib
    return Device(name="cuda", model=options.gpu, memory_gib=memory_gib, precision=precision)


def share_batch(training: dict[str, Any], num_processes: int) -> None:
    """Divide a step's examples among the processes, in place, so that a step stays the same step.

    Micro-batch times accumulation of a request is what one step sees, however many processes share
    the work: each takes its part of the micro-batches.

    >>> four = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    >>> share_batch(four, 8)
    >>> four
    {'per_device_train_batch_size': 2, 'gradient_accumulation_steps': 1}
    """
    if num_processes == 1:
        return
    micro, steps = (training[name] for name in defaults.BATCH)
    if micro * steps % num_processes:
        raise refusal("batch_not_divisible", effective=micro * steps, processes=num_processes)
    each = micro * steps // num_processes
    micro = max(size for size in range(1, min(micro, each) + 1) if each % size == 0)
    training.update(zip(defaults.BATCH, (micro, each // micro), strict=True))


def flash_attention() -> str:
    """Return flash attention as transformers names it; empty where there is none.

    The installed package, or a kernel of the Hub at its commit: a binary, so the hash covers it.
    """
    found = flash_packages()
    if found[:1] == ["flash_attn"]:
        return FLASH
    with contextlib.suppress(LookupError):
        return f"{KERNEL}@{_kernel_commit()}" if found else ""
    return ""


@cache
def _kernel_commit() -> str:
    """Return the commit that transformers would take, or the one of the last plan if it is here."""
    import huggingface_hub
    from huggingface_hub import constants

    kept = AnswerFile("flash_kernel", TypeAdapter(str), [KERNEL, KERNEL_BRANCH])
    # Kernels are repositories of a type of their own.
    folder = Path(constants.HF_HUB_CACHE) / f"kernels--{KERNEL.replace('/', '--')}"
    with contextlib.suppress(Exception):
        about = huggingface_hub.HfApi().kernel_info(
            KERNEL, revision=KERNEL_BRANCH, timeout=HUB_SECONDS
        )
        if about.sha:
            kept.write(about.sha)
            return about.sha
    # What is fetched by its commit leaves no name of its branch in the Hub's cache.
    known = kept.read()
    if known and (folder / "snapshots" / known).is_dir():
        return known
    with contextlib.suppress(OSError):
        return (folder / "refs" / KERNEL_BRANCH).read_text().strip()
    raise LookupError(KERNEL_BRANCH)
