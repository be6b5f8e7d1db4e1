"""The same plan for other trainers: a script, TRL's command line, Axolotl.

YAML is written a key a line with JSON values, which every YAML parser reads.
"""

import importlib.metadata
import json
from collections.abc import Collection, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ft_tools.models.adapter_targets import named_targets
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
# Said by other keys, or by each file in its own way.
ELSEWHERE = {"report_to", "completion_only_loss", "assistant_only_loss", "model_init_kwargs"}
WHOLE = {"llm_int8_skip_modules"}
"""Of BitsAndBytesConfig: layers that stay as they are, for which no other tool's file has a key."""
PEFT_SAID = {"r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters",
             "modules_to_save", "use_rslora", "use_dora"}  # fmt: skip


def write_exports(folder: Path, plan: TrainingPlan, moved: Moved | None = None) -> list[Path]:
    """Write the plan for other trainers into a folder that exists.

    Args:
        folder: Where to.
        plan: The plan.
        moved: Paths of this machine that have a name in the folder, which is taken elsewhere.

    Returns:
        The files written; none for Axolotl where it cannot express the plan.
    """
    moved = moved or Moved()
    trl = moved.in_folder(trl_arguments(plan))
    texts = {
        "train.py": script(plan, moved),
        "trl.yaml": yaml(trl, _trl_heading(plan, moved), _left_out(plan, plan.training)),
    }
    if plan.place.sharding in {"zero2", "zero3"}:
        texts[ENGINE] = json.dumps(plan.place.engine, indent=1)
    if axolotl.can_express(plan):
        heading, left_out = f"axolotl train {axolotl.FILE}", _left_out(plan, axolotl.SAID)
        said = moved.in_folder(axolotl.arguments(plan, ENGINE))
        texts[axolotl.FILE] = yaml(said, heading, left_out)
    for name, text in texts.items():
        write_file(folder / name, text)
    return [folder / name for name in texts]


def _left_out(plan: TrainingPlan, said: Collection[str]) -> list[str]:
    """Return the plan's arguments that a file has no key for."""
    others = said is not plan.training and plan.training.get("loss_type") == "dft"
    said_by = said
    # Their word for a loss is one of preferences.
    said = {*said} - ({"loss_type"} if others else set())
    training = {*plan.training, *_init(plan)} - said - ELSEWHERE
    peft = {name for name, value in (plan.peft or {}).items() if value not in (None, False, "none")}
    if plan.peft and named_targets(plan.model.load_from, plan.peft) != plan.peft["target_modules"]:
        # Said by the names that remain.
        peft.discard("exclude_modules")
    words = training | (peft - PEFT_SAID) | ({*(plan.quantization or ())} & WHOLE)
    return [*sorted(words), *_unsaid_stops(plan, has_patience=said_by is axolotl.SAID)]


def _unsaid_stops(plan: TrainingPlan, *, has_patience: bool) -> list[str]:
    """Return what would end the run early, as far as a file has no key for it."""
    if plan.patience is None:
        return []
    learnt = learnt_loss(plan.task, plan.answer_tokens)
    found = (
        [] if has_patience else [f"the stop after {plan.patience} evaluations that are no better"]
    )
    return found + ([] if learnt is None else [f"the stop at a validation loss of {learnt:g}"])


def yaml(values: Mapping[str, Any], heading: str, left_out: Collection[str] = ()) -> str:
    """Return a flat mapping as YAML; keys without a value are left out."""
    lines = [f"# Run: {heading}"]
    if left_out:
        lines.append(f"# In the plan and not in this file: {', '.join(left_out)}")
    lines += [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def trl_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return the keys of `trl sft --config` or `trl dpo --config`.

    Its data come from one split, so the validation file is left out.
    """
    data = {"path": "json", "data_files": {"train": plan.dataset.path}, "split": "train"}
    arguments: dict[str, Any] = {
        "model_name_or_path": plan.model.load_from,
        "model_revision": plan.model.revision or None,
        "dtype": plan.weights_dtype,
        "datasets": [data],
        "output_dir": "trl-output",
        **_training(plan),
        "eval_strategy": "no",
        "eval_steps": None,
        "use_cpu": plan.device.name == "cpu" or None,
        **_several(plan),
    }
    if plan.task == "sft" and plan.dataset.format == "messages":
        arguments["assistant_only_loss"] = not _counts_everything(plan)
    if plan.peft is not None:
        arguments |= {
            "use_peft": True,
            "lora_r": plan.peft["r"],
            "lora_alpha": plan.peft["lora_alpha"],
            "lora_dropout": plan.peft["lora_dropout"],
            "lora_target_modules": _as_list(named_targets(plan.model.load_from, plan.peft)),
            "lora_target_parameters": plan.peft.get("target_parameters"),
            "lora_modules_to_save": plan.peft.get("modules_to_save"),
            "use_rslora": plan.peft.get("use_rslora", False),
            "use_dora": plan.peft.get("use_dora", False),
        }
    if plan.quantization is not None:
        arguments |= {"load_in_4bit": True, "use_bnb_nested_quant": True}
    return arguments


def script(plan: TrainingPlan, moved: Moved | None = None) -> str:
    """Return a Python script with TRL alone that trains the same plan."""
    values = {
        "MODEL": plan.model.load_from,
        "ADAPTER": plan.model.adapter,
        "TOKENIZER": tokenizer_folder(plan.model.adapter, plan.model.load_from),
        "DATASET": plan.dataset.path,
        "VALIDATION": plan.validation.path if plan.validation else None,
        "DTYPE": plan.weights_dtype,
        "INIT": _init(plan) | ({"revision": plan.model.revision} if plan.model.revision else {}),
        "PEFT": plan.peft,
        "QUANTIZATION": plan.quantization,
        "COMPUTE_DTYPE": plan.device.precision,
        "TRAINING": _script_training(plan),
        "MARKS": plan.task == "kto",
        "PATIENCE": plan.patience,
        "LEARNT_LOSS": learnt_loss(plan.task, plan.answer_tokens),
        "TEMPLATE": plan.training.get("chat_template_path"),
    }
    values = (moved or Moved()).in_folder(values)
    constants = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    kind = plan.task.upper()
    template = files("ft_tools.training.exports").joinpath(TEMPLATE).read_text(encoding="utf-8")
    gated = "" if Path(plan.model.load_from).is_dir() else GATED
    template = template.replace("KIND", kind).replace(
        "REQUIREMENTSGATED", _requirements(plan) + gated
    )
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


def _several(plan: TrainingPlan) -> dict[str, Any]:
    """Return the keys by which transformers' trainer spreads a model over several processes."""
    if plan.place.sharding == "fsdp":
        return {"fsdp": True, "fsdp_config": plan.place.engine}
    return {"deepspeed": ENGINE} if plan.place.engine else {}


def _script_training(plan: TrainingPlan) -> dict[str, Any]:
    arguments = _training(plan)
    for name in ("gradient_checkpointing", "chat_template_path"):
        arguments.pop(name, None)
    return {
        # Evaluated in the planned size, as the run does; the library's own is 8.
        "per_device_eval_batch_size": plan.training["per_device_train_batch_size"],
        **arguments,
        "gradient_checkpointing": None,
        "activation_checkpointing": bool(plan.training.get("gradient_checkpointing")),
        "output_dir": "trl-output",
        "load_best_model_at_end": plan.patience is not None,
        "save_strategy": _saves(plan),
        "use_cpu": plan.device.name == "cpu",
        "dataloader_pin_memory": plan.device.name != "cpu",
        **_several(plan),
    }


def _training(plan: TrainingPlan) -> dict[str, Any]:
    kept = {name: value for name, value in plan.training.items() if name not in ELSEWHERE}
    if _counts_everything(plan):
        kept["completion_only_loss"] = False
    precision = plan.device.precision
    return kept | {"bf16": precision == "bfloat16", "fp16": precision == "float16"}


def _saves(plan: TrainingPlan) -> str:
    """Return when checkpoints are written: with each evaluation, or else by steps."""
    return "epoch" if plan.training["eval_strategy"] == "epoch" else "steps"


def _init(plan: TrainingPlan) -> dict[str, Any]:
    """Return how the model is loaded, its numbers aside."""
    given = plan.training.get("model_init_kwargs") or {}
    return {name: value for name, value in given.items() if name != "dtype"}


def _counts_everything(plan: TrainingPlan) -> bool:
    return isinstance(plan, SftPlan) and plan.loss_on == "everything"


def _trl_heading(plan: TrainingPlan, moved: Moved) -> str:
    heading = f"trl {plan.task} --config trl.yaml"
    if plan.place.num_processes > 1:
        heading += f" --num_processes {plan.place.num_processes}"
    if plan.model.adapter:
        heading += f" (first merge the adapter {moved.in_folder(plan.model.adapter)} into the base)"
    return heading


def _as_list(targets: Any) -> list[str]:
    return [targets] if isinstance(targets, str) else list(targets)
