"""The shape of a model that has no row among the families, read off its real class."""

from collections.abc import Mapping
from typing import Any

from ft_tools.errors import BadInput, UnknownName, brief
from ft_tools.models import library_process
from ft_tools.models.config import OWN_SIZES
from ft_tools.models.families import FAMILIES
from ft_tools.models.shape import ModelShape
from ft_tools.runs.processes.answers import Unanswered

WORKER = "ft_tools.models.worker.describe"
SECONDS = 45.0


def described_shape(config: Mapping[str, Any], name: str) -> ModelShape:
    """Build a model's class in a process of its own, without memory or weights, and count it.

    Takes some seconds once; the answer is kept.

    Raises:
        UnknownName: The installed transformers does not know the model_type.
        BadInput: The config is not valid, or the model is no language model.
        MissingExtra: The libraries that build it are not installed.
    """
    model_type = str(config.get("model_type", ""))
    ignored = ("_name_or_path", "auto_map", "quantization_config", "transformers_version")
    question = {key: value for key, value in config.items() if key not in ignored}
    try:
        if library_process.is_installed() and not library_process.may_know(model_type):
            raise Unanswered("unknown_model_type")
        answer = library_process.ask(WORKER, question, SECONDS)
    except Unanswered as error:
        raise _refusal(model_type, name, error, "auto_map" in config) from error
    return ModelShape.model_validate(answer | {"name": name, "config": question})


def _refusal(model_type: str, name: str, error: Unanswered, has_code: bool) -> BadInput:
    if error.kind == "unknown_model_type":
        code = "it needs code of its own, which is never run; " if has_code else ""
        cure = f"{code}upgrade transformers if a later version has it, or {OWN_SIZES}"
        return UnknownName("model_type", model_type, FAMILIES, cure)
    if error.kind == "timeout":
        return BadInput(
            f"{name} cannot be sized yet: this model is not built; ask again in a minute, or "
            f"{OWN_SIZES}"
        )
    model_type = brief(model_type)
    problem = {
        "bad_config": f"its config.json is not valid for a {model_type} model ({error.detail})",
        "no_causal_class": f"{model_type} is no model that generates text",
        "missing_package": f"transformers needs a package to build a {model_type} model, and says: "
        f"{error.detail}",
    }.get(error.kind, f"transformers could not build this {model_type} model ({error})")
    return BadInput(f"{name} cannot be sized: {problem}; check its config.json, or {OWN_SIZES}")
