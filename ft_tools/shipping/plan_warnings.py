"""What the plan of a shipping run warns of: which rows of findings.toml, and with what numbers."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.facts import number
from ft_tools.models.hub import forbidden_by, how_to_get
from ft_tools.models.model_folder import config
from ft_tools.runs.hardware import memory
from ft_tools.runs.state import directory
from ft_tools.shipping import converter_script
from ft_tools.shipping import llm_compressor_environment as environment
from ft_tools.shipping.findings import warning
from ft_tools.shipping.formats import find
from ft_tools.shipping.plan import ShipPlan

GIB = 2**30
Row = tuple[str, dict[str, Any]]
"""Id of a row of findings.toml that holds, and its fields."""


def plan_warnings(plan: ShipPlan) -> list[str]:
    """Return everything that a plan warns of."""
    parts = (_of_base, _of_source, _of_formats)
    return [warning(row, **fields) for part in parts for row, fields in part(plan)]


def forbidden(plan: ShipPlan) -> dict[str, str]:
    """Return what forbids downloading the base, and how to get it; empty: nothing does."""
    variable = forbidden_by()
    if plan.base_config_sha256 or variable is None:
        return {}
    return {"model": plan.load_from, "variable": variable, "how": how_to_get(plan.load_from)}


def _of_base(plan: ShipPlan) -> Iterator[Row]:
    if why := forbidden(plan):
        yield "base_forbidden", why
    elif not plan.base_config_sha256:
        size = f", {plan.disk_bytes / GIB:.0f} GiB of disk in all" if plan.num_params else ""
        yield "base_downloaded", {"model": plan.load_from, "size": size}
    free = memory.free_bytes()
    if plan.num_params is None:
        yield "size_unknown", {}
    elif plan.runs_on is None:
        yield "checked_by_weights", {}
    elif plan.runs_on.device != "cpu":
        yield "gpu_never_run", {}
    elif plan.ram_bytes > free:
        yield "memory_in_use", {"needed": plan.ram_bytes / GIB, "free": free / GIB}


def _of_source(plan: ShipPlan) -> Iterator[Row]:
    if plan.held_out is None:
        yield "built_in_text", {}
    if plan.quantization:
        yield "trained_in_4_bits", {}
    measured = plan.measured_as
    if measured is not None and measured.num_shots:
        fields = measured.model_dump(include={"evaluation", "system"})
        yield "shots_not_shipped", {"num": measured.num_shots, **fields}
    if plan.adapter is not None and measured is None:
        yield "not_evaluated", {}
    if directory.RUN_ID.fullmatch(plan.source):
        # What the report of the run says is wrong with what it made.
        report = directory.read_json(directory.find(plan.source) / "report.json") or {}
        cut = [one for one in report.get("health") or () if one.get("signal") == "rows_cut"]
        for one in [*(report.get("diagnosis") or ()), *cut]:
            said = {"observed": one.get("observed"), "advice": one.get("advice")}
            yield "training_finding", {"run": plan.source, **said}


def _of_formats(plan: ShipPlan) -> Iterator[Row]:
    names = [planned.format for planned in plan.formats]
    files, made_apart = (
        ", ".join(name for name in names if find(name).family == family)
        for family in ("gguf", "environment")
    )
    if plan.converter:
        if why := converter_script.why_not(config(Path(plan.load_from))):
            fields = {"converter": plan.converter, "variable": converter_script.VARIABLE}
            yield "not_converted", {"formats": files, "why": why, **fields}
        if not converter_script.is_here():
            yield "converter_downloaded", {"mib": converter_script.DOWNLOAD_BYTES // 2**20}
    if made_apart and not environment.is_built():
        gib = environment.missing_bytes() / GIB
        fields = {"formats": made_apart, "requirement": environment.REQUIREMENT}
        yield "environment_built", {"gib": gib, **fields}
    is_small = (plan.num_params or math.inf) < number("ship.small_model_billion") * 1e9
    has_4_bits = any(name.startswith("gguf:Q4") for name in names)
    if is_small and has_4_bits and "gguf:Q8_0" not in names:
        yield "small_in_4_bits", {}
