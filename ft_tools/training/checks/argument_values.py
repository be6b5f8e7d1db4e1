"""Values and combinations of arguments that would ruin a run; each refusal names its cure."""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from ft_tools.errors import BadInput, Refused
from ft_tools.formats.trl_formats import Task
from ft_tools.lora import init_weights
from ft_tools.runs.hardware.devices import Device
from ft_tools.training.checks import argument_dependencies
from ft_tools.training.checks.argument_tables import CHOICES
from ft_tools.training.checks.known_arguments import require_type

TRACKERS_VARIABLE = "FINE_TUNING_LLM_TRACKERS"
LOCAL_TRACKERS = {"tensorboard": "tensorboard", "trackio": "trackio"}
# Names of packages of the trackers that send data elsewhere; the operator has to allow each.
NETWORK_TRACKERS = {"wandb": "wandb", "mlflow": "mlflow", "comet_ml": "comet_ml"}
MODEL_ARGUMENTS = {"attn_implementation": "str", "use_kernels": "bool", "dtype": "str"}
DTYPES = ("float32", "bfloat16", "float16")


def require_arguments(
    task: Task, method: str, peft: Mapping[str, Any], training: Mapping[str, Any]
) -> None:
    """Refuse values and combinations that the trainer would refuse later, or take and ruin a run.

    Raises:
        BadInput: A value is none of the known ones, or two do not go together.
        Refused: A tracker sends data elsewhere and the operator has not allowed it.
    """
    for name, value in {**peft, **training}.items():
        known = CHOICES.get((task, name)) or CHOICES.get(("any", name))
        for one in value if isinstance(value, list) else [value]:
            if known and one is not None and one not in known:
                raise BadInput(f"{name}={one!r}; known: {', '.join(map(str, sorted(known)))}")
    if method != "full":
        init_weights.require_start(peft.get("init_lora_weights"), method)
        _targets(peft)
    argument_dependencies.require_company(peft, training)
    _trackers(training.get("report_to") or [])
    for name, value in (training.get("model_init_kwargs") or {}).items():
        if name not in MODEL_ARGUMENTS:
            allowed = ", ".join(sorted(MODEL_ARGUMENTS))
            raise BadInput(f"training.model_init_kwargs.{name} is not supported; known: {allowed}")
        require_type(f"training.model_init_kwargs.{name}", value, MODEL_ARGUMENTS[name])
        if name == "dtype" and value not in DTYPES:
            allowed = ", ".join(DTYPES)
            raise BadInput(
                f"training.model_init_kwargs.dtype={value!r}; known: {allowed}; left out, the plan "
                "chooses for the device"
            )
    if training.get("packing") and training.get("max_length") is None:
        raise BadInput("training.packing needs max_length: the length of a packed sequence")
    if task == "dpo":
        _preference_loss(training, method)


def require_number_format(method: str, device: Device, training: Mapping[str, Any]) -> None:
    """Refuse to train whole weights in numbers that float16's gradient scaler cannot take.

    Raises:
        BadInput: With what to remove.
    """
    asked = (training.get("model_init_kwargs") or {}).get("dtype")
    if method == "full" and device.precision == "float16" and asked in {"float16", "bfloat16"}:
        raise BadInput(
            f"training.model_init_kwargs.dtype={asked!r}: {device.model} computes in float16, "
            "whose gradients are scaled, and trained weights have to be float32; remove dtype"
        )


def require_steps(training: Mapping[str, Any]) -> None:
    """Refuse evaluations without a checkpoint.

    Raises:
        BadInput: `save_steps` is not a multiple of `eval_steps`.
    """
    evaluates, saves = training.get("eval_steps"), training.get("save_steps")
    if training.get("eval_strategy") == "steps" and evaluates and saves and saves % evaluates:
        raise BadInput(
            f"training.save_steps={saves:g} is not a multiple of eval_steps={evaluates:g}; the "
            "best model must have a checkpoint"
        )


def _targets(peft: Mapping[str, Any]) -> None:
    targets = peft.get("target_modules") or []
    if "lm_head" in ([targets] if isinstance(targets, str) else targets):
        raise BadInput(
            "peft.target_modules: TRL computes the loss from lm_head.weight directly, so an "
            'adapter on lm_head is never trained; remove it, or use modules_to_save=["lm_head"]'
        )


def _trackers(names: list[str]) -> None:
    allowed = {n for n in os.environ.get(TRACKERS_VARIABLE, "").split(",") if n}
    for name in names:
        package = LOCAL_TRACKERS.get(name) or NETWORK_TRACKERS.get(name)
        if package is None:
            known = ", ".join(sorted({*LOCAL_TRACKERS, *NETWORK_TRACKERS}))
            raise BadInput(f"training.report_to={name!r}; known: {known}")
        if name in NETWORK_TRACKERS and name not in allowed:
            raise Refused(
                f"training.report_to={name!r} sends the run's data to a server; who runs this "
                f"server allows it with {TRACKERS_VARIABLE}={name}. Without it: metrics.jsonl and "
                "report.html of the run, tensorboard or trackio"
            )
        if importlib.util.find_spec(package) is None:
            raise BadInput(
                f"training.report_to={name!r}: {package} is not installed; pip install {package}"
            )


def _preference_loss(training: Mapping[str, Any], method: str) -> None:
    losses = training.get("loss_type", ["sigmoid"])
    if not losses:
        raise BadInput("training.loss_type is empty; name a loss, or remove it for sigmoid")
    given = training.get("loss_weights")
    if given is not None and len(given) != len(losses):
        raise BadInput(
            f"training.loss_weights has {len(given)} numbers for {len(losses)} losses {losses!r}; "
            "give one each"
        )
    if "exo_pair" in losses and not training.get("label_smoothing"):
        raise BadInput(
            "training.loss_type=['exo_pair'] needs label_smoothing above 0; 1e-3 is usual"
        )
    divergence = training.get("f_divergence_type", "reverse_kl")
    allowed = CHOICES["dpo", "f_divergence_losses"]
    if divergence != "reverse_kl" and not set(losses) <= allowed:
        raise BadInput(
            f"training.f_divergence_type={divergence!r} works with {', '.join(sorted(allowed))}, "
            f"not with {losses!r}"
        )
    if training.get("use_weighting") and {"aot", "aot_unpaired"} & set(losses):
        raise BadInput("training.use_weighting does not work with the losses aot and aot_unpaired")
    if training.get("sync_ref_model") and method != "full":
        raise BadInput("training.sync_ref_model does not work with an adapter; remove it")
