"""merge_and_quantize: say what would be done and what it takes, and start it when confirmed."""

from pathlib import Path
from typing import Any

from ft_tools.errors import require_installed
from ft_tools.models import model_folder
from ft_tools.models.mlx import model_types
from ft_tools.publish import require_space
from ft_tools.runs.hardware.device_slots import slots_for
from ft_tools.runs.hardware.devices import find_device
from ft_tools.runs.launch import Launch, launch
from ft_tools.runs.state import directory
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.formats import MODULES, Family, Format
from ft_tools.shipping.plan import ShipPlan, formats_asked, plan_of
from ft_tools.shipping.plan_warnings import forbidden, plan_warnings
from ft_tools.shipping.request import ShipRequest


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
    for folder, num_bytes in plan.bytes_by_folder.items():
        require_space(Path(folder), num_bytes, "shipping this model")
    _require_mlx_type(rows, Path(plan.load_from))
    if request.confirm is not None:
        families: list[Family] = ["safetensors", *(row.family for row in rows)]
        for family in families:
            for module, extra in MODULES[family].items():
                require_installed(extra, module)
        if why := forbidden(plan):
            raise refusal("base_forbidden", **why)
    lineage = {"base_model": plan.base_model}
    if directory.RUN_ID.fullmatch(request.source):
        lineage["parent_run"] = request.source
    return launch(
        "merge_and_quantize",
        "ship",
        request,
        plan,
        warnings=plan_warnings(plan),
        name=plan.name,
        lineage=lineage,
        **slots_of(plan),
    )


def slots_of(plan: ShipPlan) -> dict[str, Any]:
    """Return the device of a run and the slots it waits for: those of GPUs it may load on."""
    if plan.num_params is None:
        # The run finds out after the download whether the model fits on the GPU.
        found = find_device(plan.device)
        return {"device": found.name, "slots": found.cards}
    if plan.runs_on is None:
        return {"device": None, "slots": []}
    return slots_for(plan.runs_on.device)


def _require_mlx_type(rows: list[Format], base: Path) -> None:
    """Refuse an MLX format of a model type that the installed mlx-lm does not build.

    Raises:
        Refused: It has no such type.
    """
    wanted = [row.name for row in rows if row.family == "mlx"]
    if not wanted or not base.is_dir():
        return
    kind, known = model_folder.config(base).get("model_type"), model_types()
    if isinstance(kind, str) and known and kind not in known:
        raise refusal("not_an_mlx_model", formats=", ".join(wanted), kind=kind)
