"""merge_and_quantize: say what would be done and what it takes, and start it when confirmed."""

import importlib.util
import math
from pathlib import Path

from ft_tools.errors import MissingExtra, NotFound, Refused
from ft_tools.facts import number
from ft_tools.models.hub import forbidden_by, how_to_get
from ft_tools.models.mlx import model_types
from ft_tools.models.model_folder import config, model_type
from ft_tools.publish import require_space
from ft_tools.runs.hardware import memory
from ft_tools.runs.hardware.device_slots import slots_for
from ft_tools.runs.hardware.devices import find_device
from ft_tools.runs.launch import Launch, launch
from ft_tools.runs.state import directory
from ft_tools.shipping import converter_script
from ft_tools.shipping.estimates import PlannedDisk
from ft_tools.shipping.formats import Format
from ft_tools.shipping.plan import ShipPlan, formats_asked, plan_of
from ft_tools.shipping.request import ShipRequest

MODULES = {"torch": "train", "transformers": "train", "peft": "train"}
GGUF_MODULES = {"gguf": "gguf", "llama_cpp": "gguf"}
NEVER_RUN = (
    "loading on a GPU has never been run by this project's tests; `fine-tuning-llm doctor --gpu` "
    "tests it on yours"
)


def merge_and_quantize(request: ShipRequest) -> Launch:
    """Plan a merge and its formats, or start the confirmed plan.

    Raises:
        UnknownName: A format is not known.
        Missing: A library is not available here.
        BadInput: The adapter belongs to another base model, or a file is damaged.
        Refused: The base is quantized, its weights are pickle files, or the model cannot fit in
            this machine's memory.
        NotFound: A file or a shard is missing, or the model may not be downloaded.
        OutputExists: The output folder is not empty.
        DiskFull: There is not enough disk space.
        PlanChanged: `confirm` belongs to another plan.
    """
    rows = formats_asked(request)
    plan = plan_of(request, rows)
    for disk in plan.disks:
        require_space(Path(disk.folder), disk.num_bytes, f"shipping this model ({_uses(disk)})")
    _require_mlx_type(rows, Path(plan.load_from))
    if request.confirm is not None:
        _require_modules(rows)
        if why := _not_to_be_had(plan):
            raise NotFound(why)
    device, slots = slots_of(plan)
    return launch(
        "merge_and_quantize",
        "ship",
        request,
        plan,
        warnings=_warnings(plan),
        name=plan.name,
        device=device,
        slots=slots,
        lineage=_lineage(request, plan),
    )


def slots_of(plan: ShipPlan) -> tuple[str | None, tuple[list[str], int]]:
    """Return the device of a run and the slots it waits for: those of GPUs it may load on."""
    if plan.num_params is None:
        # The run finds out after the download whether the model fits on the GPU.
        found = find_device(plan.device)
        return found.name, (found.cards, 1)
    if plan.runs_on is None:
        return None, ([], 1)
    return slots_for(plan.runs_on.device)


def _require_modules(rows: list[Format]) -> None:
    needed = MODULES | (GGUF_MODULES if any(row.family == "gguf" for row in rows) else {})
    if any(row.family == "bnb" for row in rows):
        needed = needed | {"bitsandbytes": "train"}
    if any(row.family == "mlx" for row in rows):
        needed = needed | {"mlx_lm": "mlx"}
    for module, extra in needed.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(extra, module)


def _require_mlx_type(rows: list[Format], base: Path) -> None:
    """Refuse an MLX format of a model that mlx-lm does not build.

    Raises:
        Refused: The installed mlx-lm has no such model type.
    """
    wanted = [row.name for row in rows if row.family == "mlx"]
    if not wanted or not base.is_dir():
        return
    kind, known = model_type(base), model_types()
    if kind and known and kind not in known:
        raise Refused(
            f"{', '.join(wanted)}: mlx-lm has no model type {kind!r}; take gguf:Q4_K_M, or "
            "upgrade mlx-lm if a later version has it"
        )


def _uses(disk: PlannedDisk) -> str:
    return ", ".join(disk.uses)


def _not_to_be_had(plan: ShipPlan) -> str:
    variable = forbidden_by()
    if plan.base_config_sha256 or variable is None:
        return ""
    return (
        f"{plan.load_from} is not on this machine and {variable} forbids downloading it; unset it, "
        f"or {how_to_get(plan.load_from)}"
    )


def _warnings(plan: ShipPlan) -> list[str]:
    found = []
    if why := _not_to_be_had(plan):
        found.append(why)
    elif not plan.base_config_sha256:
        size = f", {plan.disk_bytes / 2**30:.0f} GiB of disk in all" if plan.num_params else ""
        found.append(f"{plan.load_from} is not on this machine: the run downloads it first{size}")
    if plan.num_params is None:
        found.append(
            "the size of the base is not known: disk and memory are checked after the download"
        )
    if plan.held_out is None:
        found.append(
            "quality is measured on a small built-in text; pass `held_out` with examples of your "
            "task for a result that says more"
        )
    if plan.quantization and plan.merge_base == "original":
        found.append(
            "trained on a 4-bit base and merged into the 16-bit one, the usual choice; the check "
            "reports the difference, and merge_base='dequantized' avoids it"
        )
    if plan.measured_as is not None and plan.measured_as.num_shots:
        found.append(
            f"{plan.measured_as.evaluation} measured {plan.measured_as.system} with "
            f"{plan.measured_as.num_shots} few-shot examples in each prompt, which are not shipped"
        )
    found += _about_training(plan.source)
    found += _about_memory(plan)
    found += _about_converter(plan)
    found += [
        f"{', '.join(e.formats)}: an environment with {e.requirement} is built with pip first, "
        f"once: about {e.disk_bytes / 2**30:.1f} GiB and a few minutes"
        for e in plan.environments
        if not e.is_built
    ]
    if plan.adapter is not None and plan.measured_as is None:
        found.append(
            "no evaluation of this model is on record: run evaluate against its base before you "
            "use what is shipped"
        )
    small = (plan.num_params or math.inf) < number("ship.small_model_billion") * 1e9
    names = {p.format for p in plan.formats}
    if small and "gguf:Q8_0" not in names and any(name.startswith("gguf:Q4") for name in names):
        found.append(
            "models below 1B parameters are small in 8 bits, too, and 4 bits lost eight times as "
            "much of one: add gguf:Q8_0, and the smallest file that loses little is recommended"
        )
    weak = [p.format for p in plan.formats if p.expected in {"warn", "fail"}]
    if weak:
        found.append(f"{', '.join(weak)}: published losses are high; Q4_K_M is the usual choice")
    return found


def _about_converter(plan: ShipPlan) -> list[str]:
    if not plan.converter:
        return []
    found = []
    why = converter_script.why_not(config(Path(plan.load_from)))
    if why:
        names = ", ".join(p.format for p in plan.formats if p.format.startswith("gguf:"))
        found.append(
            f"{names} will not be made: the converter of llama.cpp ({plan.converter}) does not "
            f"carry this model: {why}; take safetensors, or name a newer llama.cpp in "
            f"{converter_script.VARIABLE}"
        )
    if not converter_script.is_here():
        size = f"{converter_script.DOWNLOAD_BYTES // 2**20} MiB"
        found.append(f"llama.cpp's converter is downloaded with pip first, once: {size}")
    return found


def _about_training(source: str) -> list[str]:
    """Repeat what the report of the run says is wrong with what it made."""
    if not directory.RUN_ID.fullmatch(source):
        return []
    report = directory.read_json(directory.find(source) / "report.json") or {}
    cut = [one for one in report.get("health") or () if one.get("signal") == "rows_cut"]
    found = [*(report.get("diagnosis") or ()), *cut]
    return [f"{source}: {one.get('observed')}: {one.get('advice')}" for one in found]


def _about_memory(plan: ShipPlan) -> list[str]:
    if plan.num_params is None:
        return []
    if plan.runs_on is None:
        return [
            "the whole model does not fit in this machine's memory or on its GPUs: the merge is "
            "checked weight by weight, and formats are made but not measured"
        ]
    if plan.runs_on.device != "cpu":
        return [NEVER_RUN]
    free = memory.free_bytes()
    if plan.ram_bytes <= free:
        return []
    return [
        f"proving the merge takes {plan.ram_bytes / 2**30:.1f} GiB of memory, and "
        f"{free / 2**30:.1f} GiB are free now: the run uses what is free when it starts, and "
        "checks the merge weight by weight if that is too little"
    ]


def _lineage(request: ShipRequest, plan: ShipPlan) -> dict[str, str]:
    lineage = {"base_model": plan.base_model}
    if directory.RUN_ID.fullmatch(request.source):
        lineage["parent_run"] = request.source
    return lineage
