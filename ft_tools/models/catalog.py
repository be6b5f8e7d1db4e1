"""The shape of the model that an argument names: catalog, local folder, Hub cache or run."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from ft_tools import facts, workspace
from ft_tools.errors import BadData, BadInput, NotFound
from ft_tools.models.config import SHAPE_FIELDS, shape_from_config
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.models.shape import ModelShape
from ft_tools.runs.directory import RUN_ID

MAX_CONFIG_BYTES = 2**20


def shape_of(model: str) -> ModelShape:
    """Find a model's shape without its weights.

    Args:
        model: A name of the catalog, a folder or config.json of the workspace, a Hub id whose
            files are on this machine, or a run id (then the shape is that of its base model).

    Raises:
        UnknownName: A Hub id that neither the catalog nor this machine has.
        NotFound: No such folder or run.
        BadInput: The family is none that is known, or a size is missing.

    >>> shape_of("meta-llama/Meta-Llama-3-8B").lora_params(rank=16)
    41943040
    """
    if model.endswith(".json"):
        return shape_from_config(_read(workspace.existing(model)), model)
    if _is_catalogued(model):
        return _from_catalog(model)
    source = _source(model)
    return _from_catalog(source.load_from) if source.path is None else _from_source(source)


def config_of(model: str) -> dict[str, Any]:
    """Return the config.json that a model argument names, as far as it fixes the shapes.

    Raises:
        FineTuningError: As `shape_of`.
    """
    if model.endswith(".json"):
        return _read(workspace.existing(model))
    if _is_catalogued(model):
        return dict(facts.model(model).config)
    source = _source(model)
    if source.path is None:
        return dict(facts.model(source.load_from).config)
    return _read(Path(source.path) / "config.json")


@cache
def _from_catalog(model: str) -> ModelShape:
    return shape_from_config(facts.model(model).config, model)


def _is_catalogued(model: str) -> bool:
    return not (workspace.roots()[0] / model).exists() and facts.has_model(model)


def _source(model: str) -> ModelSource:
    try:
        source = resolve_model(model)
    except NotFound as error:
        if RUN_ID.fullmatch(model) or model.startswith((".", "/")):
            raise
        facts.model(model)
        raise AssertionError from error  # has_model said no, so the line above has raised
    if source.kind == "gguf":
        raise BadInput(
            f"{source.name} is a GGUF file, which cannot be trained; pass its source model"
        )
    return source


def _from_source(source: ModelSource) -> ModelShape:
    return shape_from_config(_read(Path(source.path or "") / "config.json"), source.name)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFound(f"{path} does not exist; pass a model folder, or the shapes: {SHAPE_FIELDS}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise BadData(path, "is too large for a config.json", "pass the model's config.json")
    try:
        config: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadData(path, "is not JSON", "download the model's config.json again") from error
    if not isinstance(config, dict):
        raise BadData(path, "is not a JSON object", "pass the model's config.json")
    return config
