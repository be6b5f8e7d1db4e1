"""The shape of the model that an argument names: run, folder, cache, catalog, or the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft_tools import facts, workspace
from ft_tools.errors import BadData, BadInput, NotFound, UnknownName, brief
from ft_tools.models import hub, library_process, model_folder, other_names
from ft_tools.models.config import OWN_SIZES, has_row, shape_from_config
from ft_tools.models.families import FAMILIES
from ft_tools.models.quantized import prequantized
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.models.shape import ModelShape
from ft_tools.runs.processes.answers import Unanswered
from ft_tools.runs.state.directory import RUN_ID

MAX_CONFIG_BYTES = 2**20
WORKER = "ft_tools.models.worker.describe"
SECONDS = 45.0


def shape_of(model: str) -> ModelShape:
    """Find a model's shape without its weights.

    Args:
        model: A folder or config.json of the workspace, a run id (then the shape is that of its
            base model), a name of the catalog, or any Hub id.

    Raises:
        UnknownName: Neither this machine, nor the catalog, nor the Hub knows it.
        NotFound: No such folder or run.
        BadInput: The family is none that is known, or a size is missing.

    >>> shape_of("meta-llama/Meta-Llama-3-8B").lora_params(rank=16)
    41943040
    """
    return shape_of_config(config_of(model), model)


def shape_of_config(config: dict[str, Any], name: str) -> ModelShape:
    """Return the shape that a config.json describes: by its family's row, else by its class.

    Without the libraries that build a class, a multimodal model is sized by its language model.

    Raises:
        FineTuningError: As `shape_of`.
    """
    text = config.get("text_config")
    has_text_row = isinstance(text, dict) and text.get("model_type") in FAMILIES
    if has_row(config) or (has_text_row and not library_process.is_installed()):
        shape = shape_from_config(config, name)
    else:
        shape = described_shape(config, name)
    found = prequantized(config)
    return shape.model_copy(update={"quantized": found}) if found else shape


def config_of(model: str) -> dict[str, Any]:
    """Return the config.json that a model argument names, as far as it fixes the shapes.

    Raises:
        FineTuningError: As `shape_of`.
    """
    if model.endswith(".json"):
        return _read(workspace.existing(model))
    source = _source(model)
    if source.path is not None:
        return _read(Path(source.path) / "config.json")
    return _config_of_hub_id(source.load_from)


def _config_of_hub_id(hub_id: str) -> dict[str, Any]:
    if kept := hub.cached(hub_id):
        return _read(kept[0] / "config.json")
    if row := other_names.row(hub_id):
        return row.config
    return _read(hub.snapshot(hub_id) / "config.json")


def _source(model: str) -> ModelSource:
    try:
        source = resolve_model(model)
    except NotFound as error:
        if RUN_ID.fullmatch(model) or model.startswith((".", "/")):
            raise
        cure = f"pass an id of the Hub (owner/name), a folder with a config.json, or {OWN_SIZES}"
        raise UnknownName("model", model, facts.models(), cure) from error
    if source.kind == "gguf":
        raise BadInput(
            f"{source.name} is a GGUF file, which cannot be trained; pass its source model"
        )
    return source


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFound(f"{path} does not exist; pass a model folder, or a config.json")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise BadData(path, "is too large for a config.json", "pass the model's config.json")
    config = model_folder.read_object(path)
    if not isinstance(config.get("model_type"), str):
        raise BadData(path, "has no model_type", "pass the model's config.json")
    return config


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
