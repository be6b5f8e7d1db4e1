"""Find the models of a comparison, where they fit, and how prompts are written for them."""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ft_tools import facts, workspace
from ft_tools.contract import Report
from ft_tools.errors import MissingExtra, UnknownName, brief
from ft_tools.evaluation.findings import refusal
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.request import EvaluateRequest, Rendering
from ft_tools.models import model_folder
from ft_tools.models.machine import Machine, this_machine
from ft_tools.models.mlx import (
    NOT_PLAIN,
    is_apple_silicon,
    is_installed,
    mac_name,
    model_types,
)
from ft_tools.models.placement import (
    CPU,
    Dtype,
    Placement,
    candidates,
    running_places,
    shortage,
)
from ft_tools.models.resolve import ModelSource, pinned, resolve_model
from ft_tools.models.size import ModelSize, size_of
from ft_tools.runs.state import directory

MLX = "mlx"
TEXT_FORMS = {"prompt_completion_text", "pairs_text", "text"}
# Further arguments of an adapter that MLX does not compute.
NOT_COMPUTED = ("lora_bias", "alora_invocation_tokens")


class ModelFiles(Report):
    """A model as it would be loaded."""

    name: str
    kind: Literal["hub", "folder", "adapter", "gguf"]
    load_from: str = Field(description="Folder, GGUF file or Hub id of the weights.")
    adapter: str | None = Field(None, description="Adapter that is loaded over them.")
    revision: str | None = Field(None, description="Commit on the Hub; null: local files.")
    files_sha256: str = Field(description="Hash of the files, of large ones by pages.")


class LoadPlan(Report):
    """Where the models of an evaluation are loaded, and in which numbers: all in the same."""

    device: str = Field("auto", description="As requested.")
    place: str = Field(description="cpu, mlx, cuda:0, or auto: spread over all GPUs.")
    dtype: Dtype = Field(description="Data type of weights that are not quantized.")
    four_bit: bool = Field(
        False, description="In 4 bits, as an adapter was trained, because 16 bits do not fit."
    )
    quantization: dict[str, object] | None = Field(
        None, description="BitsAndBytesConfig arguments of 4-bit loading."
    )
    num_bytes: int = Field(description="Memory of the largest model.")

    @property
    def on_cpu(self) -> bool:
        """Return whether no GPU is used."""
        return self.place == CPU

    @property
    def on_mlx(self) -> bool:
        """Return whether MLX computes them, in the machine's memory."""
        return self.place == MLX

    @property
    def torch_device(self) -> str:
        """Return which device's memory counts, as torch is asked for it."""
        return CPU if self.on_mlx else self.device


@dataclass(frozen=True)
class Models:
    """The models of a request: tuned and baseline, or those of `systems` that are models."""

    by_name: dict[str, ModelSource]
    tuned: ModelSource | None = None
    baseline: ModelSource | None = None


def find_models(request: EvaluateRequest) -> Models:
    """Resolve every model that the request names."""
    if request.model is None:
        return Models({s.name: find_model(s.model) for s in request.systems if s.model})
    tuned = find_model(request.model)
    baseline = find_baseline(tuned, request.baseline)
    below = {"baseline": baseline} if baseline else {}
    return Models({**below, "tuned": tuned}, tuned, baseline)


def load_plan(
    sources: Sequence[ModelSource], device: str = "auto", *, on_mlx: bool = False
) -> LoadPlan | None:
    """Decide where the models of an evaluation fit, one at a time.

    None: nothing is loaded in transformers, or no size is known before a download.

    Raises:
        Refused: The largest fits nowhere, not even in the 4 bits it was trained in.
    """
    sizes = [size for s in sources if s.kind != "gguf" and (size := size_of(s)) is not None]
    if not sizes:
        return None
    largest = max(sizes, key=lambda size: size.num_params)
    machine = this_machine(CPU if on_mlx else device)
    if on_mlx and is_apple_silicon():
        # Of a Mac's memory its GPU may take a part.
        with contextlib.suppress(UnknownName):
            usable = (facts.gpu(mac_name()).usable_gib or math.inf) * 2**30
            machine = Machine((), int(min(machine.ram_bytes, usable)))
    # Each engine has 4 bits of its own, which the other does not read.
    wanted = (found for s in sources if (found := quantization_of(s)))
    trained = next((found for found in wanted if ("bits" in found) == on_mlx), None)
    return decide(largest, machine, trained, device, on_mlx=on_mlx)


def decide(
    size: ModelSize,
    machine: Machine,
    trained: dict[str, object] | None,
    device: str = "auto",
    *,
    on_mlx: bool = False,
) -> LoadPlan:
    """Decide where a model is loaded: in 16 bits where cards hold those, else as it was trained.

    On cards 4 bits are many times as fast as 16 bits in memory.

    Raises:
        Refused: It fits nowhere.
    """
    choices: list[Placement] = []
    for four_bit in (False, True) if trained else (False,):
        if on_mlx and is_apple_silicon():
            # MLX computes in 16 bits on a Mac.
            own = candidates(size, machine.without_cards(), ["bfloat16"], four_bit=four_bit)
        else:
            own = running_places(size, machine, four_bit=four_bit)
        choices += [*own][:1]
    if not choices:
        needs = shortage(size, machine, four_bit=trained is not None)
        raise refusal("fits_nowhere", needs=needs)
    # Among equals 16 bits come first.
    found = min(choices, key=lambda one: one.device == CPU)
    return LoadPlan(
        device=device,
        place=MLX if on_mlx else found.device,
        dtype=found.dtype,
        four_bit=found.four_bit,
        quantization=trained if found.four_bit else None,
        num_bytes=found.num_bytes,
    )


def quantization_of(source: ModelSource) -> dict[str, object] | None:
    """Return how the base was quantized while an adapter was trained; None if it was not."""
    run_id = source.run_id if source.kind == "adapter" else None
    found = directory.plan_of(run_id).get("quantization")
    return dict(found) if isinstance(found, dict) else None


def find_baseline(tuned: ModelSource, named: str | None) -> ModelSource | None:
    """Return the model to compare with: the one named, or the base of the tuned one if known."""
    if named is not None:
        return find_model(named)
    if tuned.run_id:
        lineage = directory.read_info(directory.find(tuned.run_id)).lineage
        if lineage.get("base_model"):
            return find_model(lineage["base_model"])
    if tuned.kind == "adapter":
        kind: Literal["hub", "folder"] = "folder" if tuned.path else "hub"
        below = {"name": tuned.load_from, "kind": kind, "adapter": None, "run_id": None}
        return tuned.model_copy(update=below)
    return None


def find_model(model: str) -> ModelSource:
    """Find a model whose files are here and whole, or that the Hub has.

    Raises:
        BadInput: A folder has no weights that may be loaded, or a file is damaged.
        UnknownName: The Hub does not have the model, or cannot be asked.
    """
    source = pinned(resolve_model(model))
    path = Path(source.path) if source.path else None
    if path is not None and source.kind == "gguf":
        with path.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise refusal("not_gguf", path=path)
    if path is not None and path.is_dir():
        model_folder.require_readable(path)
        if not any(path.glob("*.safetensors")):
            raise refusal("no_weights", path=path)
    return source


def model_files(source: ModelSource) -> ModelFiles:
    """Describe a model so that a change of its files changes the plan."""
    return ModelFiles(
        name=source.name,
        kind=source.kind,
        load_from=source.load_from,
        adapter=source.adapter,
        revision=source.revision,
        files_sha256=model_folder.content_hash([source.path, source.adapter]),
    )


def weight_bytes(source: ModelSource) -> int | None:
    """Return the size of the weights: on disk, else as config.json tells; None: not known."""
    if source.path is None:
        size = size_of(source)
        return size.stored_bytes if size else None
    return model_folder.weight_bytes(Path(source.path)) or None


def chat_template(source: ModelSource) -> str | None:
    """Return a model's chat template; an adapter's own goes before that of its base."""
    for folder in (source.adapter, source.path, source.files):
        found = model_folder.chat_template(Path(folder)) if folder else None
        if found is not None:
            return found
    return None


def choose_rendering(
    asked: Rendering, examples: Sequence[HeldOut], sources: Sequence[ModelSource]
) -> Literal["chat", "plain"]:
    """Choose the chat template or plain text; refuse a template that no model has."""
    unseen = [source for source in sources if source.path is None or source.kind == "gguf"]
    known = not sources or bool(unseen) or any(map(chat_template, sources))
    if asked == "chat" and not known:
        named = ", ".join(repr(source.name) for source in sources)
        raise refusal("no_chat_template", names=named)
    if asked == "auto":
        trained = [directory.plan_of(source.run_id).get("dataset") for source in sources]
        forms = {one.get("format") for one in trained if isinstance(one, dict)}
        is_text = bool(examples) and examples[0].is_text and not TEXT_FORMS.isdisjoint(forms)
        return "plain" if is_text or not known else "chat"
    return asked


def may_think(models: Iterable[ModelSource | ModelFiles]) -> bool:
    """Return whether models may think first; not beside one that was trained on answers alone.

    That one answers at once, and another that thinks would be cut before its answer.
    """
    known = {one: directory.whole_json(one / "plan.json") for one in directory.all_runs()}
    plans = [_training_of(one, known) for one in models]
    # A reinforcement run's model writes thoughts itself; older plans did not count them.
    trained = [one.get("dataset") for one in plans if one.get("task") in {"sft", "dpo", "kto"}]
    return all(one.get("num_thoughts", 1) for one in trained if isinstance(one, dict))


def _training_of(
    model: ModelSource | ModelFiles, known: Mapping[Path, dict[str, Any]]
) -> dict[str, Any]:
    """Return the plan of the run that trained a model last, shipped or not; empty if unknown."""
    is_run = directory.RUN_ID.fullmatch(model.name)
    place, plans = model.name if is_run else model.adapter or model.load_from, dict(known)
    while (run_dir := _run_of(place, plans)) is not None:
        # Each once: folders may be made again out of each other.
        plan = plans.pop(run_dir)
        if "task" in plan or not isinstance(plan.get("source"), str):
            return plan
        place = plan["source"]
    return {}


def _run_of(place: str, plans: Mapping[Path, Mapping[str, Any]]) -> Path | None:
    """Return the run that a place names: its id, its folder, the folder it shipped to."""
    path = (workspace.roots()[0] / place).resolve()
    for run_dir, plan in plans.items():
        folders = [run_dir.resolve(), *([Path(out)] if (out := plan.get("output_dir")) else [])]
        if place == run_dir.name or any(map(path.is_relative_to, folders)):
            return run_dir
    return None


def chooses_mlx(request: EvaluateRequest, sources: Iterable[ModelSource]) -> tuple[bool, str]:
    """Return whether MLX computes the models of an evaluation; if a Mac's GPU stays idle, why.

    Raises:
        BadInput: MLX was asked for and cannot compute one of them.
        MissingExtra: MLX was asked for and is not installed.
    """
    asked = request.device == MLX
    loaded = [source for source in sources if source.kind != "gguf"]
    if not asked and not (loaded and request.device == "auto" and is_apple_silicon()):
        return False, ""
    missing = None if is_installed() else MissingExtra("mlx", "mlx_lm")
    problem = "" if loaded else "no model of this evaluation is loaded by transformers or MLX"
    if request.lm_eval_tasks:
        problem = "lm_eval_tasks run with torch only"
    problem = str(missing or problem or next(filter(None, map(_against, loaded)), ""))
    if not asked:
        return not problem, problem
    if missing:
        raise missing
    if problem:
        raise refusal("mlx_cannot", problem=problem)
    return True, ""


def _against(source: ModelSource) -> str:
    """Return why MLX cannot compute a model; empty if it can."""
    if source.path is None:
        return f"the files of {source.name} are not on this machine yet"
    config = model_folder.config(Path(source.path))
    adapter = model_folder.adapter_config(Path(source.adapter)) if source.adapter else {}
    kind, tuner = config.get("model_type"), adapter.get("peft_type", "LORA")
    odd = next((name for name in (*NOT_PLAIN, *NOT_COMPUTED) if adapter.get(name)), "")
    reasons = {
        f"mlx-lm has no model type {brief(repr(kind))}": kind not in model_types(),
        f"{source.name} takes more than text": "text_config" in config,
        f"the weights of {source.name} are quantized already": "quantization_config" in config,
        f"an adapter of type {brief(tuner)} is not supported, only LORA": tuner != "LORA",
        "an adapter with bias is not supported": str(adapter.get("bias", "none")) != "none",
        f"an adapter with {odd} is not supported": odd,
    }
    return next((why for why, holds in reasons.items() if holds), "")
