"""A plan as Axolotl has it: its configuration, with its own words for how data become tokens.

YAML is written a key a line with JSON values, which every YAML parser reads.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft_tools.errors import FineTuningError
from ft_tools.models import hub
from ft_tools.models.adapter_targets import named_targets
from ft_tools.models.model_folder import chat_template, read_object, tokenizer_folder
from ft_tools.models.shape_of_model import config_of
from ft_tools.training.checks import memory
from ft_tools.training.exports.script import loading_arguments, renamed
from ft_tools.training.findings import warning
from ft_tools.training.training_plan import DpoPlan, SftPlan, TrainingPlan

FILE = "axolotl.yaml"
# Families whose loss Liger fuses. Source: Axolotl, integrations/liger/plugin.py.
FUSED = {"gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo2",
         "phi3", "qwen2", "qwen3", "qwen3_moe"}  # fmt: skip
# TRL's names and its own. Source: Axolotl 0.19.0, utils/schemas/config.py.
SAME = ("gradient_accumulation_steps", "learning_rate", "weight_decay", "max_grad_norm",
        "adam_beta1", "adam_beta2", "adam_epsilon", "logging_steps", "save_steps", "seed",
        "precompute_ref_log_probs")  # fmt: skip
NAMES = dict(zip(SAME, SAME, strict=True)) | {
    "max_length": "sequence_len",
    "per_device_train_batch_size": "micro_batch_size",
    "num_train_epochs": "num_epochs",
    "lr_scheduler_type": "lr_scheduler",
    "optim": "optimizer",
    "beta": "rl_beta",
    "loss_type": "dpo_loss_type",
    "loss_weights": "dpo_loss_weights",
    "label_smoothing": "dpo_label_smoothing",
}
# In other words below, or without a meaning there.
HANDLED = {"packing", "max_steps", "gradient_checkpointing", "warmup_steps", "eval_steps",
           "eval_strategy", "chat_template_path", "report_to", "completion_only_loss",
           "assistant_only_loss", "model_init_kwargs", "attn_implementation"}  # fmt: skip
PEFT_NAMES = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_parameters": "lora_target_parameters",
    "modules_to_save": "lora_modules_to_save",
    "use_rslora": "peft_use_rslora",
    "use_dora": "peft_use_dora",
}


def text(plan: TrainingPlan, names: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Return its file, whose second line names what of the plan it has no key for, and a warning.

    The file is empty where it has no key for the data's format, or does not fit the card.
    """
    is_known = plan.task != "kto" and plan.dataset.format != "prompt_completion_messages"
    if not is_known or plan.model.adapter:
        return "", ""
    fused = plan.estimate.vram
    whole = memory.with_whole_logits(plan) if fused and not is_fused(plan) else None
    if fused and whole and whole.fits == "no":
        sizes = {"whole": whole.peak_allocated_gib, "usable": whole.usable_gib or 0.0}
        return "", warning("axolotl_does_not_fit", **sizes, fused=fused["peak_allocated_gib"])
    liger = "pip install liger-kernel; " if is_fused(plan) else ""
    lines = [f"# Run: {liger}axolotl train {FILE}"]
    if missing := _without_a_key(plan):
        lines.append(f"# In the plan and not in this file: {', '.join(missing)}")
    values = renamed(arguments(plan), names or {})
    lines += [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n", ""


def is_fused(plan: TrainingPlan) -> bool:
    """Return whether it computes this loss without whole logits: SFT alone, on a GPU."""
    if plan.task == "sft" and plan.device.name != "cpu":
        with contextlib.suppress(FineTuningError):
            return config_of(plan.model.load_from).get("model_type") in FUSED
    return False


def _without_a_key(plan: TrainingPlan) -> list[str]:
    # Its key for a loss is one of preferences.
    unknown = {"loss_type"} if plan.training.get("loss_type") == "dft" else set()
    training = {*plan.training, *loading_arguments(plan)} - ({*NAMES, *HANDLED} - unknown)
    peft = {name for name, value in (plan.peft or {}).items() if value not in (None, False, "none")}
    if plan.peft and named_targets(plan.model.load_from, plan.peft) != plan.peft["target_modules"]:
        # The names that remain say it.
        peft.discard("exclude_modules")
    whole = {"llm_int8_skip_modules"} & {*(plan.quantization or ())}
    return sorted(training | (peft - {*PEFT_NAMES, "target_modules"}) | whole)


def arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return the keys of its configuration."""
    training = plan.training
    steps = training.get("max_steps")
    found: dict[str, Any] = {
        "base_model": plan.model.load_from,
        "revision_of_model": plan.model.revision or None,
        "datasets": [_data(plan, plan.dataset.path)],
        "val_set_size": 0,
        **{theirs: training[ours] for ours, theirs in NAMES.items() if ours in training},
        "max_steps": steps if isinstance(steps, int) and steps > 0 else None,
        "sample_packing": bool(training.get("packing")),
        "gradient_checkpointing": bool(training.get("gradient_checkpointing")),
        "bf16": plan.device.precision == "bfloat16",
        "fp16": plan.device.precision == "float16" or None,
        "output_dir": "axolotl-output",
        "chat_template": "tokenizer_default",
        # Its own default does not pack.
        "attn_implementation": loading_arguments(plan).get("attn_implementation", "sdpa"),
        "eot_tokens": _turn_ends(plan) or None,
    }
    if template := training.get("chat_template_path"):
        found |= {"chat_template": "jinja", "chat_template_jinja": template}
    warmup = training["warmup_steps"]
    found["warmup_ratio" if warmup < 1 else "warmup_steps"] = warmup
    if plan.validation is not None:
        found["test_datasets"] = [_data(plan, plan.validation.path)]
        found["eval_steps"] = training.get("eval_steps")
        found["early_stopping_patience"] = plan.patience
    if training["eval_strategy"] == "epoch":
        found |= {"eval_strategy": "epoch", "save_strategy": "epoch", "save_steps": None}
    if isinstance(plan, DpoPlan):
        found["rl"] = "dpo"
    else:
        found.pop("dpo_loss_type", None)
    if isinstance(plan, SftPlan) and plan.loss_on == "everything":
        found["train_on_inputs"] = True
    if is_fused(plan):
        found["plugins"] = ["axolotl.integrations.liger.LigerPlugin"]
        found["liger_fused_linear_cross_entropy"] = True
    return found | _adapter(plan) | _several(plan)


def _data(plan: TrainingPlan, path: str) -> dict[str, Any]:
    line = "{instruction}"
    fields = {"field_instruction": "prompt", "field_output": "completion"}
    answers = {"field_chosen": "chosen", "field_rejected": "rejected"}
    kinds: dict[str, dict[str, Any]] = {
        "pairs_messages": {
            "type": "chat_template.default", "field_messages": "prompt", **answers,
        },
        "pairs_messages_implicit": {"type": "chat_template.argilla_chat", **answers},
        "pairs_text": {"type": {"field_prompt": "prompt", **answers}},
        "messages": {
            "type": "chat_template", "field_messages": "messages",
            "roles_to_train": ["assistant"], "train_on_eos": "turn",
        },
        "text": {"type": "completion", "field": "text"},
    }  # fmt: skip
    plain = {"type": fields | {"format": line, "no_input_format": line}}
    known = kinds.get(plan.dataset.format, plain)
    return {"path": path, "ds_type": "json", "split": "train", **known}


def _turn_ends(plan: TrainingPlan) -> list[str]:
    """Return the tokens that end an answer, where a template writes others than the tokenizer's.

    It trains on the tokenizer's own alone, which Gemma's templates do not write.

    Source: Axolotl 0.19.0, prompt_strategies/chat_template.py.
    """
    folder = Path(tokenizer_folder(plan.model.adapter, plan.model.load_from))
    if not folder.is_dir():
        kept = hub.cached(plan.model.load_from)
        folder = kept[0] if kept else folder
    template = chat_template(folder, plan.training.get("chat_template_path")) or ""
    end = read_object(folder / "tokenizer_config.json").get("eos_token")
    text = str(end.get("content", "") if isinstance(end, dict) else end or "")
    if "eos_token" in template or (text and text in template):
        return []
    ids = read_object(folder / "generation_config.json").get("eos_token_id")
    listed = read_object(folder / "tokenizer.json").get("added_tokens") or []
    named = {token["id"]: token["content"] for token in listed}
    ends = (named.get(one, "") for one in (ids if isinstance(ids, list) else [ids]))
    return [end for end in ends if end and end in template]


def _adapter(plan: TrainingPlan) -> dict[str, Any]:
    if plan.peft is None:
        return {}
    targets = named_targets(plan.model.load_from, plan.peft)
    everywhere = targets == "all-linear"
    found = {theirs: plan.peft.get(ours) for ours, theirs in PEFT_NAMES.items()}
    found |= {name: found[name] or None for name in ("peft_use_rslora", "peft_use_dora")}
    return found | {
        "adapter": plan.method,
        "load_in_4bit": plan.quantization is not None,
        "lora_target_linear": everywhere,
        "lora_target_modules": None if everywhere else targets,
    }


def _several(plan: TrainingPlan) -> dict[str, Any]:
    if plan.place.sharding != "fsdp":
        return {}
    rest = {name: value for name, value in plan.place.engine.items() if name != "version"}
    return {"fsdp_version": plan.place.engine["version"], "fsdp_config": rest}
