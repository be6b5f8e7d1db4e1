"""launch_sft and launch_dpo: a plan; once it is confirmed, a run."""

from dataclasses import dataclass
from pathlib import Path

from ft_tools import workspace
from ft_tools.advice.launches import Advised, require_advised
from ft_tools.contract import NextStep
from ft_tools.errors import BadInput, Missing
from ft_tools.formats.training_rows import read_examples, task_of
from ft_tools.formats.trl_formats import Task
from ft_tools.publish import new_folder
from ft_tools.runs.launch import Launch, launch, require_same
from ft_tools.runs.state import directory
from ft_tools.runs.state.training_run import ADD_ROWS, unseen_file
from ft_tools.training import arguments
from ft_tools.training.checks import accepted
from ft_tools.training.checks.engine import require_machine
from ft_tools.training.exports import axolotl, script
from ft_tools.training.exports.portable import portable
from ft_tools.training.findings import refusal, warning
from ft_tools.training.plan import SftPlan, TrainingPlan, plan_dpo, plan_kto, plan_sft
from ft_tools.training.request import DpoRequest, SftRequest, TrainingRequest
from ft_tools.training.train_further import continued


def launch_sft(request: SftRequest) -> Launch:
    """Plan a supervised fine-tuning run, or start the confirmed plan.

    Raises:
        FineTuningError: A check refused it, or an argument, file or model cannot be used.
    """
    arguments.require_packages()
    require_machine(request)
    arguments.require_known("lora", request.peft)
    arguments.require_known("sft", request.training)
    accepted.require_known(request.accept_findings)
    request = continued(request)
    start = Start(request.model or "", _advised("sft", request))
    return _launch("sft", request, plan_sft(request), start)


def launch_dpo(request: DpoRequest) -> Launch:
    """Plan a preference run, or start the confirmed plan.

    Raises:
        FineTuningError: A check refused it, or an argument, file or model cannot be used.
    """
    arguments.require_packages()
    require_machine(request)
    arguments.require_known("lora", request.peft)
    accepted.require_known(request.accept_findings)
    parent = request.sft_run or request.model or ""
    if _has_marks(request):
        arguments.require_known("kto", request.training)
        start = Start(parent, _advised("kto", request))
        return _launch("kto", request, plan_kto(request), start)
    listed = _listed(request)
    arguments.require_known("dpo", listed.training)
    start = Start(parent, _advised("dpo", listed))
    return _launch("dpo", request, plan_dpo(listed), start)


def _advised(task: Task, request: SftRequest | DpoRequest) -> Advised | None:
    """Return what the advice says of this launch.

    Raises:
        Refused: By the rule `advised_against`, unless each rule is accepted.
    """
    return require_advised(
        task,
        request.advice,
        request.accept_findings,
        model=request.model,
        dataset=request.dataset,
        from_sft=isinstance(request, DpoRequest) and request.sft_run is not None,
    )


def _has_marks(request: DpoRequest) -> bool:
    """Tell whether the dataset has marks; its loss has to be one of marks, then."""
    marks = task_of(workspace.existing(request.dataset)) == "kto"
    loss = request.training.get("loss_type")
    known = arguments.choices("kto", "loss_type")
    if loss and (isinstance(loss, str) and loss in known) != marks:
        found, choice = "pairs of answers", "a loss of pairs, such as sigmoid"
        if marks:
            found, choice = "single answers with a label", ", ".join(known)
        fields = {"loss": loss, "dataset": request.dataset}
        raise refusal("loss_of_other_data", **fields, found=found, choice=choice)
    return marks


def _listed(request: DpoRequest) -> DpoRequest:
    """Return the request with `loss_type` as the list that DPOConfig makes of it."""
    loss = request.training.get("loss_type")
    if not isinstance(loss, str):
        return request
    return request.model_copy(update={"training": {**request.training, "loss_type": [loss]}})


@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    parent: str
    """Model or run."""
    advised: Advised | None


def _launch(kind: Task, request: TrainingRequest, plan: TrainingPlan, start: Start) -> Launch:
    advised = start.advised
    warnings = plan.warnings if advised else [*plan.warnings, warning("no_advice")]
    plan = plan.model_copy(update={"advice": advised, "warnings": warnings})
    elsewhere = plan.place.exported_for
    if request.confirm is not None and elsewhere:
        raise BadInput(
            f"this plan is for {elsewhere}; run the exported script there (export_dir writes it). "
            "To train on this machine, leave backend_options.gpu out and plan again"
        )
    if request.confirm is not None and plan.missing:
        require_same(request, plan)
        raise Missing(f"nothing was started: {'; '.join(plan.missing)}")
    lineage = {"base_model": plan.model.base_model, "dataset": plan.dataset.path}
    if directory.RUN_ID.fullmatch(start.parent):
        lineage["parent_run"] = start.parent
    found = launch(
        "launch_sft" if kind == "sft" else "launch_dpo",
        kind,
        request,
        plan,
        warnings=[*plan.missing, *plan.warnings, *_about_export(request, plan)],
        device=plan.device.name,
        slots=_slots(plan),
        backend=(request.backend, request.backend_options),
        lineage=lineage,
    )
    if elsewhere:
        found = found.model_copy(update={"next_steps": [_export_step(found, plan, request)]})
    if found.started or request.export_dir is None:
        return found
    exported, notes = _exported(request.export_dir, plan)
    return found.model_copy(
        update={
            "plan": {**found.plan, "export": exported},
            "warnings": [*found.warnings, *notes],
        }
    )


def _about_export(request: TrainingRequest, plan: TrainingPlan) -> list[str]:
    """Say what an export of this plan is for, where that is hardly meant."""
    if request.export_dir is None or plan.device.name != "cpu" or not request.is_here:
        return []
    return [warning("export_for_a_cpu")]


def _export_step(found: Launch, plan: TrainingPlan, request: TrainingRequest) -> NextStep:
    """Return the call that exports a plan for elsewhere, or that measures what it trained there."""
    elsewhere = plan.place.exported_for
    if request.export_dir is not None:
        trained = f"{request.export_dir}/{script.TRAINED}"
        measured = {"model": trained, "baseline": plan.model.name}
        asked = workspace.existing(request.dataset or plan.dataset.path)
        chosen_on = [workspace.existing(request.validation)] if request.validation else []
        if plan.task != "dpo" and (test := unseen_file([asked], chosen_on)):
            measured["dataset"] = str(test)
        why = (
            f"measures the result beside its base, here or where it was trained: copy the folder "
            f"to {elsewhere}, install what train.py names in its first lines, run python train.py "
            f"in it, and copy {script.TRAINED} back"
        )
        why += "" if "dataset" in measured else f"; {ADD_ROWS}"
        return NextStep(tool="evaluate", arguments=measured, why=why)
    (confirming,) = found.next_steps
    given = {k: v for k, v in confirming.arguments.items() if k != "confirm"}
    given["export_dir"] = f"export-{found.plan_hash}"
    why = f"writes what trains this plan on {elsewhere}"
    return confirming.model_copy(update={"arguments": given, "why": why})


def _slots(plan: TrainingPlan) -> tuple[list[str], int]:
    """Return the slots that the run may take here, and how many; a scheduler has its own."""
    if plan.place.backend != "local":
        return [], plan.place.processes
    names = plan.device.cards or ["cpu"]
    return names, plan.place.processes if plan.device.cards else 1


def _exported(export_dir: str, plan: TrainingPlan) -> tuple[list[str], list[str]]:
    """Write the export with its data; return its files, and what its user has to know."""
    final = workspace.new_folder(export_dir)
    there, moved = portable(plan)
    with new_folder(final) as staging:
        written = script.write_exports(staging, there, moved)
        written += moved.copy(staging)
    names = [path.name for path in written]
    notes = [*moved.to_bring(), *_about_answers(plan)]
    if note := axolotl.memory_note(plan):
        notes.append(note)
    if plan.model.packages:
        notes.append(warning("export_packages", packages=" ".join(plan.model.packages)))
    return [str(final / name) for name in names], notes


def _about_answers(plan: TrainingPlan) -> list[str]:
    """Say where the exported script makes several examples of a conversation."""
    if not isinstance(plan, SftPlan) or plan.dataset.format != "messages":
        return []
    if plan.loss_on == "everything":
        return []
    answers = [
        sum(turn.get("role") == "assistant" for turn in row["messages"][1:])
        for _, row in read_examples(Path(plan.dataset.path))
    ]
    if sum(answers) == len(answers):
        return []
    num_answers, num_rows = sum(answers), len(answers)
    sizes = {"answers": num_answers, "conversations": num_rows, "ratio": num_answers / num_rows}
    return [warning("export_several_answers", **sizes)]
