"""The calls that make sense after an audit or a preparation."""

from collections.abc import Iterable
from typing import Any

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.data.judge import count_findings, row_kinds
from ft_tools.data.judge.findings import UNDECIDED
from ft_tools.data.judge.readiness import TOO_MANY_REMOVED
from ft_tools.data.read.scan import Scan
from ft_tools.data.report import AuditReport, Finding
from ft_tools.data.request import AuditRequest, Contradictions
from ft_tools.formats.readers.source import recognise
from ft_tools.models import other_names
from ft_tools.next_steps import launch_tool, next_step
from ft_tools.runs.state.directory import RUN_ID
from ft_tools.runs.state.training_run import unseen_file

TABLES = {"csv", "tsv", "sheet", "sqlite"}


def next_steps(request: AuditRequest, scan: Scan, report: AuditReport) -> list[NextStep]:
    """Return which calls make sense now."""
    if request.purpose != "train":
        return quoting(request.path, report.findings) or [_for_held_out(request, report)]
    # An id of its own would name the run that is done.
    again = request.model_dump(exclude_defaults=True, exclude={"request_id"}, mode="json")
    steps = []
    launch = _launch(request, scan, report)
    is_ready = report.verdict != "not_ready"
    is_table = any(source.kind in TABLES for source in scan.files)
    if report.outputs is None and (is_table or _is_unknown(report)):
        steps.append(next_step("read_columns", {"path": request.path}))
    if not is_ready:
        steps += quoting(request.path, report.findings, request.validation_path)
    steps += pair_reading_steps(request.path, report.findings)
    steps += _for_reasons(request, report, again)
    if is_ready and report.outputs is None and launch is None:
        steps.append(
            next_step("write_cleaned", again | {"output_dir": workspace.unused("cleaned")})
        )
    if launch is None or not is_ready:
        return steps
    return [*steps, launch, *_before_training(request, launch)]


def quoting(
    path: str, findings: Iterable[Finding], validation_path: str | None = None
) -> list[NextStep]:
    """Return the call that quotes rows of the first error."""
    first = next((f for f in findings if f.severity == "error" and f.rows), None)
    if first is None:
        return []
    where = validation_path if first.in_validation else path
    rows = first.rows[: count_findings.FIRST_LINES]
    return [next_step("show_error", {"path": where, "lines": rows}, id=first.id)]


def pair_reading_steps(path: str, findings: Iterable[Finding]) -> list[NextStep]:
    """Return the call to read pairs with, where something else than quality may be learned."""
    rows = list(range(1, count_findings.FIRST_LINES + 1))
    is_told = any(finding.id == "told_apart" for finding in findings)
    return [next_step("show_pairs", {"path": path, "lines": rows})] if is_told else []


def _before_training(request: AuditRequest, launch: NextStep) -> list[NextStep]:
    """Return the call that measures the model as it is: the score that training has to beat."""
    held_out = launch.arguments.get("validation")
    if held_out is None or launch.tool != "launch_sft":
        return []
    # Validation chooses checkpoints, so the test part of its preparation is better.
    named = [workspace.existing(name) for name in (request.path, request.validation_path) if name]
    test = unseen_file(named[:1], named[1:])
    model = launch.arguments.get("model")
    arguments = {"dataset": str(test or held_out), "model": model}
    return [next_step("measure_untrained", arguments, "" if model else "add_model")]


def _for_held_out(request: AuditRequest, report: AuditReport) -> NextStep:
    """Return what a validation or test file is for."""
    if request.purpose == "test":
        return next_step("measure_test_file", {"dataset": request.path})
    tool = launch_tool(report.task)
    return next_step("watch_training", {"validation": request.path}, tool=tool)


def rule_for(num_with_majority: int) -> Contradictions:
    """Return the rule to offer for contradictions: a majority needs copies that vote."""
    return "majority" if num_with_majority else "drop"


def _is_unknown(report: AuditReport) -> bool:
    """Return whether the rows are no examples, so that what they hold has to be mapped first.

    Nor are conversations of speakers that no format knows, such as agents.
    """
    num_unknown = report.removed_by.get("unknown_role", 0)
    return report.detected_format in row_kinds.NO_EXAMPLE or 2 * num_unknown > report.num_examples


def _for_reasons(
    request: AuditRequest, report: AuditReport, again: dict[str, Any]
) -> list[NextStep]:
    """Return the calls that remove a reason why the data is not ready."""
    ids = {reason.id for reason in report.reasons}
    steps = []
    # Fewer removed rows help only where enough are left.
    if TOO_MANY_REMOVED in ids and "too_few_for_any_goal" not in ids and report.num_usable:
        most, count = next(iter(report.removed_by.items()))
        fewer = again | {"max_removed_fraction": 1.0}
        steps.append(next_step("remove_many", fewer, most=most, count=count))
    if "contradictions" in ids:
        rule = rule_for(report.duplicates.num_with_majority if report.duplicates else 0)
        steps.append(next_step(f"contradictions_{rule}", again | {"contradictions": rule}))
    if UNDECIDED in ids:
        steps.append(next_step("show_undecided", {"path": request.path}))
    if ids == {"too_few_for_any_goal"}:
        steps.append(next_step("few_rows", {"num_examples": report.num_usable}))
    return steps


def _launch(request: AuditRequest, scan: Scan, report: AuditReport) -> NextStep | None:
    """Return the call that plans the training, if there is a file that can be trained on."""
    if made := report.outputs:
        held_out = made.validation if made.num_validation else None
        return launch_on(made.train, held_out, report.task, request.model)
    is_ready = report.verdict == "ready" and request.validation_path is not None
    if is_ready and _is_trained_on_as_it_is(scan):
        return launch_on(request.path, request.validation_path, report.task, request.model)
    return None


def launch_on(dataset: str, validation: str | None, task: str, model: str | None) -> NextStep:
    """Return the call that plans a training on a file; preferences never start at a raw base."""
    start, also, instruct = {"model": model}, "" if model else "add_model", ""
    if task != "sft":
        found = other_names.instruct_name(model) if model else None
        also = "add_sft_run" if model and found is None else "add_start"
        instruct = f"{found} as `model`" if found else "an instruct model as `model`"
        if model and RUN_ID.fullmatch(model):
            start, also = {"sft_run": model}, ""
        elif also == "add_start":
            start = {}
    arguments = {**start, "dataset": dataset, "validation": validation}
    return next_step("plan_training", arguments, also, tool=launch_tool(task), instruct=instruct)


def _is_trained_on_as_it_is(scan: Scan) -> bool:
    """Return whether launch_sft or launch_dpo reads the files themselves as the audit did."""
    if scan.counts["as_trained"] < len(scan.ledger):
        return False
    parts = [part for part in (scan.path, scan.validation) if part is not None]
    return all(not part.is_dir() and recognise(part).is_plain for part in parts)
