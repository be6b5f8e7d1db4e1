"""A plan as LLaMA-Factory has it: its configuration, its list of data sets, a script for pairs."""

from typing import Any

from ft_tools.models.adapter_targets import last_names
from ft_tools.training.exports.fused_loss import is_fused
from ft_tools.training.exports.portable import Moved
from ft_tools.training.plan import DpoPlan, SftPlan, TrainingPlan

# Losses that it has under the same name. Source: LLaMA-Factory 0.9.5, hparams/finetuning_args.py.
LOSSES = {"sigmoid", "hinge", "ipo"}
FORMATS = {"messages", "pairs_messages", "pairs_messages_implicit"}
DATA_SCRIPT = "llama_factory_data.py"
COMMON = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "num_train_epochs",
    "max_steps",
    "weight_decay",
    "optim",
    "logging_steps",
    "eval_strategy",
    "eval_steps",
    "save_steps",
    "seed",
    "max_grad_norm",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
)
# Said in another way below; it checkpoints activations by itself.
SAID = {*COMMON, "max_length", "packing", "beta", "loss_type", "label_smoothing",
        "gradient_checkpointing"}  # fmt: skip
TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
SCRIPT = '''"""Give preference pairs the form that LLaMA-Factory reads; run it in this folder."""

import json

FILES = {files!r}


def pair(row):
    chosen, rejected = row["chosen"], row["rejected"]
    prompt = row["prompt"] if "prompt" in row else chosen[:-1]
    if "prompt" in row and (len(chosen) != 1 or len(rejected) != 1):
        raise SystemExit("an answer of several messages: LLaMA-Factory takes one each")
    if "prompt" not in row and prompt != rejected[:-1]:
        raise SystemExit("answers after different messages: LLaMA-Factory takes one prompt")
    return {{"messages": prompt, "chosen": chosen[-1], "rejected": rejected[-1]}}


for name, path in FILES.items():
    with open(path, encoding="utf-8-sig") as source, open(name, "w", encoding="utf-8") as made:
        text = source.read()
        lines = [line for line in text.split("\\n") if line.strip()]
        rows = json.loads(text) if text.lstrip().startswith("[") else map(json.loads, lines)
        for row in rows:
            made.write(json.dumps(pair(row), ensure_ascii=False) + "\\n")
'''


def can_say(plan: TrainingPlan) -> bool:
    """Tell whether it has what the plan needs: format, template, loss, an untrained start."""
    template = plan.training.get("chat_template_path")
    if plan.dataset.format not in FORMATS or plan.model.adapter or template:
        return False
    if not isinstance(plan, DpoPlan):
        return True
    losses = plan.training["loss_type"]
    return len(losses) == 1 and losses[0] in LOSSES


def arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return the keys of its configuration; the tokenizer's own template is used."""
    training = plan.training
    found: dict[str, Any] = {
        "model_name_or_path": plan.model.load_from,
        "model_revision": plan.model.revision or None,
        "stage": plan.task,
        "do_train": True,
        "finetuning_type": "full" if plan.method == "full" else "lora",
        "dataset_dir": ".",
        "dataset": "train",
        "eval_dataset": "validation" if plan.validation else None,
        "cutoff_len": training.get("max_length"),
        "packing": bool(training.get("packing")),
        "output_dir": "llama-factory-output",
        **{name: training[name] for name in COMMON if name in training},
        "bf16": plan.device.precision == "bfloat16",
        "fp16": plan.device.precision == "float16",
        "use_cpu": plan.device.name == "cpu" or None,
        "enable_liger_kernel": is_fused(plan) or None,
    }
    if isinstance(plan, DpoPlan):
        found |= {"pref_beta": training["beta"], "pref_loss": training["loss_type"][0]}
        found["dpo_label_smoothing"] = training.get("label_smoothing") or None
    if isinstance(plan, SftPlan) and plan.loss_on == "everything":
        found["train_on_prompt"] = True
    return found | _adapter(plan)


def datasets(plan: TrainingPlan) -> dict[str, Any]:
    """Return dataset_info.json: where the examples are and what their parts are called."""
    return {name: _described(plan, path) for name, path in _files(plan).items()}


def data_script(plan: TrainingPlan, moved: Moved) -> str:
    """Return the script that makes the files of pairs which `datasets` names."""
    files = {f"{name}.jsonl": path for name, path in _files(plan).items()}
    return SCRIPT.format(files=moved.in_folder(files))


def _files(plan: TrainingPlan) -> dict[str, str]:
    validation = {"validation": plan.validation.path} if plan.validation else {}
    return {"train": plan.dataset.path, **validation}


def _described(plan: TrainingPlan, path: str) -> dict[str, Any]:
    columns = {"messages": "messages"}
    about: dict[str, Any] = {"formatting": "sharegpt", "columns": columns, "tags": TAGS}
    if plan.task == "sft":
        return {"file_name": path, **about}
    name = "train.jsonl" if path == plan.dataset.path else "validation.jsonl"
    columns |= {"chosen": "chosen", "rejected": "rejected"}
    return {"file_name": name, "ranking": True, **about}


def _adapter(plan: TrainingPlan) -> dict[str, Any]:
    if plan.peft is None:
        return {}
    # It keeps adapters off towers by itself. Source: 0.9.5, model/model_utils/visual.py.
    targets = last_names(plan.model.load_from, plan.peft)
    listed = [targets] if isinstance(targets, str) else list(targets)
    found = {
        "lora_rank": plan.peft["r"],
        "lora_alpha": plan.peft["lora_alpha"],
        "lora_dropout": plan.peft["lora_dropout"],
        "lora_target": "all" if targets == "all-linear" else ",".join(listed),
        "additional_target": ",".join(plan.peft.get("modules_to_save") or ()) or None,
        "use_rslora": plan.peft.get("use_rslora", False),
        "use_dora": plan.peft.get("use_dora", False),
    }
    if plan.quantization is not None:
        found |= {"quantization_bit": 4, "double_quantization": True}
    return found
