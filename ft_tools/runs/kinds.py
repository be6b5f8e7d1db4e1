"""What a run may do: one row for each kind."""

from typing import NamedTuple

from ft_tools.runs.state.records import Kind


class KindOfRun(NamedTuple):
    """The tool that starts such a run, the module that does the work, the report it ends with."""

    tool: str
    worker: str
    report: str = ""


ROWS: dict[Kind, tuple[str, ...]] = {
    "sft": ("launch_sft", "training.worker.sft", "training.report:SftRunReport"),
    "dpo": ("launch_dpo", "training.worker.dpo", "training.report:PreferenceRunReport"),
    "kto": ("launch_dpo", "training.worker.dpo", "training.report:PreferenceRunReport"),
    "grpo": ("launch_grpo", "training.worker.grpo", "training.report:GrpoRunReport"),
    "grpo_probe": ("", "training.worker.grpo_probe", "training.grpo.probe:ProbeReport"),
    "ship": ("merge_and_quantize", "shipping.worker.ship", "shipping.report:ShipReport"),
    "evaluate": ("evaluate", "evaluation.worker.evaluate", "evaluation.report:EvaluationReport"),
    "audit": ("audit_dataset", "data.worker.audit", "data.report:AuditReport"),
    "prepare": ("prepare_dataset", "data.worker.prepare", "data.report:PrepareReport"),
    "create": ("create_dataset", "creation.worker.create", "creation.report:CreateReport"),
    "demo_model": ("", "models.worker.demo_model"),
}
KINDS: dict[Kind, KindOfRun] = {
    kind: KindOfRun(tool, *(f"ft_tools.{name}" for name in names))
    for kind, (tool, *names) in ROWS.items()
}
