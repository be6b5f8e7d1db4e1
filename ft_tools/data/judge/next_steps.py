"""The calls that make sense after an audit."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.data.judge import count_findings, row_kinds
from ft_tools.data.judge.findings import UNDECIDED
from ft_tools.data.judge.verdict import too_much_removed
from ft_tools.data.read.scanned import Scan
from ft_tools.data.report import AuditReport, Finding
from ft_tools.data.request import AuditRequest, Contradictions
from ft_tools.formats.readers.source import recognise
from ft_tools.models import other_names
from ft_tools.runs.state.directory import RUN_ID

TEST_PART = "test.jsonl"
TABLES = {"csv", "tsv", "sheet", "sqlite"}


def next_steps(request: AuditRequest, scan: Scan, report: AuditReport) -> list[NextStep]:
    """Return which calls make sense now."""
    steps = []
    arguments: dict[str, Any]
    # An id of its own would name the run that is done.
    again = request.model_dump(exclude_defaults=True, exclude={"request_id"}, mode="json")
    if request.purpose != "train":
        return _of_held_out(request, report)
    first = next((f for f in report.findings if f.severity == "error" and f.lines), None)
    if first and report.verdict == "not_ready":
        where = request.validation_path if first.in_validation else request.path
        arguments = {"path": where, "lines": first.lines[: count_findings.FIRST_LINES]}
        steps.append(
            NextStep(
                tool="show_examples", arguments=arguments, why=f"quotes examples with {first.id}"
            )
        )
    steps += about_told_apart(request.path, report.findings)
    # Fewer removed rows help only where enough are left for some goal.
    is_enough = all(reason.id != "too_few_for_any_goal" for reason in report.reasons)
    if too_much_removed(report.reasons) and is_enough:
        steps += _instead_of_removing(report, again)
    steps += _for_reasons(request, scan, report, again)
    is_table = any(source.kind in TABLES for source, _ in scan.files)
    if report.outputs is None and (is_table or _is_unknown(report)):
        why = "returns the columns, to be mapped to what is asked and answered"
        arguments = {"path": request.path}
        steps.insert(0, NextStep(tool="prepare_dataset", arguments=arguments, why=why))
    launch = _launch(request, scan, report)
    if report.verdict != "not_ready" and report.outputs is None and launch is None:
        why = "writes cleaned, split files to train on; the input is not modified"
        arguments = again | {"output_dir": workspace.unused("cleaned")}
        steps.append(NextStep(tool="audit_dataset", arguments=arguments, why=why))
    if launch is None or report.verdict == "not_ready":
        return steps
    return [*steps, launch, *_before_training(request, launch)]


def about_told_apart(path: str, findings: Iterable[Finding]) -> list[NextStep]:
    """Return the call to read pairs with, where something else than quality may be learned."""
    if all(finding.id != "told_apart" for finding in findings):
        return []
    why = "launch only if the user says that what tells good from bad here is what good means"
    lines = list(range(1, count_findings.FIRST_LINES + 1))
    return [NextStep(tool="show_examples", arguments={"path": path, "lines": lines}, why=why)]


def _test_part(request: AuditRequest) -> str | None:
    """Return the test file beside the audited one: validation chooses checkpoints."""
    beside = Path(request.path).parent / TEST_PART
    root = workspace.roots()[0]
    is_there = (root / request.path).is_file() and (root / beside).is_file()
    return str(beside) if is_there and beside != Path(request.path) else None


def _before_training(request: AuditRequest, launch: NextStep) -> list[NextStep]:
    """Return the call that measures the model as it is: the score that training has to beat."""
    held_out = launch.arguments.get("validation")
    if held_out is None or launch.tool != "launch_sft":
        return []
    arguments = {"dataset": _test_part(request) or held_out}
    if "model" in launch.arguments:
        arguments["model"] = launch.arguments["model"]
    why = "run this before training: it measures the model as it is, which may be enough"
    why += "" if "model" in arguments else "; add `model`"
    return [NextStep(tool="evaluate", arguments=arguments, why=why)]


def _of_held_out(request: AuditRequest, report: AuditReport) -> list[NextStep]:
    """Return what a validation or test file is for."""
    first = next((f for f in report.findings if f.severity == "error" and f.lines), None)
    if first is not None:
        arguments: dict[str, Any] = {
            "path": request.path,
            "lines": first.lines[: count_findings.FIRST_LINES],
        }
        why = f"quotes examples with {first.id}"
        return [NextStep(tool="show_examples", arguments=arguments, why=why)]
    if request.purpose == "test":
        why = "measures a model on these rows, which no run here may train on"
        return [NextStep(tool="evaluate", arguments={"dataset": request.path}, why=why)]
    tool = "launch_sft" if report.task == "sft" else "launch_dpo"
    why = "watches a training with these examples; add `model` and `dataset`"
    return [NextStep(tool=tool, arguments={"validation": request.path}, why=why)]


def rule_for(num_with_majority: int) -> tuple[Contradictions, str]:
    """Return the rule to offer for contradictions, and why: a majority needs copies that vote."""
    if num_with_majority:
        why = "keeps the most frequent answer per prompt, and none where there is no such answer; "
        return "majority", f"{why}'drop' keeps none of them"
    return "drop", "keeps none of them, since no answer is more frequent than the others"


def _is_unknown(report: AuditReport) -> bool:
    """Return whether the rows are no examples, so that what they hold has to be mapped first.

    Nor are conversations of speakers that no format knows, such as agents.
    """
    num_unknown = report.removed_by.get("unknown_role", 0)
    return report.detected_format in row_kinds.NO_EXAMPLE or 2 * num_unknown > report.num_examples


def _for_reasons(
    request: AuditRequest, scan: Scan, report: AuditReport, again: dict[str, Any]
) -> list[NextStep]:
    """Return the calls that remove a reason why the data is not ready."""
    ids = {reason.id for reason in report.reasons}
    steps = []
    if "contradictions" in ids:
        rule, why = rule_for(report.duplicates.num_with_majority if report.duplicates else 0)
        arguments = again | {"contradictions": rule}
        steps.append(NextStep(tool="audit_dataset", arguments=arguments, why=why))
    if UNDECIDED in ids:
        why = "quotes rows with these columns; then use or ignore each in `mapping`"
        steps.append(NextStep(tool="show_examples", arguments={"path": request.path}, why=why))
    if ids == {"too_few_for_any_goal"}:
        why = "says what else works with so few examples"
        arguments = {"num_examples": report.num_usable}
        steps.append(NextStep(tool="recommend_approach", arguments=arguments, why=why))
    return steps


def _instead_of_removing(report: AuditReport, again: dict[str, Any]) -> list[NextStep]:
    """Offer what to decide when much would go: the kind that takes most first, then all of it."""
    steps = []
    most = next(iter(report.removed_by), "")
    count = report.removed_by.get(most, 0)
    others: dict[str, tuple[dict[str, Any], str]] = {
        "near_duplicate": ({"near_duplicates": "off"}, "keeps near-duplicates"),
        "personal_data_in_answer": ({"personal_data": "mask"}, "masks personal data instead"),
        "other_task": ({"task": "auto"}, "uses the task that most rows have"),
    }
    if most in others:
        change, what = others[most]
        why = f"{what}: {count} of the rows that would be removed"
        steps.append(NextStep(tool="audit_dataset", arguments=again | change, why=why))
    if not report.num_usable:
        return steps
    why = f"only if the user agrees to remove this many; {most} alone removes {count}"
    arguments = again | {"max_removed_fraction": 1.0}
    return [*steps, NextStep(tool="audit_dataset", arguments=arguments, why=why)]


def _launch(request: AuditRequest, scan: Scan, report: AuditReport) -> NextStep | None:
    """Return the call that plans the training, if there is a file that can be trained on."""
    arguments: dict[str, Any]
    if report.outputs is not None:
        arguments = {"dataset": report.outputs.train}
        if report.outputs.num_validation:
            arguments["validation"] = report.outputs.validation
    elif (
        report.verdict == "ready"
        and request.validation_path is not None
        and _is_trained_on_as_it_is(scan)
    ):
        arguments = {"dataset": request.path, "validation": request.validation_path}
    else:
        return None
    tool = "launch_sft" if report.task == "sft" else "launch_dpo"
    why = "plans the training; nothing starts yet"
    if report.task != "sft":
        start, missing = start_of_preferences(request.model)
        return NextStep(tool=tool, arguments={**start, **arguments}, why=f"{why}{missing}")
    if request.model is None:
        return NextStep(tool=tool, arguments=arguments, why=f"{why}; add `model`")
    return NextStep(tool=tool, arguments={"model": request.model, **arguments}, why=why)


def start_of_preferences(model: str | None) -> tuple[dict[str, str], str]:
    """Return where training on preferences starts, and what is to be added: never at a raw base.

    >>> start_of_preferences("sft-0123456789abcdef")
    ({'sft_run': 'sft-0123456789abcdef'}, '')
    >>> start_of_preferences("meta-llama/Llama-3.1-8B")[0]
    {}
    """
    if model is not None and RUN_ID.fullmatch(model):
        return {"sft_run": model}, ""
    instruct = other_names.instruct_name(model) if model else None
    if model and instruct is None:
        missing = "; of a raw base model, run launch_sft first and pass its run id as `sft_run`"
        return {"model": model}, missing
    missing = f"; run launch_sft first and add its run id as `sft_run`, or {instruct or 'an'} "
    return {}, missing + ("as `model`" if instruct else "instruct model as `model`")


def _is_trained_on_as_it_is(scan: Scan) -> bool:
    """Return whether launch_sft or launch_dpo reads the files themselves as the audit did."""
    if scan.num_as_trained < len(scan.ledger):
        return False
    parts = [part for part in scan.inputs if part is not None]
    return all(not part.is_dir() and recognise(part).is_plain_lines for part in parts)
