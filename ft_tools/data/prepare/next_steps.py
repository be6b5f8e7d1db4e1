"""What follows once the files are written: their audit, and the next calls."""

from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.data.judge.next_steps import about_told_apart, start_of_preferences
from ft_tools.data.prepare.decided import Part
from ft_tools.data.prepare.mapping_for_inference import MAPPING
from ft_tools.data.prepare.report import PreparedFiles, PrepareReport
from ft_tools.data.prepare.write_files import NAMES
from ft_tools.data.report import AuditReport, Finding
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_if_small

SIMPLE = ("majority", "tf_idf", "nearest_example")
"""Systems of `evaluate` that learn labels without a model."""

LAUNCHES = {"sft": "launch_sft", "dpo": "launch_dpo", "kto": "launch_dpo"}


def audited(report: PrepareReport) -> PrepareReport:
    """Add what an audit finds in the training file, and what to do next."""
    made = report.outputs
    if made is None or not made.num_train:
        return report
    parts = {"validation": made.validation} if made.num_validation else {}
    audit = AuditRequest(path=made.train, validation_path=parts.get("validation"))
    found = audit_if_small(audit)
    notes = list(report.assumptions)
    if found is None:
        notes.append("the training file is too large to be audited here: run audit_dataset on it")
    arguments: dict[str, Any] = audit.model_dump(exclude_defaults=True)
    why = "checks the training file, and counts tokens with `model`"
    steps = [NextStep(tool="audit_dataset", arguments=arguments, why=why)]
    still_there = [f for f in found.findings if f.removed] if found else []
    if found is not None and found.verdict == "not_ready":
        steps = found.next_steps or steps
    elif still_there:
        count = sum(finding.count for finding in still_there if not finding.in_validation)
        notes.append(
            f"{NAMES[Part.TRAIN]} holds {count} rows with findings that an audit leaves out: "
            "train on the files that audit_dataset writes"
        )
        arguments |= {"output_dir": workspace.unused("cleaned")}
        why = f"writes files without rows with {still_there[0].id}"
        steps = [NextStep(tool="audit_dataset", arguments=arguments, why=why)]
    elif found is not None and not any(f.severity == "error" for f in found.findings):
        why = "plans the training; nothing starts yet; add `model`"
        # Rows that are pairs already are prepared as they are.
        task = found.task if report.task == "sft" else report.task
        if task != "sft":
            why = f"plans the training; nothing starts yet{start_of_preferences(None)[1]}"
        arguments = {"dataset": made.train, **parts}
        steps.insert(0, NextStep(tool=LAUNCHES[task], arguments=arguments, why=why))
        steps[:0] = about_told_apart(made.train, found.findings)
    if made.num_test:
        steps.append(_measuring(report, made, found))
    return report.model_copy(
        update={
            "findings": [_as_written(f) for f in found.findings[:10]] if found else [],
            "reasons": found.reasons if found else [],
            "assumptions": notes,
            "next_steps": steps,
        }
    )


def _as_written(finding: Finding) -> Finding:
    """Return a finding of a file that was written: what an audit would leave out is still in it."""
    return finding.model_copy(update={"removed": False})


def _measuring(report: PrepareReport, made: PreparedFiles, found: AuditReport | None) -> NextStep:
    """Return the call that measures on the rows that were set aside; labels cost nothing first."""
    arguments: dict[str, Any] = {"dataset": made.test}
    first = ""
    few = found is not None and any(finding.id == "few_wordings" for finding in found.findings)
    if few and not report.wordings.get("num_test"):
        first = "; its prompts follow a few templates: add rows in new wordings first"
    if not report.labels:
        why = f"measures on the rows that were set aside; add `model` or `systems`{first}"
        return NextStep(tool="evaluate", arguments=arguments, why=why)
    arguments["systems"] = [
        {"name": kind, "baseline": kind, "examples": {"path": made.train}} for kind in SIMPLE
    ]
    why = "measures simple classifiers on the rows that were set aside; add a system with a model"
    why += first
    return NextStep(tool="evaluate", arguments=arguments, why=why)


def outputs_of(folder: Path, counts: dict[str, int]) -> PreparedFiles:
    """Name the files of a folder."""
    return PreparedFiles(
        folder=str(folder),
        train=str(folder / NAMES[Part.TRAIN]),
        validation=str(folder / NAMES[Part.VALIDATION]),
        test=str(folder / NAMES[Part.TEST]),
        unlabelled=str(folder / NAMES[Part.UNLABELLED]),
        removed=str(folder / NAMES[Part.REMOVED]),
        mapping=str(folder / MAPPING),
        num_train=counts.get("train", 0),
        num_validation=counts.get("validation", 0),
        num_test=counts.get("test", 0),
    )
