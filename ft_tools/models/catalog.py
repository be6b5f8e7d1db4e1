"""The shape of the model that an argument names: catalog, local folder, Hub cache or run."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from ft_tools import facts, workspace
from ft_tools.errors import BadData, BadInput, NotFound
from ft_tools.models.families import SHAPE_FIELDS, shape_from_config
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
        return _from_file(model, workspace.existing(model))
    if not (workspace.roots()[0] / model).exists() and facts.has_model(model):
        return _from_catalog(model)
    try:
        source = resolve_model(model)
    except NotFound as error:
        if RUN_ID.fullmatch(model) or model.startswith((".", "/")):
            raise
        facts.model(model)
        raise AssertionError from error  # has_model said no, so the line above has raised
    return _from_source(source)


@cache
def _from_catalog(model: str) -> ModelShape:
    return shape_from_config(facts.model(model).config, model)


def _from_source(source: ModelSource) -> ModelShape:
    if source.kind == "gguf":
        raise BadInput(
            f"{source.name} is a GGUF file, which is not trained; name the model it was made from"
        )
    if source.path is None:
        return _from_catalog(source.load_from)
    return _from_file(source.name, Path(source.path) / "config.json")


def _from_file(name: str, path: Path) -> ModelShape:
    if not path.is_file():
        raise NotFound(f"{path} is not there; name a model folder, or pass: {SHAPE_FIELDS}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise BadData(path, "is too large for a config.json", "name the model's config.json")
    try:
        config: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadData(path, "is not JSON", "download the model's config.json again") from error
    if not isinstance(config, dict):
        raise BadData(path, "is not a JSON object", "name the model's config.json")
    return shape_from_config(config, name)
