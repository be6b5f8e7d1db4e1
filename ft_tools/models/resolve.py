"""Find out what a model argument names: a run, a local folder or file, or a name of the Hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ft_tools import workspace
from ft_tools.errors import BadInput, NotFound, OutsideWorkspace
from ft_tools.models import hub, model_folder
from ft_tools.models.hub import HUB_ID
from ft_tools.publish import MANIFEST
from ft_tools.runs.next_steps import next_steps
from ft_tools.runs.state import directory, run_state
from ft_tools.runs.state.records import Kind

NAME_THE_BASE = (
    "pass that model as `base_model` if the tool has it, or set base_model_name_or_path in its "
    "adapter_config.json"
)
WHAT_A_MODEL_IS = (
    "a model is a run id (get_run lists them), a folder, a GGUF file or a Hub id such as owner/name"
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
    revision: str | None = None
    """Commit of a Hub model whose weights are not on this machine, once `pinned` has asked."""
    files: str | None = None
    """Folder with the small files of that commit: config.json, tokenizer."""

    @property
    def load_from(self) -> str:
        """Return what `from_pretrained` takes for the base weights."""
        return self.path or self.base_name or self.name


def resolve_model(model: str, base: str | None = None) -> ModelSource:
    """Find what a model argument names.

    Tried in this order: a run id, a folder or GGUF file inside the workspace or the cache, a Hub id
    (whose files may be in the Hub's cache). Nothing is fetched.

    Args:
        model: The argument.
        base: Where the model below an adapter is; None: where the adapter says.

    Raises:
        NotFound: The run has made no model, or the folder is not there.
        BadInput: It is none of these.
    """
    if directory.RUN_ID.fullmatch(model):
        return _from_run(model, base)
    if HUB_ID.fullmatch(model) and not _is_a_path(model):
        return ModelSource(name=model, kind="hub", path=_cached(model))
    try:
        path = workspace.existing(model)
    except OutsideWorkspace:
        path = Path(model).resolve()
        if not path.is_relative_to(workspace.cache_dir()):
            raise
    except NotFound as error:
        raise NotFound(f"{error}: {WHAT_A_MODEL_IS}") from None
    return _from_path(model, path, base)


def pinned(source: ModelSource) -> ModelSource:
    """Add to a model of the Hub the commit that `main` is now, and the small files of that commit.

    Returns:
        The same source where its weights are on this machine.

    Raises:
        FineTuningError: As `hub.snapshot`.
    """
    if source.path is not None:
        return source
    folder = hub.snapshot(source.load_from, hub.TOKENIZER_FILES)
    return source.model_copy(update={"revision": folder.name, "files": str(folder)})


def tokenizer_files(model: str) -> str:
    """Return the folder of a model's tokenizer, fetched from the Hub if it is nowhere here.

    Raises:
        FineTuningError: As `resolve_model` and `hub.snapshot`.
    """
    source = resolve_model(model)
    if source.path is not None:
        return source.load_from
    for folder in hub.cached(source.load_from):
        if any((folder / name).is_file() for name in hub.TOKENIZER_FILES[:2]):
            return str(folder)
    return pinned(source).files or source.load_from


def _is_a_path(model: str) -> bool:
    """Return whether something in the workspace has that name."""
    try:
        return (workspace.roots()[0] / model).exists()
    except (OSError, ValueError):
        return True  # which `workspace.existing` refuses, and says why


WITHOUT_MODEL = {"audit", "evaluate", "prepare"}
"""Kinds of runs."""


def _from_run(run_id: str, base: str | None) -> ModelSource:
    run_dir = directory.find(run_id)
    info = directory.read_info(run_dir)
    if (made := next(_made_by(run_dir), None)) is not None:
        source = _from_path(run_id, made, base or info.lineage.get("base_model"))
        return source.model_copy(update={"run_id": run_id})
    if info.kind in WITHOUT_MODEL:
        raise BadInput(
            f"run {run_id} is of kind {info.kind}, which makes no model; pass the id of a training "
            "run, which get_run lists, or a model"
        )
    raise NotFound(
        f"run {run_id} ({info.kind}) has no model yet: {_what_to_do(run_dir, info.kind)}"
    )


def _made_by(run_dir: Path) -> Iterator[Path]:
    """Yield the models of a run: its artifacts; what those hours made if it ended at its budget."""
    made = [run_dir / "artifacts" / name for name in ("adapter", "model", "merged")]
    made += [Path(a.path) for a in directory.read_status(run_dir).artifacts if a.kind == "model"]
    yield from filter(Path.is_dir, made)
    if run_state.settled(run_dir).reason == "budget":
        found = [file.parent for file in (run_dir / "checkpoints").glob(f"checkpoint-*/{MANIFEST}")]
        yield from sorted(found, key=lambda path: -int(path.name.rpartition("-")[2]))


def _what_to_do(run_dir: Path, kind: Kind) -> str:
    """Return how a run without a model comes to have one."""
    status = run_state.settled(run_dir)
    if status.state == "succeeded":
        return "see with get_run what it made"
    step = next(iter(next_steps(run_dir, kind, status, None)), None)
    return f"it is {status.state}" + (f"; {step.tool} {step.why}" if step else "")


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
    recorded = model_folder.adapter_config(folder).get("base_model_name_or_path")
    if not recorded:
        raise BadInput(f"adapter {name} does not record its base model; {NAME_THE_BASE}")
    try:
        return resolve_model(str(recorded))
    except (NotFound, OutsideWorkspace) as error:
        raise NotFound(
            f"adapter {name} was trained on {recorded!r}, which was not found; {NAME_THE_BASE}"
        ) from error


def _cached(hub_id: str) -> str | None:
    """Return the folder of a Hub model whose weights are on this machine."""
    ours = workspace.cache_dir() / "models" / hub_id.replace("/", "--")
    if (ours / "config.json").is_file():
        return str(ours)
    return next((str(f) for f in hub.cached(hub_id) if any(f.glob("*.safetensors"))), None)
