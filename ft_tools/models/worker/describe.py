"""Read a model's shape off its real class: what it is made of, and what PEFT adapts of it."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import transformers_weight_conversion as conversion
from torch import nn
from transformers.pytorch_utils import Conv1D

from ft_tools.models.shape import Block, Linear, ModelShape, adapted_of, last_name
from ft_tools.models.worker.build import build, stack_of, text_path

RANK = 16
# Parameters of state-space and linear-attention layers: decay, time step, skip.
STATE = {"A_log", "dt_bias", "D"}
# PEFT refuses these modules in models with Mamba blocks, whose kernels read their weights directly.
# Source: peft 0.21.2, tuners/tuners_utils.py
NO_OUT_PROJ = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
# Its every linear layer is a subclass of its own, with nn.Linear's own way to multiply.
OWN_LINEARS = {"falcon"}
OUTSIDE = -1
"""The place of what stands in no block."""


@dataclass
class Group:
    """Blocks of the same classes and parameters."""

    first: int
    kind: str
    params: int
    expert_params: int
    count: int = 0


def answer(raw: dict[str, Any]) -> dict[str, Any]:
    """Describe a model from its config.json.

    Returns:
        The fields of a `ModelShape`, but for its name and config.

    Raises:
        NotBuilt: The installed transformers cannot build it.
    """
    _, model = build(raw)
    stack, blocks = stack_of(model)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    vocab, width = embedding.weight.shape
    linears = {
        name: module
        for name, module in model.named_modules()
        if type(module) in {nn.Linear, Conv1D} and module is not head
    }
    excluded = _excluded(model, linears)
    config = model.config.get_text_config(decoder=True)
    text, total = text_path(model), sum(parameter.numel() for parameter in model.parameters())
    is_tied = head is None or head.weight is embedding.weight
    kinds, outside, peft_agrees = _matrices(model, linears, blocks, excluded)
    inside = sum(block.count * block.params for block in kinds)
    sizes = _sizes(config)
    hidden, heads = sizes.get("hidden_size", width), sizes.get("num_heads", 1)
    has_experts = any(block.expert_params for block in kinds)
    shape = ModelShape(
        name="",
        model_type=config.model_type,
        num_layers=max(1, sum(block.count for block in kinds)),
        hidden_size=hidden,
        intermediate_size=sizes.get("intermediate_size", 4 * hidden),
        num_heads=heads,
        num_kv_heads=sizes.get("num_kv_heads", heads),
        head_dim=sizes.get("head_dim", max(1, hidden // heads)),
        vocab_size=vocab,
        tied=is_tied,
        gated=True,
        num_norms=2,
        normed_width=0,
        num_experts=sizes.get("num_experts", 0) if has_experts else 0,
        experts_per_token=sizes.get("experts_per_token", 1) if has_experts else 0,
        outer_params=total - inside - (0 if is_tied else vocab * width) - vocab * hidden,
        max_positions=sizes.get("max_positions"),
        notes=tuple(_notes(model, text)),
        blocks=kinds,
        is_described=True,
        outer_linears=outside[0],
        outer_adapted=outside[1],
        peft_agrees=peft_agrees,
        text_path=text,
        stack=stack,
        excluded=excluded,
        has_sdpa=bool(model._supports_sdpa),
    )
    return shape.model_dump(mode="json", exclude={"name", "config"})


def _notes(model: nn.Module, text: str) -> list[str]:
    notes = [f"shape read off transformers' {type(model).__name__}"]
    if text not in {"", "model", "transformer", "backbone"}:
        notes.append("multimodal: the other towers are loaded, stay frozen and see no input")
    return notes


def _matrices(
    model: Any, linears: dict[str, Any], blocks: list[nn.Module], excluded: str
) -> tuple[tuple[Block, ...], tuple[tuple[Linear, ...], tuple[Linear, ...]], bool]:
    """Return each kind of block, all linear layers outside and those that PEFT adapts there.

    Also whether PEFT's own "all-linear" adapts just what ours does. PEFT comes last: it puts
    modules of its own around these.
    """
    stack, groups = stack_of(model)[0], kinds_of(blocks)
    firsts = {group.first: index for index, group in enumerate(groups)}
    in_block = re.compile(rf"{re.escape(stack)}\.(\d+)\.(.+)")

    def place_of(name: str) -> tuple[int | None, str]:
        """Return the group of blocks, OUTSIDE or None for a block like another; and the name."""
        found = in_block.fullmatch(name)
        return (firsts.get(int(found[1])), found[2]) if found else (OUTSIDE, name)

    own: dict[int, list[Linear]] = defaultdict(list)
    for name, module in linears.items():
        place, short = place_of(name)
        if place is not None:
            out, width = module.weight.shape
            if isinstance(module, Conv1D):
                out, width = width, out
            own[place].append(Linear(short, out, width, module.bias is not None))
    experts = {index: _fused_experts(blocks[group.first]) for index, group in enumerate(groups)}
    unadapted = {index: _unadapted(blocks[group.first]) for index, group in enumerate(groups)}
    former = _former_names(model.config.model_type)
    theirs: dict[int, list[Linear]] = defaultdict(list)
    converted: dict[int, list[Linear]] = defaultdict(list)
    for name, (d_out, d_in, copies) in _adapted(model, excluded):
        place, short = place_of(name)
        if place is None:
            continue
        if name in linears:
            theirs[place].append(Linear(short, d_out, d_in))
            continue
        names = next((names for end, names in former.items() if short.endswith(end)), [])
        for one in names:
            converted[place].append(Linear(one, d_out, d_in, copies=copies // len(names)))
    taken = {last_name(linear.name) for group in converted.values() for linear in group}
    pattern = re.compile(excluded) if excluded else None

    def is_excluded(name: str) -> bool:
        return bool(pattern and pattern.fullmatch(f"{stack}.0.{name}"))

    kinds = tuple(
        Block(
            kind=group.kind,
            count=group.count,
            params=group.params,
            expert_params=group.expert_params,
            linears=tuple(own[index]),
            adapted=adapted_of(own[index], is_excluded=is_excluded, taken=taken),
            experts=tuple(experts[index]),
            unadapted=tuple(unadapted[index]),
            converted=tuple(converted[index]),
        )
        for index, group in enumerate(groups)
    )
    agrees = not theirs[OUTSIDE] and all(
        {m.name for m in block.adapted} == {m.name for m in theirs[index]} and not block.converted
        for index, block in enumerate(kinds)
    )
    return kinds, (tuple(own[OUTSIDE]), tuple(theirs[OUTSIDE])), agrees


def _former_names(model_type: str) -> dict[str, list[str]]:
    """Return what PEFT calls the fused experts and the router: parameter -> former modules."""
    pattern = conversion._MODEL_TO_CONVERSION_PATTERN.get(model_type, "")
    names: dict[str, list[str]] = defaultdict(list)
    for old, new in conversion._MOE_TARGET_MODULE_MAPPING.get(pattern, {}).items():
        names[f".{new}"].append(old)
    return names


def _fused_experts(block: nn.Module) -> list[Linear]:
    """Return the experts that are one parameter, in which each has a matrix of its own."""
    found = []
    for path, module in block.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_stack = parameter.dim() == 3 and "Conv" not in type(module).__name__
            if is_stack and parameter.shape[1] > 1:
                count, out, width = parameter.shape
                if getattr(module, "is_transposed", False):
                    out, width = width, out
                found.append(Linear(f"{path}.{name}", out, width, copies=count))
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


def kinds_of(blocks: list[nn.Module]) -> list[Group]:
    """Put blocks of the same parameters together; a shared parameter counts where it is first."""
    seen: set[int] = set()
    groups: dict[tuple[Any, ...], Group] = {}
    for index, block in enumerate(blocks):
        own = [(n, tuple(p.shape)) for n, p in block.named_parameters() if id(p) not in seen]
        seen |= {id(parameter) for parameter in block.parameters()}
        kind = "+".join(_kinds(block))
        params = sum(torch.Size(shape).numel() for _, shape in own)
        experts = sum(torch.Size(s).numel() for _, s in own if len(s) == 3 and s[1] > 1)
        key = (*sorted(own), kind)
        groups.setdefault(key, Group(index, kind, params, experts)).count += 1
    return list(groups.values())


def _kinds(block: nn.Module) -> list[str]:
    """Return the classes of a block's parts that have weights, norms left out."""
    parts = [
        type(part).__name__
        for part in block.children()
        if any(True for _ in part.parameters()) and "Norm" not in type(part).__name__
    ]
    return list(Counter(parts))


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


def _adapted(model: Any, excluded: str) -> list[tuple[str, tuple[int, int, int]]]:
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
        found.append((short, (d_out, d_in, ranks // RANK)))
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
