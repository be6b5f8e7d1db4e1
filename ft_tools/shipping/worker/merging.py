"""Fold a LoRA adapter into its base.

Each file of the base is copied, and the weights that change are rewritten in the copy one after the
other, so that a merge needs memory for a weight, not for the model; where an adapter cannot be
merged that way, PEFT does it with the model in memory. The delta is computed in float32 and the sum
is rounded once, to the base's own dtype.
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoTokenizer

from ft_tools.errors import BadData, BadInput
from ft_tools.models import safetensors_headers
from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import free_memory, load
from ft_tools.shipping.adapter import LORA_A, LORA_B, MAGNITUDE, read_config, target_of
from ft_tools.shipping.published_config import as_published

CONFIG_FILES = ("config.json", "generation_config.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
)
# transformers 5 saves tokenizer.json only; llama.cpp's converter reads SentencePiece's own file.
SENTENCEPIECE = ("tokenizer.model", "spiece.model")


def merge_by_shards(base: Path, adapter: Path, into: Path, stop: Callable[[], None]) -> None:
    """Write the merged model, one weight at a time.

    Raises:
        BadInput: The adapter changes a weight that the base does not have.
    """
    config = read_config(adapter)
    deltas = group_by_target(load_file(adapter / safetensors_headers.ADAPTER))
    copy_whole(base, into)
    for file in safetensors_headers.weight_files(into):
        with file.open("r+b") as stream:
            for name, held in safetensors_headers.survey_file(file).items():
                change = deltas.pop(name, None)
                if change is None:
                    continue
                stop()
                merged = fold(weight_of(base / file.name, name), change, name, config)
                stream.seek(held.start)
                stream.write(merged.contiguous().view(torch.uint8).numpy().data)
    if deltas:
        raise BadInput(f"the base has no {next(iter(deltas))}, which the adapter changes")


def weight_of(file: Path, name: str) -> torch.Tensor:
    """Return a weight of a file, which is opened for it alone: what was read stays mapped."""
    with safe_open(file, framework="pt") as shard:
        weight: torch.Tensor = shard.get_tensor(name)
    return weight


def group_by_target(held: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Sort an adapter's tensors by the base weight they change."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in held.items():
        role = next((s for s in (LORA_A, LORA_B, MAGNITUDE) if name.endswith(s)), "whole")
        groups.setdefault(target_of(name) or name, {})[role] = tensor
    return groups


def fold(
    weight: torch.Tensor, change: dict[str, torch.Tensor], name: str, config: dict[str, Any]
) -> torch.Tensor:
    """Return a base weight with its change folded in, in the weight's own dtype.

    LoRA: W + s B A, with s = alpha / r, or alpha / sqrt(r) for rsLoRA. DoRA: the same, each row
    scaled to the length it learned. Shapes: W (d_out, d_in), A (r, d_in), B (d_out, r).

    Source: https://arxiv.org/abs/2106.09685, https://arxiv.org/abs/2312.03732,
    https://arxiv.org/abs/2402.09353
    """
    if "whole" in change:
        return change["whole"].to(weight.dtype)
    a, b = change[LORA_A].float(), change[LORA_B].float()
    delta = scaling_of(name, change, config) * (b @ a)
    if config.get("fan_in_fan_out"):
        delta = delta.T
    merged = weight.float() + delta
    if MAGNITUDE in change:
        across = 0 if config.get("fan_in_fan_out") else 1
        length = torch.linalg.norm(merged, dim=across, keepdim=True)
        merged *= change[MAGNITUDE].float().unsqueeze(across) / length
    return merged.to(weight.dtype).contiguous()


def scaling_of(name: str, change: dict[str, torch.Tensor], config: dict[str, Any]) -> float:
    """Return s of `fold` for a weight, by the adapter's alpha and its patterns."""
    module, rank = name.removesuffix(".weight"), change[LORA_A].shape[0]
    patterns = config.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(patterns.keys(), module), config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def merge_whole(base: Path, adapter: Path, into: Path, place: Placement) -> None:
    """Merge through PEFT with the model loaded: resized vocabularies, tied embeddings, experts.

    Raises:
        BadData: The adapter has weights that are not finite.
    """
    adapted(base, adapter, place).merge_and_unload(safe_merge=True).save_pretrained(into)
    free_memory()


def adapted(
    base: Path, adapter: Path, place: Placement, quantization: Mapping[str, Any] | None = None
) -> Any:
    """Load a base with its adapter on top, with room for the tokens that it added.

    Raises:
        BadData: PEFT cannot put it there.
    """
    held = safetensors_headers.survey_file(adapter / safetensors_headers.ADAPTER)
    model = load(base, place, quantization=quantization)
    rows = model.get_input_embeddings().weight.shape[0]
    added = [
        t.shape[0] for n, t in held.items() if n.endswith(("embed_tokens.weight", "lm_head.weight"))
    ]
    if added and max(added) != rows:
        model.resize_token_embeddings(max(added), mean_resizing=False)
    try:
        return PeftModel.from_pretrained(model, adapter, torch_device=str(model.device)).eval()
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        problem = f"PEFT cannot put it on this base ({type(error).__name__})"
        cure = "check that base_model is the model it was trained on"
        raise BadData(adapter, problem, cure) from error


def copy_whole(source: Path, into: Path) -> None:
    """Copy a whole model's weights, as they are."""
    for file in safetensors_headers.weight_files(source):
        shutil.copyfile(file, into / file.name)
    if (source / safetensors_headers.INDEX).is_file():
        shutil.copyfile(source / safetensors_headers.INDEX, into / safetensors_headers.INDEX)


def tokenizer_folder(base: Path, adapter: Path | None) -> Path:
    """Return where the tokenizer is that was trained with: the adapter may have its own."""
    has_own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
    return adapter if adapter is not None and has_own else base


def copy_small_files(base: Path, adapter: Path | None, into: Path) -> None:
    """Put config and tokenizer beside the weights; the tokenizer is the one that was trained with.

    Nothing else is taken along: no code, no optimizer state, no logs.
    """
    for name in CONFIG_FILES:
        if (base / name).is_file() and not (into / name).exists():
            shutil.copyfile(base / name, into / name)
    origin = tokenizer_folder(base, adapter)
    for name in TOKENIZER_FILES:
        if (origin / name).is_file():
            shutil.copyfile(origin / name, into / name)
    for name in ("config.json", "tokenizer_config.json"):
        for_every_reader(into / name)
    for name in SENTENCEPIECE:
        if (base / name).is_file() and not (into / name).exists():
            shutil.copyfile(base / name, into / name)


def for_every_reader(path: Path) -> None:
    """Rewrite a config as other programs read it."""
    if not path.is_file():
        return
    config = json.loads(path.read_bytes())
    changed = as_published(config)
    if changed != config:
        path.write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")


def tokenizer_of(folder: Path) -> Any:
    """Load a folder's tokenizer; never with code of its own."""
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
