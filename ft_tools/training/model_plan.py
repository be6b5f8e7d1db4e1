"""Where the weights of a run come from: the model as a plan names it."""

import contextlib
import math
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput, FineTuningError, HubUnavailable, MissingExtra, NotFound
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource, pinned, resolve_model
from ft_tools.models.safetensors_headers import survey
from ft_tools.models.shape_of_model import config_of, shape_of
from ft_tools.publish import sha256
from ft_tools.runs.state import directory
from ft_tools.training.findings import refusal
from ft_tools.training.training_plan import ModelPlan


def source_of(model: str | None, sft_run: str | None = None) -> ModelSource:
    """Find a model, at the commit that the Hub has now if its weights are not on this machine.

    Where the Hub cannot be asked the plan goes without a commit. An SFT run may be named instead.
    """
    if sft_run is not None and (kind := directory.read_info(directory.find(sft_run)).kind) != "sft":
        raise refusal("not_an_sft_run", field="sft_run", run=sft_run, kind=kind)
    source = resolve_model(sft_run or model or "")
    try:
        return pinned(source)
    except HubUnavailable:
        return source


def model_plan(source: ModelSource, template_path: str | None) -> ModelPlan:
    """Describe a model as a plan keeps it."""
    folder = Path(source.path) if source.path else None
    base = source.name
    if source.run_id:
        lineage = directory.read_info(directory.find(source.run_id)).lineage
        base = lineage.get("base_model", source.name) if source.adapter else source.run_id
    elif source.adapter:
        base = source.load_from
    return ModelPlan(
        name=source.name,
        load_from=source.load_from,
        adapter=source.adapter,
        base_model=base,
        num_params=_num_params(source, folder),
        hidden_size=model_folder.hidden_size(folder) if folder else None,
        config_sha256=sha256(folder / "config.json") if folder else "",
        files_sha256=model_folder.content_hash([source.path, source.adapter]),
        revision=source.revision or "",
        template_sha256=_template_hash(source, template_path) if folder or template_path else "",
    )


def config_if_known(source: ModelSource) -> dict[str, Any]:
    """Return a model's config.json; empty where it cannot be found out."""
    with contextlib.suppress(FineTuningError):
        return config_of(source.load_from)
    return {}


def _num_params(source: ModelSource, folder: Path | None) -> int | None:
    """Count the parameters in the weights' headers, or by config.json; None if neither is there."""
    if folder and any(folder.glob("*.safetensors")):
        return sum(math.prod(held.shape) for held in survey(folder).values())
    try:
        return shape_of(source.load_from).total_params
    except (BadInput, NotFound, MissingExtra):
        return None


def _template_hash(source: ModelSource, template_path: str | None) -> str:
    folder = model_folder.tokenizer_folder(source.adapter, source.load_from)
    return model_folder.template_hash(Path(folder), template_path)
