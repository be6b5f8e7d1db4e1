"""What an adapter is put on: the same modules in a suggestion, a plan, a worker and an export."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ft_tools.errors import BadInput, FineTuningError
from ft_tools.models.shape import ALL_LINEAR, ModelShape, is_named, last_name
from ft_tools.models.shape_of_model import shape_of


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
    paths = {linear.name for block in shape.blocks for linear in block.linears}
    kept = {linear.name for block in shape.blocks for linear in block.adapted}
    shared = {path for path in paths - kept if last_name(path) in shape.taken_names}
    if not shape.is_described:
        names = tuple(linear.name for linear in shape.blocks[0].adapted)
        # A tower has layers of the same names.
        inside = rf"{re.escape(shape.stack)}\.\d+\.(.+\.)?({'|'.join(names)})"
        return Targets(inside if shape.excluded else names, names, _names(shared))
    names = tuple(dict.fromkeys(last_name(path) for path in sorted(kept)))
    left = {last_name(path) for path in paths - kept}
    modules: str | tuple[str, ...] = names
    # A tower's layer of the same name may be of a class that PEFT refuses, as in Gemma 4.
    if left & set(names) or shape.outer_linears:
        either = "|".join(re.escape(path) for path in sorted(kept))
        modules = rf"{re.escape(shape.stack)}\.\d+\.({either})"
    return Targets(modules, names, _names(shared))


def adaptable_arguments(model: str, peft: dict[str, Any]) -> dict[str, Any]:
    """Put the modules that "all-linear" means in this model into arguments of peft.LoraConfig.

    Returns:
        The same arguments where modules are named, or the model's shape cannot be found out.

    Raises:
        BadInput: The model has no such fused experts as `target_parameters` names.
    """
    named = peft.get("target_parameters") or ()
    parameters = (named,) if isinstance(named, str) else tuple(named)
    is_open = peft.get("target_modules") == ALL_LINEAR and "exclude_modules" not in peft
    if not is_open and not parameters:
        return peft
    try:
        shape = shape_of(model)
    except FineTuningError:
        return peft
    require_experts(shape, parameters)
    return peft | peft_arguments(shape) if is_open else peft


def require_experts(shape: ModelShape, parameters: tuple[str, ...]) -> None:
    """Refuse names of fused experts that a model does not have.

    Raises:
        BadInput: With those that it has.
    """
    there = {linear.name for block in shape.blocks for linear in block.experts}
    absent = [name for name in parameters if not any(is_named(path, [name]) for path in there)]
    if not absent:
        return
    known = f"it has {', '.join(sorted(there))}" if there else "it has none"
    cure = "use some of them" if there else "remove target_parameters"
    raise BadInput(
        f"target_parameters {', '.join(absent)}: {shape.name} ({shape.model_type}) has no such "
        f"fused experts; {known}; {cure}"
    )


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
) -> dict[str, Any]:
    """Return the arguments of peft.LoraConfig that adapt what was asked for in this model.

    "all-linear" stays where PEFT means the same by it; elsewhere the modules are named: PEFT would
    add routers and fused experts, or layers outside the blocks.
    """
    if target_modules != ALL_LINEAR:
        return {"target_modules": target_modules}
    if not shape.peft_agrees:
        modules = default_targets(shape).modules
        return {"target_modules": modules if isinstance(modules, str) else list(modules)}
    excluded = {"exclude_modules": shape.excluded} if shape.excluded else {}
    return {"target_modules": ALL_LINEAR, **excluded}


def _names(paths: set[str]) -> tuple[str, ...]:
    return tuple(sorted(paths))
