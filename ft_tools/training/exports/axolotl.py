"""A plan as Axolotl has it: its configuration, with its own words for how data become tokens.

YAML is written a key a line with JSON values, which every YAML parser reads.
"""

import json
from typing import Any

from ft_tools.errors import FineTuningError
from ft_tools.memory.report import VramReport
from ft_tools.models.adapter_targets import named_targets
from ft_tools.models.shape_of_model import config_of
from ft_tools.training.checks import memory
from ft_tools.training.defaults import learnt_loss
from ft_tools.training.exports.portable import Moved
from ft_tools.training.findings import warning
from ft_tools.training.plan import DpoPlan, SftPlan, TrainingPlan

FILE = "axolotl.yaml"
# Families whose loss Liger fuses. Source: Axolotl, integrations/liger/plugin.py.
FUSED = {"gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo2",
         "phi3", "qwen2", "qwen3", "qwen3_moe"}  # fmt: skip

# Names that are the same there. Source: Axolotl 0.19.0, utils/schemas/config.py.
SAME = (
    "gradient_accumulation_steps",
    "learning_rate",
    "weight_decay",
    "max_grad_norm",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "logging_steps",
    "save_steps",
    "seed",
    "precompute_ref_log_probs",
)
OTHERS = {
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
# Said in another way below.
IN_OTHER_WORDS = {"packing", "max_steps", "gradient_checkpointing", "warmup_steps", "eval_steps",
                  "eval_strategy", "chat_template_path"}  # fmt: skip
KNOWN = {*SAME, *OTHERS, *IN_OTHER_WORDS}
NOT_LISTED = {"report_to", "completion_only_loss", "assistant_only_loss", "model_init_kwargs"}
"""Arguments of a plan that change nothing there, or have their own key."""
PEFT = {"r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters",
        "modules_to_save", "use_rslora", "use_dora"}  # fmt: skip


def can_express(plan: TrainingPlan) -> bool:
    """Return whether it has what the plan needs: the data's format, an untrained start, memory."""
    whole = _with_whole_logits(plan)
    return _has_keys(plan) and (whole is None or whole.fits != "no")


def is_fused(plan: TrainingPlan) -> bool:
    """Return whether it computes this loss without whole logits: SFT alone, on a GPU."""
    if plan.task != "sft" or plan.device.name == "cpu":
        return False
    try:
        return config_of(plan.model.load_from).get("model_type") in FUSED
    except FineTuningError:
        return False


def memory_note(plan: TrainingPlan) -> str:
    """Return what memory it needs where it computes the loss in another way; else empty."""
    fused = plan.estimate.vram
    if fused is None or not _has_keys(plan):
        return ""
    if is_fused(plan):
        return warning("axolotl_liger")
    if (whole := _with_whole_logits(plan)) is None:
        return ""
    row = "axolotl_does_not_fit" if whole.fits == "no" else "axolotl_memory"
    sizes = {"whole": whole.peak_allocated_gib, "usable": whole.usable_gib or 0.0}
    return warning(row, **sizes, fused=fused["peak_allocated_gib"])


def _has_keys(plan: TrainingPlan) -> bool:
    is_known = plan.task != "kto" and plan.dataset.format != "prompt_completion_messages"
    return is_known and not plan.model.adapter


def _with_whole_logits(plan: TrainingPlan) -> VramReport | None:
    """Estimate the plan where logits are not fused; None on a CPU or with a fused loss."""
    if is_fused(plan):
        return None
    return memory.estimated(
        memory.Planned(
            model=plan.model.load_from,
            task=plan.task,
            method=plan.method,
            peft=plan.peft,
            training=plan.training,
            device=plan.device,
            dtype=plan.weights_dtype,
            place=plan.place,
            loss_head="full_logits",
        )
    )


def text(plan: TrainingPlan, moved: Moved, engine_file: str) -> str:
    """Return its file, whose second line names what of the plan it has no key for."""
    lines = [f"# Run: axolotl train {FILE}"]
    if missing := _without_a_key(plan):
        lines.append(f"# In the plan and not in this file: {', '.join(missing)}")
    values = moved.in_folder(arguments(plan, engine_file))
    lines += [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def loading_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return how the model is loaded, its number format aside."""
    given = plan.training.get("model_init_kwargs") or {}
    return {name: value for name, value in given.items() if name != "dtype"}


def _without_a_key(plan: TrainingPlan) -> list[str]:
    # Its key for a loss is one of preferences.
    known = KNOWN - ({"loss_type"} if plan.training.get("loss_type") == "dft" else set())
    training = {*plan.training, *loading_arguments(plan)} - known - NOT_LISTED
    peft = {name for name, value in (plan.peft or {}).items() if value not in (None, False, "none")}
    if plan.peft and named_targets(plan.model.load_from, plan.peft) != plan.peft["target_modules"]:
        # The names that remain say it.
        peft.discard("exclude_modules")
    whole = {"llm_int8_skip_modules"} & {*(plan.quantization or ())}
    found = sorted(training | (peft - PEFT) | whole)
    learnt = learnt_loss(plan.task, plan.answer_tokens)
    if plan.patience is not None and learnt is not None:
        found.append(f"the stop at a validation loss of {learnt:g}")
    return found


def arguments(plan: TrainingPlan, engine_file: str) -> dict[str, Any]:
    """Return the keys of its configuration; DeepSpeed's is in a file beside it."""
    training = plan.training
    steps = training.get("max_steps")
    found: dict[str, Any] = {
        "base_model": plan.model.load_from,
        "revision_of_model": plan.model.revision or None,
        "datasets": [_data(plan, plan.dataset.path)],
        "val_set_size": 0,
        **{name: training[name] for name in SAME if name in training},
        **{theirs: training[ours] for ours, theirs in OTHERS.items() if ours in training},
        "max_steps": steps if isinstance(steps, int) and steps > 0 else None,
        "sample_packing": bool(training.get("packing")),
        "gradient_checkpointing": bool(training.get("gradient_checkpointing")),
        "bf16": plan.device.precision == "bfloat16",
        "fp16": plan.device.precision == "float16" or None,
        "output_dir": "axolotl-output",
        "chat_template": "tokenizer_default",
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
        found.pop(OTHERS["loss_type"], None)
    if isinstance(plan, SftPlan) and plan.loss_on == "everything":
        found["train_on_inputs"] = True
    if is_fused(plan):
        found["plugins"] = ["axolotl.integrations.liger.LigerPlugin"]
        found["liger_fused_linear_cross_entropy"] = True
    return found | _adapter(plan) | _several(plan, engine_file)


def _data(plan: TrainingPlan, path: str) -> dict[str, Any]:
    data: dict[str, Any] = {"path": path, "ds_type": "json", "split": "train"}
    answers = {"field_chosen": "chosen", "field_rejected": "rejected"}
    match plan.dataset.format:
        case "pairs_messages":
            kind: dict[str, Any] = {"type": "chat_template.default", "field_messages": "prompt"}
            return data | kind | answers
        case "pairs_messages_implicit":
            return data | {"type": "chat_template.argilla_chat"} | answers
        case "pairs_text":
            return data | {"type": {"field_prompt": "prompt"} | answers}
        case "messages":
            roles = {"roles_to_train": ["assistant"], "train_on_eos": "turn"}
            return data | {"type": "chat_template", "field_messages": "messages"} | roles
        case "text":
            return data | {"type": "completion", "field": "text"}
    line = "{instruction}"
    fields = {"field_instruction": "prompt", "field_output": "completion"}
    return data | {"type": fields | {"format": line, "no_input_format": line}}


def _adapter(plan: TrainingPlan) -> dict[str, Any]:
    if plan.peft is None:
        return {}
    targets = named_targets(plan.model.load_from, plan.peft)
    everywhere = targets == "all-linear"
    return {
        "adapter": plan.method,
        "load_in_4bit": plan.quantization is not None,
        "lora_r": plan.peft["r"],
        "lora_alpha": plan.peft["lora_alpha"],
        "lora_dropout": plan.peft["lora_dropout"],
        "lora_target_linear": everywhere,
        "lora_target_modules": None if everywhere else targets,
        "lora_target_parameters": plan.peft.get("target_parameters"),
        "lora_modules_to_save": plan.peft.get("modules_to_save"),
        "peft_use_rslora": plan.peft.get("use_rslora") or None,
        "peft_use_dora": plan.peft.get("use_dora") or None,
    }


def _several(plan: TrainingPlan, engine_file: str) -> dict[str, Any]:
    engine = plan.place.engine
    if plan.place.sharding == "fsdp":
        rest = {name: value for name, value in engine.items() if name != "version"}
        return {"fsdp_version": engine["version"], "fsdp_config": rest}
    return {"deepspeed": engine_file} if engine else {}
