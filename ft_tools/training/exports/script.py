"""A plan as a script with TRL alone, which runs anywhere."""

import contextlib
import importlib.metadata
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ft_tools.errors import FineTuningError
from ft_tools.models.model_folder import tokenizer_folder
from ft_tools.models.packing import FLASH
from ft_tools.models.quantized import DEQUANTIZED, prequantized
from ft_tools.models.shape_of_model import config_of
from ft_tools.training.training_plan import SftPlan, TrainingPlan

GATED = """
The model is downloaded from the Hub; if its page asks for it (Gemma, Llama), accept its licence
there and run `hf auth login` first."""
TRAINED = "trl-output/final"
"""What train.py writes, in its folder."""
TEMPLATE = "trl_script.txt"
NOT_TRAINING = {
    "report_to", "completion_only_loss", "assistant_only_loss", "model_init_kwargs",
    "gradient_checkpointing", "chat_template_path",
}  # fmt: skip
"""Arguments that the script, and the run, state elsewhere."""


def script(plan: TrainingPlan, names: Mapping[str, str] | None = None) -> str:
    """Return a Python script with TRL alone that trains the same plan."""
    revision = {"revision": plan.model.revision} if plan.model.revision else {}
    training = trainer_arguments(plan)
    if isinstance(plan, SftPlan) and plan.loss_on == "everything":
        training["completion_only_loss"] = False
    if plan.task != "sft" and plan.method == "full":
        # TRL loads the reference by the model's name.
        training["model_init_kwargs"] = {"use_kernels": False} | revision
    values = {
        "MODEL": plan.model.load_from,
        "ADAPTER": plan.model.adapter,
        "TOKENIZER": tokenizer_folder(plan.model.adapter, plan.model.load_from),
        "DATASET": plan.dataset.path,
        "VALIDATION": plan.validation.path if plan.validation else None,
        "DTYPE": plan.weights_dtype,
        "INIT": {"use_kernels": False} | loading_arguments(plan) | revision,
        "PEFT": plan.peft,
        "QUANTIZATION": plan.quantization,
        "DEQUANTIZED": _dequantized_by(plan),
        "COMPUTE_DTYPE": plan.device.precision,
        "TRAINING": training | {"output_dir": "trl-output"},
        "MARKS": plan.task == "kto",
        "PATIENCE": plan.patience,
        "TEMPLATE": plan.training.get("chat_template_path"),
    }
    values = renamed(values, names or {})
    constants = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    template = files("ft_tools.training.exports").joinpath(TEMPLATE).read_text(encoding="utf-8")
    gated = "" if Path(plan.model.load_from).is_dir() else GATED
    template = template.replace("KIND", plan.task.upper()).replace("COMMAND", _command(plan))
    template = template.replace("REQUIREMENTSGATED", _requirements(plan) + gated)
    return template.replace("# CONSTANTS\n", constants)


def loading_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return how the model is loaded, its number format aside."""
    given = plan.training.get("model_init_kwargs") or {}
    return {name: value for name, value in given.items() if name != "dtype"}


def _dequantized_by(plan: TrainingPlan) -> str | None:
    """Return the class of transformers that loads a packed base in 16 bits; None: it is plain."""
    with contextlib.suppress(FineTuningError):
        return DEQUANTIZED.get(prequantized(config_of(plan.model.load_from)))
    return None


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a value, or one made of others, with the names that paths have in a folder."""
    if isinstance(value, dict):
        return {key: renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def _command(plan: TrainingPlan) -> str:
    """Return how the script is started; one process must not see two cards, which TRL refuses."""
    place = plan.place
    if place.num_processes == 1:
        return (
            "python train.py"
            if plan.device.name == "cpu"
            else ("CUDA_VISIBLE_DEVICES=0 python train.py")
        )
    several = f" --nnodes {place.nodes} --rdzv-backend c10d --rdzv-endpoint HOST:29500"
    machines = several if place.nodes > 1 else ""
    return f"torchrun --nproc-per-node {place.processes}{machines} train.py"


def _requirements(plan: TrainingPlan) -> str:
    """Return what the script imports, in the versions that this package trains with."""
    names = ["transformers", "trl", "peft", "datasets"]
    names += ["bitsandbytes"] if plan.quantization is not None else []
    kernel = loading_arguments(plan).get("attn_implementation", "")
    names += ["kernels"] if "/" in kernel else ["flash-attn"] if kernel == FLASH else []
    ranges: dict[str, str] = {}
    for line in importlib.metadata.requires("fine-tuning-llm") or []:
        needed = Requirement(line)
        ranges.setdefault(needed.name, f"{needed.name}{needed.specifier}")
    return " ".join(f"'{ranges.get(name, name)}'" for name in names)


def trainer_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return the arguments of the trainer's configuration, as a run and a script give them."""
    training, precision = plan.training, plan.device.precision
    on_cpu = plan.device.name == "cpu"
    arguments: dict[str, Any] = {
        # Evaluated in the planned size; the library's own is 8.
        "per_device_eval_batch_size": training["per_device_train_batch_size"],
        **{name: value for name, value in training.items() if name not in NOT_TRAINING},
        "bf16": precision == "bfloat16",
        "fp16": precision == "float16",
        # transformers 5.24 has a new name for it and warns about the old one, TRL's default too.
        "gradient_checkpointing": None,
        "activation_checkpointing": bool(training.get("gradient_checkpointing")),
        "load_best_model_at_end": plan.patience is not None,
        "save_strategy": "epoch" if training["eval_strategy"] == "epoch" else "steps",
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
    }
    if plan.place.sharding == "fsdp":
        arguments |= {"fsdp": True, "fsdp_config": plan.place.engine}
        # Else each GPU holds whole gradients between micro-batches, and torch 2.13 cannot add them
        # up in float32. Source: transformers 5.24, trainer.py, _run_epoch: no_sync.
        synced = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
        arguments["accelerator_config"] = synced
    return arguments
