"""What arguments demand beside themselves: others, a package, a layer of that name.

The trainer finds each of these only after the model is loaded, on a machine that is paid for.
"""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput
from ft_tools.formats.trl_formats import PLAIN_NAME
from ft_tools.models import model_folder
from ft_tools.training.checks import known_arguments
from ft_tools.training.request import TrainingRequest

# Source: transformers 5.24, optimization.py: what each of these raises without.
SCHEDULES: dict[str, tuple[tuple[str, ...], str]] = {
    "cosine_with_min_lr": (("min_lr", "min_lr_rate"), '{"min_lr_rate": 0.1}'),
    "cosine_warmup_with_min_lr": (("min_lr", "min_lr_rate"), '{"min_lr_rate": 0.1}'),
    "warmup_stable_decay": (("num_decay_steps",), '{"num_decay_steps": 10}'),
}
# Beginning of a name -> module, package. Source: transformers 5.24, trainer_optimizer.py.
OPTIMIZERS = {
    "galore_": ("galore_torch", "galore-torch"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "adalomo": ("lomo_optim", "lomo-optim"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "schedule_free_": ("schedulefree", "schedulefree"),
    "apollo_": ("apollo_torch", "apollo-torch"),
    "stable_adamw": ("optimi", "torch-optimi"),
}
MOST_NAMES = 20
# Source: peft 0.21.2, tuners/lora/layer.py, ParamWrapper
NOT_OVER_EXPERTS = ("lora_dropout", "use_dora", "lora_bias", "fan_in_fan_out")


def require_company(peft: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Refuse arguments whose companions are missing.

    Raises:
        BadInput: With the companion to pass, or what to leave out.
    """
    _experts(peft)
    _optimizer(training)
    _schedule(training)
    if training.get("padding_free") and not training.get("packing") and training.get("max_length"):
        raise BadInput(
            "training.padding_free without packing cuts nothing at max_length; use packing=true, "
            "which pads nothing either"
        )
    if training.get("sync_ref_model") and training.get("precompute_ref_log_probs"):
        raise BadInput(
            "training.precompute_ref_log_probs keeps the reference that sync_ref_model changes; "
            "remove one of them"
        )
    if peft.get("layers_to_transform") is not None and isinstance(peft["target_modules"], str):
        raise BadInput(
            "peft.layers_to_transform needs target_modules as a list of names, such as "
            '["q_proj", "v_proj"]'
        )


def _experts(peft: Mapping[str, Any]) -> None:
    """Refuse what PEFT does not have over fused experts."""
    names = peft.get("target_parameters")
    if not names:
        return
    if not isinstance(names, list | tuple):
        raise BadInput(f'peft.target_parameters={names!r}: give a list, ["experts.down_proj"]')
    others = [k for k in NOT_OVER_EXPERTS if peft.get(k)]
    if others:
        raise BadInput(
            f"peft.{others[0]}={peft[others[0]]!r} does not work with target_parameters, whose "
            "adapters change a whole stack of experts; remove one of the two"
        )


def require_packages(request: TrainingRequest, training: Mapping[str, Any]) -> None:
    """Refuse what needs a package that is not on this machine, for a run on it.

    Raises:
        BadInput: With what to install.
    """
    wanted = {"training.use_liger_kernel": ("liger_kernel", "liger-kernel")}
    if not training.get("use_liger_kernel"):
        wanted = {}
    optimizer = training.get("optim", "")
    for beginning, needed in OPTIMIZERS.items():
        if optimizer.startswith(beginning):
            wanted[f"training.optim={optimizer!r}"] = needed
    for what, (module, package) in wanted.items():
        if request.is_here and importlib.util.find_spec(module) is None:
            raise BadInput(f"{what} needs {package}: pip install {package}, or remove it")


def require_layers(folder: Path, peft: Mapping[str, Any]) -> list[str]:
    """Refuse target_modules of which the model has none.

    Args:
        folder: The base model's.
        peft: Of peft.LoraConfig.

    Returns:
        Warnings: names that are no layer, beside others that are.

    Raises:
        BadInput: None is named, or none that the model has; with the layers that there are.
    """
    targets = peft.get("target_modules")
    if targets in ("", []) and not peft.get("target_parameters"):
        raise BadInput(
            "peft.target_modules is empty, so nothing would be trained; give a list of names, or "
            '"all-linear"'
        )
    names = model_folder.layers(folder)
    if not names or not targets or targets == "all-linear" or peft.get("target_parameters"):
        return []
    one_by_one = [targets] if isinstance(targets, str) else list(targets)
    absent = [target for target in one_by_one if not _names_a_layer(targets, target, names)]
    if not absent:
        return []
    # The names are those of whoever made the model: only what looks like one is said.
    last = {name.rpartition(".")[2] for name in names}
    plain = sorted(name for name in last if PLAIN_NAME.fullmatch(name) and "norm" not in name)
    known = ", ".join(plain[:MOST_NAMES])
    said = f"peft.target_modules: the model has no layer {', '.join(map(repr, absent))}"
    if len(absent) < len(one_by_one):
        return [f"{said}, so nothing is trained there; its layers: {known}"]
    cure = 'give a list of names, or "all-linear"'
    raise BadInput(f"{said}; {cure}; its layers: {known}")


def _names_a_layer(targets: Any, target: str, names: list[str]) -> bool:
    """Tell whether PEFT would find a layer: a text is a pattern, an entry of a list a name."""
    if isinstance(targets, str):
        try:
            return any(re.fullmatch(target, name) for name in names)
        except re.error as error:
            raise BadInput(
                f"peft.target_modules={target!r} is not a valid regular expression ({error})"
            ) from None
    return any(name == target or name.endswith(f".{target}") for name in names)


def _optimizer(training: Mapping[str, Any]) -> None:
    optimizer, known = training.get("optim"), known_arguments.optimizers()
    if optimizer is not None and optimizer not in known:
        raise BadInput(f"training.optim={optimizer!r}; known: {', '.join(sorted(known))}")


def _schedule(training: Mapping[str, Any]) -> None:
    name = training.get("lr_scheduler_type", "")
    options, example = SCHEDULES.get(name, ((), ""))
    given = training.get("lr_scheduler_kwargs") or {}
    if options and not any(option in given for option in options):
        raise BadInput(
            f"training.lr_scheduler_type={name!r} needs {' or '.join(options)} in "
            f"lr_scheduler_kwargs, such as {example}"
        )
