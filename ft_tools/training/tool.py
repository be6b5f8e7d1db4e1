"""launch_sft and launch_dpo: a plan; once it is confirmed, a run."""

from typing import Any, Literal

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.publish import new_folder
from ft_tools.runs import directory, start
from ft_tools.runs.plan import Launch, plan_hash, require_same
from ft_tools.training.checks import arguments
from ft_tools.training.exports import script
from ft_tools.training.plan import TrainingPlan
from ft_tools.training.planning import plan_dpo, plan_sft
from ft_tools.training.request import DpoRequest, SftRequest


def launch_sft(request: SftRequest) -> Launch:
    """Plan a supervised fine-tuning run; start it when `confirm` names the plan that was shown.

    Raises:
        FineTuningError: A gate said no, or an argument, file or model cannot be used.
    """
    arguments.require_packages()
    arguments.check_arguments("lora", request.peft)
    arguments.check_arguments("sft", request.training)
    return _launch("sft", request, plan_sft(request), request.model)


def launch_dpo(request: DpoRequest) -> Launch:
    """Plan a preference run (DPO); start it when `confirm` names the plan that was shown.

    Raises:
        FineTuningError: A gate said no, or an argument, file or model cannot be used.
    """
    arguments.require_packages()
    arguments.check_arguments("lora", request.peft)
    arguments.check_arguments("dpo", _listed(request).training)
    parent = request.sft_run or request.model or ""
    return _launch("dpo", request, plan_dpo(_listed(request)), parent)


def _listed(request: DpoRequest) -> DpoRequest:
    """Give `loss_type` as the list that DPOConfig makes of it."""
    loss = request.training.get("loss_type")
    if not isinstance(loss, str):
        return request
    return request.model_copy(update={"training": {**request.training, "loss_type": [loss]}})


def _exported(export_dir: str, plan: TrainingPlan) -> list[str]:
    final = workspace.new_folder(export_dir)
    with new_folder(final) as staging:
        written = script.write_exports(staging, plan)
    return [str(final / path.name) for path in written]


def _launch(kind: Literal["sft", "dpo"], request: Any, plan: TrainingPlan, parent: str) -> Launch:
    digest = plan_hash(plan)
    shown = plan.model_dump(mode="json")
    arguments_again = request.model_dump(mode="json", exclude_unset=True) | {"confirm": digest}
    if request.confirm is None:
        arguments_again.pop("export_dir", None)
        if request.export_dir is not None:
            shown["export"] = _exported(request.export_dir, plan)
        why = "starts exactly this plan, once the user has agreed to it"
        step = NextStep(tool=f"launch_{kind}", arguments=arguments_again, why=why)
        return Launch(plan_hash=digest, plan=shown, warnings=plan.warnings, next_steps=[step])
    require_same(request.confirm, plan)
    lineage = {"base_model": plan.model.base_model, "dataset": plan.dataset.path}
    if directory.RUN_ID.fullmatch(parent):
        lineage["parent_run"] = parent
    run_id = start.start(
        kind,
        request,
        plan,
        request_id=request.request_id,
        name=request.name,
        device=plan.device.name if request.backend == "local" else None,
        backend=(request.backend, request.backend_options),
        lineage=lineage,
    )
    why = "shows how far it is; a minute between two looks is enough"
    step = NextStep(tool="get_run", arguments={"run_id": run_id}, why=why)
    return Launch(
        plan_hash=digest,
        plan=shown,
        warnings=plan.warnings,
        started=True,
        run_id=run_id,
        next_steps=[step],
    )
