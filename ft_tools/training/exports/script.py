"""The same plan for other trainers: a script with TRL alone, and a file for Axolotl."""

import importlib.metadata
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ft_tools.models.model_folder import tokenizer_folder
from ft_tools.publish import write_file
from ft_tools.training.defaults import learnt_loss
from ft_tools.training.exports import axolotl
from ft_tools.training.exports.portable import Moved
from ft_tools.training.plan import SftPlan, TrainingPlan

FOLDER = "exports"
GATED = """
The model is downloaded from the Hub; if its page asks for it (Gemma, Llama), accept its licence
there and run `hf auth login` first."""
TRAINED = "trl-output/final"
"""What train.py writes, in its folder."""
TEMPLATE = "trl_script.txt"
ENGINE = "deepspeed.json"
NOT_TRAINING = {
    "report_to", "completion_only_loss", "assistant_only_loss", "model_init_kwargs",
    "gradient_checkpointing", "chat_template_path",
}  # fmt: skip
"""Arguments that the script states elsewhere."""


def write_exports(folder: Path, plan: TrainingPlan, moved: Moved | None = None) -> list[Path]:
    """Write the plan for other trainers into a folder that exists.

    Args:
        folder: Where to.
        plan: The plan.
        moved: Paths of this machine that have a name in the folder, which is taken elsewhere.

    Returns:
        The files written; none for Axolotl where it cannot express the plan, or would not fit.
    """
    moved = moved or Moved()
    texts = {"train.py": script(plan, moved)}
    if plan.place.sharding in {"zero2", "zero3"}:
        texts[ENGINE] = json.dumps(plan.place.engine, indent=1)
    if axolotl.can_express(plan):
        texts[axolotl.FILE] = axolotl.text(plan, moved, ENGINE)
    for name, text in texts.items():
        write_file(folder / name, text)
    return [folder / name for name in texts]


def script(plan: TrainingPlan, moved: Moved | None = None) -> str:
    """Return a Python script with TRL alone that trains the same plan."""
    revision = {"revision": plan.model.revision} if plan.model.revision else {}
    values = {
        "MODEL": plan.model.load_from,
        "ADAPTER": plan.model.adapter,
        "TOKENIZER": tokenizer_folder(plan.model.adapter, plan.model.load_from),
        "DATASET": plan.dataset.path,
        "VALIDATION": plan.validation.path if plan.validation else None,
        "DTYPE": plan.weights_dtype,
        "INIT": axolotl.loading_arguments(plan) | revision,
        "PEFT": plan.peft,
        "QUANTIZATION": plan.quantization,
        "COMPUTE_DTYPE": plan.device.precision,
        "TRAINING": _training(plan),
        "MARKS": plan.task == "kto",
        "PATIENCE": plan.patience,
        "LEARNT_LOSS": learnt_loss(plan.task, plan.answer_tokens),
        "TEMPLATE": plan.training.get("chat_template_path"),
    }
    values = (moved or Moved()).in_folder(values)
    constants = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    template = files("ft_tools.training.exports").joinpath(TEMPLATE).read_text(encoding="utf-8")
    gated = "" if Path(plan.model.load_from).is_dir() else GATED
    template = template.replace("KIND", plan.task.upper())
    template = template.replace("REQUIREMENTSGATED", _requirements(plan) + gated)
    return template.replace("# CONSTANTS\n", constants)


def _requirements(plan: TrainingPlan) -> str:
    """Return what the script imports, in the versions that this package trains with."""
    names = ["transformers", "trl", "peft", "datasets"]
    names += ["bitsandbytes"] if plan.quantization is not None else []
    names += plan.model.packages
    ranges: dict[str, str] = {}
    for line in importlib.metadata.requires("fine-tuning-llm") or []:
        needed = Requirement(line)
        ranges.setdefault(needed.name, f"{needed.name}{needed.specifier}")
    return " ".join(f"'{ranges.get(name, name)}'" for name in names)


def _training(plan: TrainingPlan) -> dict[str, Any]:
    training, precision = plan.training, plan.device.precision
    on_cpu = plan.device.name == "cpu"
    arguments: dict[str, Any] = {
        # Evaluated in the planned size, as the run does; the library's own is 8.
        "per_device_eval_batch_size": training["per_device_train_batch_size"],
        **{name: value for name, value in training.items() if name not in NOT_TRAINING},
        "bf16": precision == "bfloat16",
        "fp16": precision == "float16",
        "gradient_checkpointing": None,
        "activation_checkpointing": bool(training.get("gradient_checkpointing")),
        "output_dir": "trl-output",
        "load_best_model_at_end": plan.patience is not None,
        "save_strategy": "epoch" if training["eval_strategy"] == "epoch" else "steps",
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
    }
    if isinstance(plan, SftPlan) and plan.loss_on == "everything":
        arguments["completion_only_loss"] = False
    if plan.place.sharding == "fsdp":
        arguments |= {"fsdp": True, "fsdp_config": plan.place.engine}
    elif plan.place.engine:
        arguments["deepspeed"] = ENGINE
    return arguments
