"""What a merge_and_quantize would do, worked out from headers and small files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ft_tools import workspace
from ft_tools.models import model_folder, safetensors_headers
from ft_tools.models.hub import hub_cache
from ft_tools.models.machine import this_machine
from ft_tools.models.placement import Placement
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.models.size import ModelSize, size_of, size_of_tensors
from ft_tools.publish import sha256
from ft_tools.runs.estimates import Duration
from ft_tools.runs.launch import Plan
from ft_tools.runs.state import directory
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping import comparison_text, converter_script, estimates, formats
from ft_tools.shipping import llm_compressor_environment as environment
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.asking import MeasuredAs, measured_as
from ft_tools.shipping.estimates import PlannedFormat
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.formats import Format
from ft_tools.shipping.request import ShipRequest

MAX_STEM = 60
"""Characters of a model's name that are kept: a format is added to it."""


class ShipPlan(Plan):
    """Everything that a run will do."""

    CONCISE = (
        *("formats", "runs_on", "held_out", "measured_as", "output_dir", "disk_bytes"),
        *("ram_bytes", "duration"),
    )
    MACHINE: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        ("runs_on", "disk_bytes", "bytes_by_folder", "ram_bytes", "duration"), True
    )

    source: str
    name: str = Field(description="Used in file names.")
    base_model: str = Field(description="As requested, or as the run recorded it.")
    load_from: str = Field(description="Folder or Hub id of the base weights.")
    num_params: int | None = Field(description="Of the base; null: its size is not known yet.")
    device: str = Field("auto", description="auto, or cpu to leave GPUs alone.")
    runs_on: Placement | None = Field(
        None,
        description="Where the merged model is run to prove it; null: it fits nowhere, so the "
        "merge is checked weight by weight and formats are not measured.",
    )
    base_config_sha256: str = Field(description="Of config.json; empty: not downloaded yet.")
    adapter: AdapterFacts | None = Field(description="Null: the source is a whole model.")
    quantization: dict[str, object] | None = Field(
        description="BitsAndBytesConfig arguments of the base that the run trained on."
    )
    formats: list[PlannedFormat]
    calibration: str | None = Field(description="File that quantizers calibrate on; null: none.")
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
    bytes_by_folder: dict[str, int] = Field(
        default_factory=dict, description="The same, a folder for each disk."
    )
    ram_bytes: int = Field(description="Peak memory (RAM), estimated.")
    duration: Duration | None = Field(None, description="Null: size or GPU is not known.")
    converter: str = Field(description="Source of llama.cpp's converter; empty: not needed.")

    @property
    def summary(self) -> str:
        """Return what is made of what."""
        made = ", ".join(one.format for one in self.formats)
        return f"Makes {made} of {self.source} and measures what they lose. Nothing has started."


def formats_asked(request: ShipRequest) -> list[Format]:
    """Return the formats of a request, each once.

    Raises:
        UnknownName: A format is not known.
        BadInput: An argument is for a format that was not asked for.
    """
    rows = list(dict.fromkeys(formats.find(name) for name in request.formats))
    if request.calibration and not any(row.needs_text for row in rows):
        raise refusal("calibration_unused")
    return rows


def plan_of(request: ShipRequest, rows: list[Format]) -> ShipPlan:
    """Work out a plan from files' headers; reads no weights and writes nothing."""
    source = resolve_model(request.source, request.base_model)
    if source.kind == "gguf":
        raise refusal("source_is_gguf", source=request.source)
    base = _base(request, source)
    folder = Path(base.path) if base.path else None
    if folder:
        model_folder.require_readable(folder)
    config_sha256 = sha256(folder / "config.json") if folder else ""
    trained = directory.plan_of(source.run_id)
    _require_trained_base(request, source, config_sha256, folder, trained)
    facts, size, planned = inspected(folder or base, source.adapter, rows, request.device)
    measured_on = _held_out(request, source)
    runs_on = estimates.placement_of(size, this_machine(request.device), facts)
    output = workspace.new_folder(request.output_dir) if request.output_dir else None
    runs, has_gguf = workspace.runs_dir(), estimates.has_family(rows, "gguf")
    is_compressed = estimates.has_family(rows, "environment")
    needs = estimates.disk_needs(
        {one.format: one.estimated_bytes for one in planned},
        size,
        is_fetched=folder is None,
        has_gguf=has_gguf,
        environment_bytes=environment.missing_bytes() if is_compressed else 0,
    )
    places = {"output": output or runs, "work": runs}
    places |= {"hub": hub_cache(), "cache": workspace.cache_dir()}
    return ShipPlan(
        source=request.source,
        name=_name(request, base),
        base_model=_base_name(request, source),
        load_from=base.load_from,
        num_params=size.num_params if size else None,
        device=request.device,
        runs_on=runs_on,
        base_config_sha256=config_sha256,
        adapter=facts,
        quantization=trained.get("quantization") if facts else None,
        formats=planned,
        calibration=_calibration(request, source, rows, measured_on),
        held_out=measured_on,
        max_examples=request.max_examples,
        measured_as=measured_as(source, request.evaluation),
        system=request.system,
        output_dir=str(output) if output else None,
        disk_bytes=sum(needs.values()),
        bytes_by_folder=estimates.by_disk(needs, places),
        ram_bytes=estimates.ram_bytes(size, runs_on, rows),
        duration=estimates.duration(size, rows, runs_on, request.max_examples, request.device),
        converter=converter_script.origin() if has_gguf else "",
    )


def inspected(
    base: Path | ModelSource, adapter: str | None, rows: list[Format], device: str
) -> tuple[AdapterFacts | None, ModelSize | None, list[PlannedFormat]]:
    """Read a base's and an adapter's headers, and refuse what cannot be shipped on this machine.

    Returns:
        What the adapter is, the size of the base where it is known, and the formats.
    """
    folder = base if isinstance(base, Path) else None
    config = model_folder.config(folder) if folder else {}
    adapters.require_unquantized(config)
    held = safetensors_headers.survey(folder) if folder else {}
    found = adapters.inspect(Path(adapter), held, config) if adapter else None
    size = size_of_tensors(held) if isinstance(base, Path) else size_of(base)
    if size is not None:
        estimates.require_possible(rows, size, this_machine(device), found)
    sizes = {row.name: estimates.format_bytes(row, size) if size else 0 for row in rows}
    return found, size, [PlannedFormat(format=n, estimated_bytes=b) for n, b in sizes.items()]


def _base(request: ShipRequest, source: ModelSource) -> ModelSource:
    if request.base_model is None:
        return source
    if source.adapter is None:
        raise refusal("base_of_whole_model")
    base = resolve_model(request.base_model)
    if base.kind not in {"hub", "folder"}:
        raise refusal("base_without_weights", model=request.base_model)
    return base


def _require_trained_base(
    request: ShipRequest,
    source: ModelSource,
    found: str,
    folder: Path | None,
    trained: dict[str, Any],
) -> None:
    """Refuse a base whose config.json is not the recorded one; a named one is the caller's."""
    model = trained.get("model")
    recorded = model.get("config_sha256") if isinstance(model, dict) else None
    if source.adapter is None or not found or not recorded or request.base_model:
        return
    if found != recorded:
        raise refusal("another_base", folder=folder, run=source.run_id, recorded=recorded[:12])


def _base_name(request: ShipRequest, source: ModelSource) -> str:
    if request.base_model:
        return request.base_model
    if source.run_id:
        info = directory.read_info(directory.find(source.run_id))
        return info.lineage.get("base_model", source.name)
    if source.adapter:
        config = adapters.read_config(Path(source.adapter))
        return str(config.get("base_model_name_or_path") or source.name)
    return source.name


def _name(request: ShipRequest, base: ModelSource) -> str:
    """Return a name that files, a shell and Ollama take.

    Source: https://github.com/ollama/ollama/blob/main/types/model/name.go: ASCII, a letter or digit
    first, at most 80 bytes.
    """
    stem = Path(base.name if base.kind == "hub" else base.load_from).name.rpartition("--")[2]
    asked, plain = (
        re.sub(r"[^\w.-]+", "-", name.strip(), flags=re.ASCII).strip("-.")
        for name in (request.name, stem)
    )
    return asked or f"{plain[:MAX_STEM] or 'model'}-tuned"


def _examples_in(field: str, named: str) -> str:
    """Return the path of a JSONL file with examples.

    Raises:
        BadInput: It has none.
    """
    path = workspace.existing(named)
    if not comparison_text.examples(path):
        raise refusal("no_examples", field=field, path=named)
    return str(path)


def _held_out(request: ShipRequest, source: ModelSource) -> str | None:
    if request.held_out:
        return _examples_in("held_out", request.held_out)
    found = comparison_text.file_of_run(source.run_id, "validation")
    return str(found) if found else None


def _calibration(
    request: ShipRequest, source: ModelSource, rows: list[Format], measured_on: str | None
) -> str | None:
    """Return the file of the request, or the run's own training file where one is needed."""
    if request.calibration is not None:
        if str(workspace.existing(request.calibration)) == measured_on:
            raise refusal("calibrated_on_measured", path=request.calibration)
        return _examples_in("calibration", request.calibration)
    needing = ", ".join(row.name for row in rows if row.needs_text)
    if not needing:
        return None
    path = comparison_text.file_of_run(source.run_id, "dataset")
    if path is None:
        raise refusal("needs_calibration", formats=needing, source=request.source)
    return str(path)
