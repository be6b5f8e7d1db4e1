"""Which models can be trained in the way that is asked for; each refusal names its cure."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ft_tools.errors import require_installed
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.trl_formats import PLAIN_NAME, Task
from ft_tools.lora import init_weights
from ft_tools.models import model_folder, other_names
from ft_tools.models.resolve import ModelSource
from ft_tools.training.findings import refusal, warning
from ft_tools.training.request import TrainingRequest

TOKENIZER = "tokenizer_config.json"
MOST_NAMES = 20


def require_trainable(source: ModelSource, request: TrainingRequest) -> None:
    """Refuse a model that cannot be trained in this way."""
    if source.kind == "gguf":
        raise refusal("gguf_file", model=source.name)
    if source.path is not None:
        model_folder.require_readable(Path(source.path))
    if source.adapter and request.method == "full":
        raise refusal("full_from_adapter", model=source.name)
    if source.adapter and request.peft:
        raise refusal("shape_is_fixed", peft=dict(request.peft), model=source.name)
    if request.method == "full" and request.peft:
        raise refusal("peft_for_full")
    if request.method == "qlora" and request.engine != "mlx":
        require_installed("train", "bitsandbytes")


def require_reference(source: ModelSource, peft: Mapping[str, Any]) -> None:
    """Refuse an adapter beside which no reference is left as it was before training."""
    start, cure = peft.get("init_lora_weights"), "remove init_lora_weights"
    bias, bias_cure = str(peft.get("bias", "none")), "remove bias"
    if source.adapter:
        trained = model_folder.adapter_config(Path(source.adapter))
        start, bias = str(trained.get("init_lora_weights", "")), str(trained.get("bias") or "none")
        cure = f"merge_and_quantize {source.name} and pass the merged folder as `model`"
        bias_cure = cure
    init_weights.require_base_unchanged(start, cure)
    if bias != "none":
        raise refusal("biases_change_reference", bias=bias, change=bias_cure)
    # Source: TRL 1.16, dpo_trainer.py: the copy leaves out what is named otherwise than layers are.
    if source.adapter and model_folder.trains_embeddings(Path(source.adapter)):
        raise refusal("adapter_on_embedding", model=source.name, change=cure)


def require_template(
    source: ModelSource, task: Task, dataset: DatasetFacts, request: TrainingRequest
) -> None:
    """Refuse conversations for a model that has no chat template.

    Of a model that is not on this machine the small files tell it, or else the catalog, where it
    has the instruct model of that name, too; the run asks once more.
    """
    base = source.path or source.files
    if base is None:
        if instruct := other_names.instruct_name(source.name):
            observed = f"{source.name} is the raw base of {instruct}"
            require_instruct(observed, task, request.accept_findings)
        return
    folder = Path(model_folder.tokenizer_folder(source.adapter, base))
    if model_folder.chat_template(folder) is not None:
        return
    if source.path is None and not (folder / TOKENIZER).is_file():
        return
    if not source.adapter:
        require_instruct(without_template(source.name), task, request.accept_findings)
    given = request.training.get("chat_template_path")
    if "messages" in dataset.format and not given:
        raise refusal("no_chat_template", model=source.name, dataset=dataset.path)


def without_template(name: str) -> str:
    """Return what a missing chat template tells of a model."""
    return f"{name} has no chat template, so it is not instruction-tuned"


def require_instruct(observed: str, task: Task, accepted: Collection[str]) -> None:
    """Refuse preferences for a model that was observed to be no instruct model."""
    if task in {"dpo", "kto"} and "dpo_before_sft" not in accepted:
        raise refusal("raw_base_model", observed=observed)


def require_layers(source: ModelSource, peft: Mapping[str, Any]) -> list[str]:
    """Refuse target_modules of which the model has none, where its files are here.

    Returns:
        Warnings: names that are no layer beside others that are; PEFT ignores these.
    """
    if not source.path:
        return []
    targets = peft.get("target_modules")
    if targets in ("", []) and not peft.get("target_parameters"):
        raise refusal("no_target_modules")
    names = model_folder.layers(Path(source.path))
    if not names or not targets or targets == "all-linear" or peft.get("target_parameters"):
        return []
    if isinstance(targets, str):
        # A text is a pattern, an entry of a list a name.
        try:
            absent = [] if any(re.fullmatch(targets, name) for name in names) else [targets]
        except re.error as error:
            raise refusal("not_a_pattern", pattern=targets, error=error) from None
    else:
        dotted = [f".{name}" for name in names]
        absent = [t for t in targets if not any(name.endswith(f".{t}") for name in dotted)]
    if not absent:
        return []
    # The names come from the model's author: only plain ones are shown.
    last = {name.rpartition(".")[2] for name in names}
    plain = sorted(name for name in last if PLAIN_NAME.fullmatch(name) and "norm" not in name)
    known = ", ".join(plain[:MOST_NAMES])
    problem = f"peft.target_modules: the model has no layer {', '.join(map(repr, absent))}"
    if not isinstance(targets, str) and len(absent) < len(targets):
        return [warning("layers_missing", problem=problem, known=known)]
    raise refusal("unknown_layers", problem=problem, known=known)
