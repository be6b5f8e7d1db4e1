"""Read a model's shape off its real class: what it is made of, and what PEFT adapts of it."""

import re
from collections import Counter, defaultdict
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import transformers_weight_conversion as conversion
from torch import nn
from transformers.pytorch_utils import Conv1D

from ft_tools.models.worker.build import Hollow, build, stack_of, text_path

RANK = 16
# Parameters of state-space and linear-attention layers: decay, time step, skip.
STATE = {"A_log", "dt_bias", "D"}
# PEFT refuses these modules in models with Mamba blocks, whose kernels read their weights directly.
# Source: peft 0.21.2, tuners/tuners_utils.py
NO_OUT_PROJ = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
# Its every linear layer is a subclass of its own, with nn.Linear's own way to multiply.
OWN_LINEARS = {"falcon"}


def answer(raw: dict[str, Any]) -> dict[str, Any]:
    """Describe a model from its config.json.

    Returns:
        The fields of a `ModelShape` that a class has, not only a config.

    Raises:
        NotBuilt: The installed transformers cannot build it.
    """
    loader, model = build(raw)
    stack, blocks = stack_of(model)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    groups = kinds_of(blocks)
    linears = {
        name: module
        for name, module in model.named_modules()
        if type(module) in {nn.Linear, Conv1D} and module is not head
    }
    excluded = _excluded(model, linears)
    config = model.config.get_text_config(decoder=True)
    report = {
        "loader": loader,
        "class_name": type(model).__name__,
        "model_type": config.model_type,
        "text_path": text_path(model),
        "stack": stack,
        "total": _num_params(model),
        "vocab_size": embedding.weight.shape[0],
        "embedding_width": embedding.weight.shape[1],
        "tied": head is None or head.weight is embedding.weight,
        "has_sdpa": bool(model._supports_sdpa),
        "checkpointing": bool(model.supports_gradient_checkpointing),
        "excluded": excluded,
        "sizes": _sizes(config),
        "hollow": [m.is_counted for m in model.modules() if isinstance(m, Hollow)],
    }
    parts = [
        {
            "kind": "+".join(_kinds(blocks[group["first"]])),
            "count": group["count"],
            "params": group["params"],
            "expert_params": group["experts"],
        }
        for group in groups
    ]
    found = _matrices(model, linears, groups, blocks, excluded)
    report["blocks"] = [part | found[index] for index, part in enumerate(parts)]
    report["outside"] = dict(found[-1])
    return report


def _matrices(
    model: Any,
    linears: dict[str, Any],
    groups: list[dict[str, Any]],
    blocks: list[nn.Module],
    excluded: str,
) -> dict[int, dict[str, list[Any]]]:
    """Return the matrices of each kind of block, and outside (-1): all, experts, what PEFT adapts.

    PEFT comes last: it puts modules of its own around these.
    """
    places = _places(stack_of(model)[0], groups, blocks)
    found: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for name, module in linears.items():
        place, short = _place(name, places)
        if place is not None:
            out, width = module.weight.shape
            if isinstance(module, Conv1D):
                out, width = width, out
            found[place]["linears"].append((short, out, width, module.bias is not None, 1))
    for index, group in enumerate(groups):
        block = blocks[group["first"]]
        found[index]["experts"] = _fused_experts(block)
        found[index]["unadapted"] = _unadapted(block)
    former = _former_names(model.config.model_type)
    for name, shape in _adapted(model, excluded):
        place, short = _place(name, places)
        if place is None:
            continue
        if name in linears:
            found[place]["adapted"].append((short, *shape))
            continue
        names = next((names for end, names in former.items() if short.endswith(end)), [])
        for one in names:
            *sizes, copies = shape
            found[place]["converted"].append((one, *sizes, copies // len(names)))
    return found


def _former_names(model_type: str) -> dict[str, list[str]]:
    """Return what PEFT calls the fused experts and the router: parameter -> former modules."""
    pattern = conversion._MODEL_TO_CONVERSION_PATTERN.get(model_type, "")
    names: dict[str, list[str]] = defaultdict(list)
    for old, new in conversion._MOE_TARGET_MODULE_MAPPING.get(pattern, {}).items():
        names[f".{new}"].append(old)
    return names


def _fused_experts(block: nn.Module) -> list[tuple[str, int, int, bool, int]]:
    """Return the experts that are one parameter, in which each has a matrix of its own."""
    found = []
    for path, module in block.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_stack = parameter.dim() == 3 and "Conv" not in type(module).__name__
            if is_stack and parameter.shape[1] > 1:
                count, out, width = parameter.shape
                if getattr(module, "is_transposed", False):
                    out, width = width, out
                found.append((f"{path}.{name}", out, width, False, count))
    return found


def _unadapted(block: nn.Module) -> list[str]:
    """Return the parameters of state-space and linear-attention layers that no adapter can take.

    They are vectors, and convolutions that the model reads without calling the layer.
    """
    return [
        f"{path}.{name}"
        for path, module in block.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name in STATE or (isinstance(module, nn.Conv1d) and parameter.dim() == 3)
    ]


def _num_params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def kinds_of(blocks: list[nn.Module]) -> list[dict[str, Any]]:
    """Put blocks of the same parameters together; a shared parameter counts where it is first."""
    seen: set[int] = set()
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for index, block in enumerate(blocks):
        own = []
        for name, parameter in block.named_parameters():
            if id(parameter) not in seen:
                own.append((name, tuple(parameter.shape)))
        seen |= {id(parameter) for parameter in block.parameters()}
        kinds = tuple(_kinds(block))
        group = groups.setdefault(
            (*sorted(own), kinds),
            {
                "first": index,
                "count": 0,
                "params": sum(torch.Size(shape).numel() for _, shape in own),
                "experts": sum(torch.Size(s).numel() for _, s in own if len(s) == 3 and s[1] > 1),
                "members": set(),
            },
        )
        group["count"] += 1
        group["members"].add(index)
    return list(groups.values())


def _kinds(block: nn.Module) -> list[str]:
    """Return the classes of a block's parts that have weights, norms left out."""
    parts = [
        type(part).__name__
        for part in block.children()
        if any(True for _ in part.parameters()) and "Norm" not in type(part).__name__
    ]
    return list(Counter(parts))


def _places(stack: str, groups: list[dict[str, Any]], blocks: list[nn.Module]) -> dict[str, int]:
    """Return the group of each block that stands for its group, keyed by the block's path."""
    firsts = {group["first"]: index for index, group in enumerate(groups)}
    return {f"{stack}.{i}": firsts.get(i, -2) for i in range(len(blocks))}


def _place(name: str, places: dict[str, int]) -> tuple[int | None, str]:
    """Return a module's place: a group of blocks, or outside (-1); None in a block like another."""
    match = re.match(r"(.*?\.\d+)\.(.*)", name)
    while match:
        path, rest = match.groups()
        if path in places:
            return (None, "") if places[path] == -2 else (places[path], rest)
        match = re.match(rf"({re.escape(path)}\..*?\.\d+)\.(.*)", name)
    return -1, name


def _excluded(model: Any, linears: dict[str, nn.Module]) -> str:
    """Return what PEFT is to leave alone, as the regular expression that it matches names with.

    Towers that a text never passes, linear layers whose forward pass is another, and what PEFT
    refuses itself.
    """
    parts = []
    text = text_path(model)
    if any(not name.startswith(f"{text}.") for name in linears):
        parts.append(rf"(?!{re.escape(text)}\.).*")
    if model.config.get_text_config(decoder=True).model_type not in OWN_LINEARS:
        odd = {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and type(module) is not nn.Linear
        }
        odd = {name for name in odd if not any(n.endswith(f".{name}") for n in linears)}
        parts += [rf".*\.{name}" for name in sorted(odd)]
    if model.config.model_type in NO_OUT_PROJ:
        parts.append(r".*\.out_proj")
    return "|".join(parts)


def _adapted(model: Any, excluded: str) -> list[tuple[str, tuple[int, int, bool, int]]]:
    """Return what PEFT adapts by "all-linear": names, (d_out, d_in), and how often.

    A fused parameter of experts counts once for each of them, twice where PEFT doubles its rank.
    """
    config = LoraConfig(
        r=RANK, target_modules="all-linear", exclude_modules=excluded or None, task_type="CAUSAL_LM"
    )
    if not hasattr(model, "prepare_inputs_for_generation"):
        config.task_type = None
    with torch.device("meta"):
        adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    found = []
    for name, module in adapted.named_modules():
        a = getattr(module, "lora_A", {})
        if "default" not in a:
            continue
        ranks, d_in = a["default"].weight.shape
        d_out = module.lora_B["default"].weight.shape[0]
        short = name.removeprefix("base_model.model.").replace(".base_layer", "")
        parameter = getattr(module, "parameter_name", None)
        short = f"{short}.{parameter}" if parameter else short
        found.append((short, (d_out, d_in, False, ranks // RANK)))
    return found


def _sizes(config: Any) -> dict[str, int]:
    """Return the sizes that a formula needs, as far as the config has them as numbers."""
    keys = {
        "hidden_size": ("hidden_size",),
        "intermediate_size": ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size"),
        "num_heads": ("num_attention_heads",),
        "num_kv_heads": ("num_key_value_heads",),
        "head_dim": ("head_dim",),
        "num_experts": ("num_experts", "num_local_experts", "n_routed_experts"),
        "experts_per_token": ("num_experts_per_tok", "top_k_experts", "experts_per_token"),
        "max_positions": ("max_position_embeddings",),
    }
    sizes = {}
    for name, spellings in keys.items():
        for spelling in spellings:
            try:
                value = getattr(config, spelling, None)
            except Exception:  # a size that differs by block raises an error of its own
                value = None
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                sizes[name] = value
                break
    return sizes
