"""evaluate: plan a comparison of systems, and start it when the plan is confirmed."""

from typing import Any

from ft_tools.evaluation.plan import make_plan
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.models import MLX, find_models
from ft_tools.models.mlx import is_apple_silicon, mac_name
from ft_tools.runs.hardware.device_slots import CPU, slots_for
from ft_tools.runs.hardware.devices import find_device
from ft_tools.runs.launch import Launch, launch


def evaluate(request: EvaluateRequest) -> Launch:
    """Plan a comparison, or start the confirmed plan.

    Raises:
        BadData: A held-out line has no reference, or cannot be read.
        BadInput: A task path is not a folder or lacks a task, a model folder has no weights, or a
            chat template is requested and there is none.
        NotFound: A model is neither on this machine nor on the Hub.
        Refused: Held-out examples were trained on, and this was not accepted.
        PlanChanged: `confirm` belongs to another plan.
        MissingExtra: A package that this evaluation needs is not installed.
    """
    models = find_models(request)
    # Before the plan: a GPU that is named and not there is refused first.
    wanted = CPU if request.device == MLX else request.device
    device = find_device(wanted) if models.by_name else None
    plan = make_plan(request, models)
    where: dict[str, Any] = {"device": None, "slots": []}
    if device is not None:
        loading, shown = plan.loading, device.model
        if loading is None or (device.name != CPU and loading.place.startswith("cuda:")):
            # A run waits for the GPUs that its models are loaded on.
            where = {"device": device.name, "slots": device.cards}
        else:
            where = slots_for(CPU if loading.on_mlx else loading.place)
        if loading.on_cpu if loading else device.name == CPU:
            shown = CPU
        elif loading is not None and loading.on_mlx:
            shown = f"MLX on {(mac_name() or 'the GPU') if is_apple_silicon() else 'the CPU'}"
        plan = plan.model_copy(update={"device": shown})
    lineage = {"systems": ", ".join(spec.name for spec in request.all_systems())}
    if request.model is not None and models.tuned and models.baseline:
        lineage = {"model": request.model, "baseline": models.baseline.name}
    if models.tuned is not None and models.tuned.run_id:
        lineage["parent_run"] = models.tuned.run_id
    lineage["dataset"] = plan.dataset
    return launch(
        "evaluate",
        "evaluate",
        request,
        plan,
        warnings=plan.warnings,
        lineage=lineage,
        **where,
    )
