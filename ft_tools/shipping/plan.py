"""What a merge_and_quantize would do, worked out from headers and small files."""

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ft_tools import workspace
from ft_tools.contract import Report
from ft_tools.errors import BadInput, MissingExtra, NotFound
from ft_tools.models import model_folder, safetensors_headers, tower_packages
from ft_tools.models.hub import hub_cache
from ft_tools.models.machine import this_machine
from ft_tools.models.quantized import NF4
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.models.size import size_of, size_of_tensors
from ft_tools.publish import sha256
from ft_tools.runs.launch import Plan
from ft_tools.runs.state import directory
from ft_tools.shipping import (
    adapter,
    comparison_text,
    converter_script,
    estimates,
    formats,
    llm_compressor_environment,
)
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.estimates import PlannedDisk, PlannedFormat, PlannedPlacement
from ft_tools.shipping.evaluated_prompt import MeasuredAs, measured_as
from ft_tools.shipping.formats import Format
from ft_tools.shipping.request import MergeBase, ShipRequest

MAX_STEM = 60
"""Characters of a model's name that are kept: a format is added to it."""


class PlannedEnvironment(Report):
    """A Python environment that a format is made in."""

    requirement: str = Field(description="What pip installs in it.")
    formats: list[str]
    is_built: bool = Field(description="False: the run builds it once, when it first needs it.")
    disk_bytes: int = Field(description="Estimated size; 0 if it exists already.")


class ShipPlan(Plan):
    """Everything that a run will do."""

    MACHINE: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        ("runs_on", "environments", "disk_bytes", "disks", "ram_bytes", "estimated_seconds"), True
    )

    source: str
    name: str = Field(description="Used in file names.")
    base_model: str = Field(description="As requested, or as the run recorded it.")
    load_from: str = Field(description="Folder or Hub id of the base weights.")
    num_params: int | None = Field(description="Of the base; null: its size is not known yet.")
    size_basis: str = Field(
        "",
        description="headers: read from its files; config: worked out from its config.json; empty: "
        "not known, and checked when the files are here.",
    )
    device: str = Field("auto", description="auto, or cpu to leave GPUs alone.")
    runs_on: PlannedPlacement | None = Field(
        None,
        description="Where the merged model is run to prove it; null: it fits nowhere, so the "
        "merge is checked weight by weight and formats are not measured.",
    )
    base_config_sha256: str = Field(description="Of config.json; empty: not downloaded yet.")
    adapter: AdapterFacts | None = Field(description="Null: the source is a whole model.")
    quantization: dict[str, object] | None = Field(
        description="BitsAndBytesConfig arguments that merge_base=dequantized repeats."
    )
    merge_base: MergeBase
    formats: list[PlannedFormat]
    calibration: str | None = Field(description="File that quantizers calibrate on; null: none.")
    environments: list[PlannedEnvironment] = Field(default_factory=list)
    held_out: str | None = Field(
        description="File that quality is measured on; null: built-in text."
    )
    max_examples: int = Field(description="Held-out examples that each format answers.")
    measured_as: MeasuredAs | None = Field(
        None, description="Evaluation whose settings are shipped; null: only training's are."
    )
    system: str | None = Field(None, description="System text of the request.")
    output_dir: str | None = Field(description="Null: artifacts/ of the run.")
    disk_bytes: int = Field(description="Disk space required, intermediate files included.")
    disks: list[PlannedDisk] = Field(default_factory=list, description="The same, per disk.")
    ram_bytes: int = Field(description="Peak memory (RAM), estimated.")
    estimated_seconds: float | None = Field(
        description="Rough estimate; null: size or GPU is not known."
    )
    converter: str = Field(description="Source of llama.cpp's converter; empty: not needed.")
    chat: str = ""
    chat_system: str = ""


def plan_of(request: ShipRequest, rows: list[Format]) -> ShipPlan:
    """Work out a plan from files' headers; reads no weights and writes nothing."""
    source = resolve_model(request.source, request.base_model)
    if source.kind == "gguf":
        raise BadInput(f"{request.source} is a GGUF file; name the run or folder it was made from")
    base = _base(request, source)
    folder = Path(base.path) if base.path else None
    if folder:
        model_folder.require_readable(folder)
    config = _json(folder / "config.json") if folder else {}
    adapter.require_unquantized(config)
    tower_packages.require(config)
    _require_trained_base(request, source, folder)
    held = safetensors_headers.survey(folder) if folder else {}
    facts = None
    if source.adapter:
        facts = adapter.inspect(Path(source.adapter), held, config)
    elif request.merge_base == "dequantized":
        raise BadInput("merge_base='dequantized' needs an adapter, and the source is a whole model")
    if request.merge_base == "dequantized" and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("train", "bitsandbytes")
    size = size_of_tensors(held) if held else size_of(base)
    planned = [estimates.planned_format(row, size) for row in rows]
    measured_on = _held_out(request, source)
    calibration = _calibration(request, source, rows, measured_on)
    environments = _environments(rows)
    machine = this_machine(request.device)
    if size is not None:
        estimates.require_possible(rows, size, machine, facts)
    runs_on = estimates.placement_of(size, machine, facts)
    output = workspace.new_folder(request.output_dir) if request.output_dir else None
    disks = estimates.disks(
        planned,
        rows,
        size,
        _places(output),
        fetched=folder is None,
        environment_bytes=sum(e.disk_bytes for e in environments),
    )
    return ShipPlan(
        source=request.source,
        name=_name(request, base),
        base_model=_base_name(request, source),
        load_from=base.load_from,
        num_params=size.num_params if size else None,
        size_basis=size.basis if size else "",
        device=request.device,
        runs_on=runs_on,
        base_config_sha256=sha256(folder / "config.json") if folder else "",
        adapter=facts,
        quantization=_quantization(source, request) if facts else None,
        merge_base=request.merge_base,
        formats=planned,
        calibration=str(calibration) if calibration else None,
        environments=environments,
        held_out=str(measured_on) if measured_on else None,
        max_examples=request.max_examples,
        measured_as=measured_as(source, request.evaluation),
        system=request.system,
        output_dir=str(output) if output else None,
        disk_bytes=sum(disk.num_bytes for disk in disks),
        disks=disks,
        ram_bytes=estimates.ram_bytes(size, runs_on, rows),
        estimated_seconds=estimates.seconds(
            size, rows, runs_on, request.max_examples, request.device
        ),
        converter=converter_script.origin() if any(r.family == "gguf" for r in rows) else "",
        chat=request.chat,
        chat_system=request.chat_system,
    )


def formats_asked(request: ShipRequest) -> list[Format]:
    """Return the formats of a request, each once.

    Raises:
        UnknownName: A format is not known.
        BadInput: An argument is for a format that was not asked for.
    """
    rows = list(dict.fromkeys(formats.find(name) for name in request.formats))
    if request.calibration and not any(row.needs_text for row in rows):
        raise BadInput(
            "calibration is for gptq:4 and awq:4, and `formats` has neither; remove it, or add one"
        )
    if request.chat and not any(row.family == "gguf" for row in rows):
        raise BadInput("chat asks a GGUF file, and `formats` has none; add 'gguf:Q4_K_M'")
    return rows


def _base(request: ShipRequest, source: ModelSource) -> ModelSource:
    if request.base_model is None:
        return source
    if source.adapter is None:
        raise BadInput(
            "`base_model` goes with an adapter, and the source is a whole model; remove it"
        )
    base = resolve_model(request.base_model)
    if base.kind not in {"hub", "folder"}:
        raise BadInput(f"base_model {request.base_model!r} is not a model with 16-bit weights")
    return base


def _require_trained_base(request: ShipRequest, source: ModelSource, folder: Path | None) -> None:
    """Refuse a base that is not the one a run recorded; one that the caller names is theirs.

    Raises:
        BadInput: Its config.json is another.
    """
    if source.run_id is None or source.adapter is None or folder is None or request.base_model:
        return
    plan = directory.read_json(directory.find(source.run_id) / "plan.json") or {}
    model = plan.get("model")
    trained_on = model.get("config_sha256") if isinstance(model, dict) else None
    if trained_on and sha256(folder / "config.json") != trained_on:
        raise BadInput(
            f"{folder} is not the base that run {source.run_id} was trained on: its config.json "
            f"has another sha256 than the recorded {trained_on[:12]}...; restore that model, or "
            "name it as `base_model`"
        )


def _base_name(request: ShipRequest, source: ModelSource) -> str:
    if request.base_model:
        return request.base_model
    if source.run_id:
        info = directory.read_info(directory.find(source.run_id))
        return info.lineage.get("base_model", source.name)
    if source.adapter:
        config = adapter.read_config(Path(source.adapter))
        return str(config.get("base_model_name_or_path") or source.name)
    return source.name


def _places(output: Path | None) -> dict[str, Path]:
    """Return a folder of each disk that is written to."""
    runs = workspace.runs_dir()
    return {
        "output": output or runs,
        "work": runs,
        "hub": hub_cache(),
        "cache": workspace.cache_dir(),
    }


def _name(request: ShipRequest, base: ModelSource) -> str:
    """Return a name that files, a shell and Ollama take.

    Source: https://github.com/ollama/ollama/blob/main/types/model/name.go: ASCII, a letter or digit
    first, at most 80 bytes.
    """
    if asked := _plain(request.name):
        return asked
    stem = Path(base.name if base.kind == "hub" else base.load_from).name
    if "--" in stem:
        stem = stem.rpartition("--")[2]
    return f"{_plain(stem)[:MAX_STEM] or 'model'}-tuned"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name.strip(), flags=re.ASCII).strip("-.")


def _held_out(request: ShipRequest, source: ModelSource) -> Path | None:
    if request.held_out:
        path = workspace.existing(request.held_out)
        if not comparison_text.examples(path):
            raise BadInput(f"held_out {request.held_out!r} has no examples; name a JSONL file")
        return path
    return comparison_text.of_run(source.run_id)


def _environments(rows: list[Format]) -> list[PlannedEnvironment]:
    names = [row.name for row in rows if row.family == "environment"]
    if not names:
        return []
    built = llm_compressor_environment.is_built()
    size = 0 if built else llm_compressor_environment.disk_bytes()
    return [
        PlannedEnvironment(
            requirement=llm_compressor_environment.REQUIREMENT,
            formats=names,
            is_built=built,
            disk_bytes=size,
        )
    ]


def _calibration(
    request: ShipRequest, source: ModelSource, rows: list[Format], measured_on: Path | None
) -> Path | None:
    if request.calibration is None:
        return _own_calibration(request, source, rows)
    path = workspace.existing(request.calibration)
    if path == measured_on:
        raise BadInput(
            f"calibration {request.calibration!r} is also what is measured on, which would flatter "
            "the result; take training examples for one and held-out examples for the other"
        )
    if not comparison_text.examples(path):
        raise BadInput(f"calibration {request.calibration!r} has no examples; name a JSONL file")
    return path


def _own_calibration(request: ShipRequest, source: ModelSource, rows: list[Format]) -> Path | None:
    """Return the run's own training file, for formats that cannot do without text."""
    needing = [row.name for row in rows if row.needs_text]
    if not needing:
        return None
    path = comparison_text.training_file(source.run_id)
    if path is None:
        raise BadInput(
            f"{', '.join(needing)} cannot be made without text like that of training, and "
            f"{request.source} is not a run whose training file still exists; name a JSONL file of "
            "training examples as `calibration`, or take gguf:Q4_K_M"
        )
    return path


def _quantization(source: ModelSource, request: ShipRequest) -> dict[str, object] | None:
    """Return how the base was quantized while the adapter was trained; None if it was not."""
    dequantized = request.merge_base == "dequantized"
    if source.run_id is None:
        return dict(NF4) if dequantized else None
    plan = directory.read_json(directory.find(source.run_id) / "plan.json") or {}
    found = plan.get("quantization")
    if isinstance(found, dict):
        return dict(found)
    if dequantized:
        raise BadInput(
            f"run {source.run_id} was trained on a 16-bit base, not a 4-bit one; leave merge_base "
            "at 'original'"
        )
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; name a model folder") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} is damaged; {safetensors_headers.AGAIN}") from error
