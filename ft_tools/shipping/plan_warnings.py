"""What the plan of a shipping run warns of: which rows of findings.toml, and with what numbers."""

import math
from collections.abc import Iterator
from pathlib import Path

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


def plan_warnings(plan: ShipPlan) -> list[str]:
    """Return everything that a plan warns of."""
    parts = (_base, _proof, _training, _memory, _converter, _formats)
    return [found for part in parts for found in part(plan)]


def forbidden(plan: ShipPlan) -> dict[str, str]:
    """Return what forbids downloading the base, and how to get it; empty: nothing does."""
    variable = forbidden_by()
    if plan.base_config_sha256 or variable is None:
        return {}
    return {"model": plan.load_from, "variable": variable, "how": how_to_get(plan.load_from)}


def _base(plan: ShipPlan) -> Iterator[str]:
    if why := forbidden(plan):
        yield warning("base_forbidden", **why)
    elif not plan.base_config_sha256:
        size = f", {plan.disk_bytes / GIB:.0f} GiB of disk in all" if plan.num_params else ""
        yield warning("base_downloaded", model=plan.load_from, size=size)
    if plan.num_params is None:
        yield warning("size_unknown")


def _proof(plan: ShipPlan) -> Iterator[str]:
    if plan.held_out is None:
        yield warning("built_in_text")
    if plan.quantization:
        yield warning("trained_in_4_bits")
    if (measured := plan.measured_as) is not None and measured.num_shots:
        fields = measured.model_dump(include={"evaluation", "system"})
        yield warning("shots_not_shipped", num=measured.num_shots, **fields)
    if plan.adapter is not None and measured is None:
        yield warning("not_evaluated")


def _training(plan: ShipPlan) -> Iterator[str]:
    """Repeat what the report of the run says is wrong with what it made."""
    if not directory.RUN_ID.fullmatch(plan.source):
        return
    report = directory.read_json(directory.find(plan.source) / "report.json") or {}
    cut = [one for one in report.get("health") or () if one.get("signal") == "rows_cut"]
    for one in [*(report.get("diagnosis") or ()), *cut]:
        said = {"observed": one.get("observed"), "advice": one.get("advice")}
        yield warning("training_finding", run=plan.source, **said)


def _memory(plan: ShipPlan) -> Iterator[str]:
    free = memory.free_bytes()
    if plan.num_params is None:
        return
    if plan.runs_on is None:
        yield warning("checked_by_weights")
    elif plan.runs_on.device != "cpu":
        yield warning("gpu_never_run")
    elif plan.ram_bytes > free:
        yield warning("memory_in_use", needed=plan.ram_bytes / GIB, free=free / GIB)


def _converter(plan: ShipPlan) -> Iterator[str]:
    if plan.converter:
        if why := converter_script.why_not(config(Path(plan.load_from))):
            yield warning(
                "not_converted",
                formats=", ".join(p.format for p in plan.formats if p.format.startswith("gguf:")),
                converter=plan.converter,
                why=why,
                variable=converter_script.VARIABLE,
            )
        if not converter_script.is_here():
            yield warning("converter_downloaded", mib=converter_script.DOWNLOAD_BYTES // 2**20)
    made_apart = [p.format for p in plan.formats if find(p.format).family == "environment"]
    if made_apart and not environment.is_built():
        fields = {"requirement": environment.REQUIREMENT, "gib": environment.missing_bytes() / GIB}
        yield warning("environment_built", formats=", ".join(made_apart), **fields)


def _formats(plan: ShipPlan) -> Iterator[str]:
    names = {p.format for p in plan.formats}
    is_small = (plan.num_params or math.inf) < number("ship.small_model_billion") * 1e9
    has_4_bits = any(name.startswith("gguf:Q4") for name in names)
    if is_small and has_4_bits and "gguf:Q8_0" not in names:
        yield warning("small_in_4_bits")
    weak = [p.format for p in plan.formats if p.expected in {"warn", "fail"}]
    if weak:
        yield warning("published_loss", formats=", ".join(weak))
