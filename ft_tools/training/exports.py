"""The same plan for other trainers: a script, TRL's command line, Axolotl, LLaMA-Factory.

YAML is written a key a line with JSON values, which every YAML parser reads.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ft_tools.publish import write_file
from ft_tools.training import llama_factory
from ft_tools.training.plan import TrainingPlan

FOLDER = "exports"
TEMPLATE = "trl_script.txt"
ENGINE = "deepspeed.json"
# What only this package's own loop reads.
NOT_EXPORTED = {"chat_template_path", "report_to", "completion_only_loss", "assistant_only_loss"}


def write_exports(folder: Path, plan: TrainingPlan) -> list[Path]:
    """Write the plan for other trainers into a folder that exists.

    Returns:
        The files written; none for LLaMA-Factory where it has no words for the plan.
    """
    texts = {
        "train.py": script(plan),
        "trl.yaml": yaml(trl_arguments(plan), _trl_heading(plan)),
        "axolotl.yaml": yaml(axolotl_arguments(plan), "axolotl train axolotl.yaml"),
    }
    if plan.place.sharding in {"zero2", "zero3"}:
        texts[ENGINE] = json.dumps(plan.place.engine, indent=1)
    if llama_factory.can_say(plan):
        heading = "llamafactory-cli train llama_factory.yaml"
        if plan.place.num_processes > 1:
            heading = f"FORCE_TORCHRUN=1 NPROC_PER_NODE={plan.place.processes} {heading}"
        if plan.task == "dpo":
            texts[llama_factory.DATA_SCRIPT] = llama_factory.data_script(plan)
            heading = f"python {llama_factory.DATA_SCRIPT} && {heading}"
        arguments = llama_factory.arguments(plan) | _several(plan)
        texts["llama_factory.yaml"] = yaml(arguments, heading)
        texts["dataset_info.json"] = json.dumps(llama_factory.datasets(plan), indent=1)
    for name, text in texts.items():
        write_file(folder / name, text)
    return [folder / name for name in texts]


def yaml(values: Mapping[str, Any], heading: str) -> str:
    """Return a flat mapping as YAML; keys without a value are left out."""
    lines = [f"# Run: {heading}"]
    lines += [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def trl_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return the keys of `trl sft --config` or `trl dpo --config`.

    Its data come from one split, so the validation file is left out.
    """
    data = {"path": "json", "data_files": {"train": plan.dataset.path}, "split": "train"}
    arguments: dict[str, Any] = {
        "model_name_or_path": plan.model.load_from,
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
        arguments["assistant_only_loss"] = True
    if plan.peft is not None:
        arguments |= {
            "use_peft": True,
            "lora_r": plan.peft["r"],
            "lora_alpha": plan.peft["lora_alpha"],
            "lora_dropout": plan.peft["lora_dropout"],
            "lora_target_modules": _as_list(plan.peft["target_modules"]),
            "use_rslora": plan.peft.get("use_rslora", False),
            "use_dora": plan.peft.get("use_dora", False),
        }
    if plan.quantization is not None:
        arguments |= {"load_in_4bit": True, "use_bnb_nested_quant": True}
    return arguments


def axolotl_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return the keys of an Axolotl configuration."""
    training = plan.training
    arguments: dict[str, Any] = {
        "base_model": plan.model.load_from,
        "datasets": [_axolotl_data(plan, plan.dataset.path)],
        "val_set_size": 0,
        "sequence_len": training.get("max_length"),
        "sample_packing": bool(training.get("packing")),
        "micro_batch_size": training["per_device_train_batch_size"],
        "gradient_accumulation_steps": training["gradient_accumulation_steps"],
        "num_epochs": training["num_train_epochs"],
        "max_steps": _positive(training.get("max_steps")),
        "learning_rate": training["learning_rate"],
        "lr_scheduler": training["lr_scheduler_type"],
        "optimizer": training["optim"],
        "weight_decay": training.get("weight_decay"),
        "gradient_checkpointing": bool(training.get("gradient_checkpointing")),
        "logging_steps": training["logging_steps"],
        "save_steps": training["save_steps"],
        "seed": training["seed"],
        "bf16": plan.device.precision == "bfloat16",
        "fp16": plan.device.precision == "float16" or None,
        "output_dir": "axolotl-output",
        "chat_template": "tokenizer_default",
    }
    warmup = training["warmup_steps"]
    arguments["warmup_ratio" if warmup < 1 else "warmup_steps"] = warmup
    if plan.validation is not None:
        arguments["test_datasets"] = [_axolotl_data(plan, plan.validation.path)]
        arguments["eval_steps"] = training.get("eval_steps")
        arguments["early_stopping_patience"] = plan.patience
    if plan.task == "dpo":
        arguments |= {"rl": "dpo", "rl_beta": training["beta"]}
    if plan.peft is not None:
        arguments |= _axolotl_adapter(plan, plan.peft)
    return arguments | _axolotl_several(plan)


def script(plan: TrainingPlan) -> str:
    """Return a Python script with TRL alone that trains the same plan."""
    values = {
        "MODEL": plan.model.load_from,
        "ADAPTER": plan.model.adapter,
        "DATASET": plan.dataset.path,
        "VALIDATION": plan.validation.path if plan.validation else None,
        "DTYPE": plan.weights_dtype,
        "PEFT": plan.peft,
        "QUANTIZATION": plan.quantization,
        "TRAINING": _script_training(plan),
        "PATIENCE": plan.patience,
        "PLAIN": "messages" not in plan.dataset.format or plan.task == "dpo",
    }
    constants = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    kind = {"sft": "SFT", "dpo": "DPO"}[plan.task]
    template = files("ft_tools.training").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return template.replace("KIND", kind).replace("# CONSTANTS\n", constants)


def _several(plan: TrainingPlan) -> dict[str, Any]:
    """Return the keys by which transformers' trainer spreads a model over several processes."""
    if plan.place.sharding == "fsdp":
        return {"fsdp": True, "fsdp_config": plan.place.engine}
    return {"deepspeed": ENGINE} if plan.place.engine else {}


def _axolotl_several(plan: TrainingPlan) -> dict[str, Any]:
    if plan.place.sharding == "fsdp":
        rest = {name: value for name, value in plan.place.engine.items() if name != "version"}
        return {"fsdp_version": plan.place.engine["version"], "fsdp_config": rest}
    return _several(plan)


def _script_training(plan: TrainingPlan) -> dict[str, Any]:
    arguments = _training(plan)
    arguments.pop("gradient_checkpointing", None)
    return {
        **arguments,
        "gradient_checkpointing": None,
        "activation_checkpointing": bool(plan.training.get("gradient_checkpointing")),
        "output_dir": "trl-output",
        "load_best_model_at_end": plan.patience is not None,
        "use_cpu": plan.device.name == "cpu",
        "dataloader_pin_memory": plan.device.name != "cpu",
        **_several(plan),
    }


def _training(plan: TrainingPlan) -> dict[str, Any]:
    kept = {k: v for k, v in plan.training.items() if k not in {*NOT_EXPORTED, "model_init_kwargs"}}
    return kept | {
        "bf16": plan.device.precision == "bfloat16",
        "fp16": plan.device.precision == "float16",
    }


def _trl_heading(plan: TrainingPlan) -> str:
    heading = f"trl {plan.task} --config trl.yaml"
    if plan.place.num_processes > 1:
        heading += f" --num_processes {plan.place.num_processes}"
    if plan.model.adapter:
        heading += f" (first merge the adapter {plan.model.adapter} into the base)"
    return heading


def _axolotl_data(plan: TrainingPlan, path: str) -> dict[str, Any]:
    data: dict[str, Any] = {"path": path, "ds_type": "json", "split": "train"}
    if plan.task == "dpo":
        fields = {
            "field_messages": "prompt",
            "field_chosen": "chosen",
            "field_rejected": "rejected",
        }
        return data | {"type": "chat_template.default"} | fields
    if plan.dataset.format == "messages":
        roles = {"roles_to_train": ["assistant"], "train_on_eos": "turn"}
        return data | {"type": "chat_template", "field_messages": "messages"} | roles
    if plan.dataset.format == "text":
        return data | {"type": "completion", "field": "text"}
    line = "{instruction}"
    fields = {"field_instruction": "prompt", "field_output": "completion"}
    return data | {"type": fields | {"format": line, "no_input_format": line}}


def _axolotl_adapter(plan: TrainingPlan, peft: dict[str, Any]) -> dict[str, Any]:
    targets = peft["target_modules"]
    everywhere = targets == "all-linear"
    return {
        "adapter": plan.method,
        "load_in_4bit": plan.quantization is not None,
        "lora_r": peft["r"],
        "lora_alpha": peft["lora_alpha"],
        "lora_dropout": peft["lora_dropout"],
        "lora_target_linear": everywhere,
        "lora_target_modules": None if everywhere else _as_list(targets),
        "peft_use_rslora": peft.get("use_rslora") or None,
        "peft_use_dora": peft.get("use_dora") or None,
    }


def _as_list(targets: Any) -> list[str]:
    return [targets] if isinstance(targets, str) else list(targets)


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
