"""Find out what a model argument names: a run, a local folder or file, or a name of the Hub."""

import json
import os
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ft_tools import workspace
from ft_tools.errors import BadInput, NotFound, OutsideWorkspace
from ft_tools.runs import directory

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")
NAME_THE_BASE = (
    "pass that model as `base_model` if the tool has it, or set base_model_name_or_path in its "
    "adapter_config.json"
)


class ModelSource(BaseModel):
    """Where a model's files are, and what has to be put together to run it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["hub", "folder", "adapter", "gguf"]
    path: str | None = None
    """Folder with config.json, or GGUF file; None for a Hub model that is not on this machine."""
    adapter: str | None = None
    """Folder with adapter_config.json, to be loaded over `path` or `name`."""
    base_name: str | None = None
    """Hub id of the base below an adapter, where its files are not on this machine."""
    run_id: str | None = None

    @property
    def load_from(self) -> str:
        """Return what `from_pretrained` takes for the base weights."""
        return self.path or self.base_name or self.name


def resolve_model(model: str, base: str | None = None) -> ModelSource:
    """Find what a model argument names.

    Tried in this order: a run id, a folder or GGUF file inside the workspace or the cache, a Hub id
    (whose files may be in this package's cache or the Hub's).

    Args:
        model: The argument.
        base: Where the model below an adapter is; None: where the adapter says.

    Raises:
        NotFound: The run has made no model, or the folder is not there.
        BadInput: It is none of these.
    """
    if directory.RUN_ID.fullmatch(model):
        return _from_run(model, base)
    if HUB_ID.fullmatch(model) and not (workspace.roots()[0] / model).exists():
        return ModelSource(name=model, kind="hub", path=_cached(model))
    try:
        path = workspace.existing(model)
    except OutsideWorkspace:
        path = Path(model).resolve()
        if not path.is_relative_to(workspace.cache_dir()):
            raise
    return _from_path(model, path, base)


def _from_run(run_id: str, base: str | None) -> ModelSource:
    run_dir = directory.find(run_id)
    info = directory.read_info(run_dir)
    for name in ("adapter", "model", "merged"):
        made = run_dir / "artifacts" / name
        if made.is_dir():
            source = _from_path(run_id, made, base or info.lineage.get("base_model"))
            return source.model_copy(update={"run_id": run_id})
    status = directory.read_status(run_dir)
    for artifact in status.artifacts:
        if artifact.kind == "model" and Path(artifact.path).is_dir():
            source = _from_path(run_id, Path(artifact.path))
            return source.model_copy(update={"run_id": run_id})
    raise NotFound(
        f"run {run_id} ({info.kind}, {status.state}) has no model yet; check it with get_run"
    )


def _from_path(name: str, path: Path, base: str | None = None) -> ModelSource:
    if path.is_file() and path.suffix == ".gguf":
        return ModelSource(name=name, kind="gguf", path=str(path))
    if (path / "adapter_config.json").is_file():
        below = resolve_model(base) if base else _recorded_base(name, path)
        if below.adapter:
            raise BadInput(
                f"{name} is an adapter trained on the adapter {below.name}; merge that one first"
            )
        found = {"name": name, "kind": "adapter", "adapter": str(path), "base_name": below.name}
        return below.model_copy(update=found)
    if (path / "config.json").is_file():
        return ModelSource(name=name, kind="folder", path=str(path))
    raise NotFound(f"{path} has neither config.json nor adapter_config.json; pass a model folder")


def _recorded_base(name: str, folder: Path) -> ModelSource:
    """Find the model that an adapter folder says it was trained on.

    Raises:
        BadInput: It names none, or its config is damaged.
        NotFound: That model is not where it says.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
    except ValueError as error:
        damaged = f"{folder}/adapter_config.json is damaged; copy or download it again"
        raise BadInput(damaged) from error
    recorded = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not recorded:
        raise BadInput(f"adapter {name} does not record its base model; {NAME_THE_BASE}")
    try:
        return resolve_model(str(recorded))
    except (NotFound, OutsideWorkspace) as error:
        raise NotFound(
            f"adapter {name} was trained on {recorded!r}, which was not found; {NAME_THE_BASE}"
        ) from error


def _cached(hub_id: str) -> str | None:
    ours = workspace.cache_dir() / "models" / hub_id.replace("/", "--")
    if (ours / "config.json").is_file():
        return str(ours)
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    snapshots = hub / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    found = [
        p.parent for p in snapshots.glob("*/config.json") if any(p.parent.glob("*.safetensors"))
    ]
    return str(max(found, key=lambda p: p.stat().st_mtime)) if found else None
