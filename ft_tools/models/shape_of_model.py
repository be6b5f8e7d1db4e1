"""The shape of the model that an argument names: run, folder, cache, catalog, or the Hub."""

import json
from pathlib import Path
from typing import Any

from ft_tools import facts, workspace
from ft_tools.errors import BadData, BadInput, NotFound, UnknownName
from ft_tools.models import hub, library_process, other_names
from ft_tools.models.config import OWN_SIZES, has_row, shape_from_config
from ft_tools.models.families import FAMILIES
from ft_tools.models.quantized import prequantized
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.models.shape import ModelShape
from ft_tools.models.shape_of_class import described_shape
from ft_tools.runs.state.directory import RUN_ID

MAX_CONFIG_BYTES = 2**20
BNB_4BIT = {"quant_method": "bitsandbytes", "load_in_4bit": True}


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
    return shape.model_copy(update={"quantized": found.kind}) if found else shape


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
    row = other_names.row(hub_id)
    if row is not None:
        quantized = {"quantization_config": BNB_4BIT} if other_names.is_four_bit(hub_id) else {}
        return row.config | quantized
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
    try:
        config: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadData(path, "is not JSON", "download the model's config.json again") from error
    if not isinstance(config, dict):
        raise BadData(path, "is not a JSON object", "pass the model's config.json")
    if not isinstance(config.get("model_type", ""), str):
        raise BadData(path, "has a model_type that is no string", "pass the model's config.json")
    return config
