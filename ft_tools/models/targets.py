"""What an adapter is put on: the same modules in a suggestion, a plan, a worker and an export."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ft_tools.errors import FineTuningError
from ft_tools.models.catalog import shape_of
from ft_tools.models.shape import ALL_LINEAR, ModelShape

# PEFT turns a list with one of these names into adapters over all fused experts, in the families
# whose experts were modules before transformers 5.
# Source: peft 0.21.2, utils/transformers_weight_conversion.py
BECOME_EXPERTS = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "gate"}
# They choose experts or gate a shared one; trained on little data, the choice collapses.
# Source: https://huggingface.co/docs/peft/package_reference/lora, "router" in MoE recipes
ROUTERS = {"gate", "router", "shared_expert_gate", "router.proj"}


@dataclass(frozen=True)
class Targets:
    """Which linear layers of a model's blocks are adapted, and which are not."""

    modules: str | tuple[str, ...]
    """For peft.LoraConfig's target_modules: names, or one regular expression over whole paths."""
    names: tuple[str, ...]
    """The same modules, by name."""
    frozen_shared: tuple[str, ...]
    """Dense layers that PEFT would turn into adapters over experts if they were named."""


def default_targets(shape: ModelShape) -> Targets:
    """Return every linear layer of the language model's blocks that an adapter can be put on.

    Fused experts and routers are left alone, and what stands outside the blocks: vision and audio
    towers, which a text never passes.
    """
    if not shape.blocks:
        names = tuple(linear.name for linear in shape.linears)
        return Targets(names, names, ())
    allowed = re.compile(shape.excluded) if shape.excluded else None
    paths = {linear.name for block in shape.blocks for linear in block.linears}
    paths = {p for p in paths if not (allowed and allowed.fullmatch(f"{shape.stack}.0.{p}"))}
    last = {path: path.rpartition(".")[2] for path in sorted(paths)}
    routers = {p for p, name in last.items() if name in ROUTERS or p.endswith("router.proj")}
    converted = any(m.copies > 1 for block in shape.blocks for m in block.adapted)
    shared = {p for p, name in last.items() if converted and name in BECOME_EXPERTS} - routers
    kept = paths - routers - shared
    names = tuple(dict.fromkeys(last[path] for path in sorted(kept)))
    left = {last[path] for path in paths - kept}
    left |= {linear.name.rpartition(".")[2] for linear in shape.outer_linears}
    modules: str | tuple[str, ...] = names
    if left & set(names):
        either = "|".join(re.escape(path) for path in sorted(kept))
        modules = rf"{re.escape(shape.stack)}\.\d+\.({either})"
    return Targets(modules, names, _names(shared))


def adaptable_arguments(model: str, peft: dict[str, Any]) -> dict[str, Any]:
    """Add to arguments of peft.LoraConfig what "all-linear" has to leave out of this model.

    Returns:
        The same arguments where modules are named, or the model's shape cannot be found out.
    """
    if peft.get("target_modules") != ALL_LINEAR or "exclude_modules" in peft:
        return peft
    try:
        shape = shape_of(model)
    except FineTuningError:
        return peft
    return peft | peft_arguments(shape)


def named_targets(model: str, peft: Mapping[str, Any]) -> str | list[str]:
    """Return what is adapted in a form for programs that cannot exclude modules.

    Returns:
        Names, or one regular expression; as given where nothing is excluded, or the model's shape
        cannot be found out.
    """
    targets = peft["target_modules"]
    if targets == ALL_LINEAR and "exclude_modules" in peft:
        with contextlib.suppress(FineTuningError):
            targets = default_targets(shape_of(model)).modules
    return targets if isinstance(targets, str) else list(targets)


def peft_arguments(
    shape: ModelShape, target_modules: str | tuple[str, ...] = ALL_LINEAR
) -> dict[str, object]:
    """Return the arguments of peft.LoraConfig that adapt what was asked for in this model.

    "all-linear" leaves out what this model's class cannot adapt, and its towers.
    """
    arguments: dict[str, object] = {"target_modules": target_modules}
    if target_modules == ALL_LINEAR and shape.excluded:
        arguments["exclude_modules"] = shape.excluded
    return arguments


def _names(paths: set[str]) -> tuple[str, ...]:
    return tuple(sorted(paths))
