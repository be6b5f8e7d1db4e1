"""The calls that make sense after an audit or a preparation."""

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
    if request.purpose != "train":
        return quoting(request.path, report.findings) or [_for_held_out(request, report)]
    # An id of its own would name the run that is done.
    again = request.model_dump(exclude_defaults=True, exclude={"request_id"}, mode="json")
    steps = []
    launch = _launch(request, scan, report)
    is_ready = report.verdict != "not_ready"
    is_table = any(source.kind in TABLES for source, _ in scan.files)
    if report.outputs is None and (is_table or _is_unknown(report)):
        why = "returns the columns, to be mapped to what is asked and answered"
        steps.append(_step("prepare_dataset", why, path=request.path))
    if not is_ready:
        steps += quoting(request.path, report.findings, request.validation_path)
    steps += pair_reading_steps(request.path, report.findings)
    steps += _instead_of_removing(report, again) + _for_reasons(request, report, again)
    if is_ready and report.outputs is None and launch is None:
        why = "writes cleaned, split files to train on; the input is not modified"
        steps.append(_step("audit_dataset", why, **again, output_dir=workspace.unused("cleaned")))
    if launch is None or not is_ready:
        return steps
    return [*steps, launch, *_before_training(request, launch)]


def _step(tool: str, why: str, **arguments: Any) -> NextStep:
    return NextStep(tool=tool, arguments=arguments, why=why)


def quoting(
    path: str, findings: Iterable[Finding], validation_path: str | None = None
) -> list[NextStep]:
    """Return the call that quotes rows of the first error."""
    first = next((f for f in findings if f.severity == "error" and f.lines), None)
    if first is None:
        return []
    where = validation_path if first.in_validation else path
    lines = first.lines[: count_findings.FIRST_LINES]
    return [_step("show_examples", f"quotes examples with {first.id}", path=where, lines=lines)]


def pair_reading_steps(path: str, findings: Iterable[Finding]) -> list[NextStep]:
    """Return the call to read pairs with, where something else than quality may be learned."""
    if all(finding.id != "told_apart" for finding in findings):
        return []
    why = "launch only if the user says that what tells good from bad here is what good means"
    lines = list(range(1, count_findings.FIRST_LINES + 1))
    return [_step("show_examples", why, path=path, lines=lines)]


def _before_training(request: AuditRequest, launch: NextStep) -> list[NextStep]:
    """Return the call that measures the model as it is: the score that training has to beat."""
    held_out = launch.arguments.get("validation")
    if held_out is None or launch.tool != "launch_sft":
        return []
    # Validation chooses checkpoints, so a test file beside the data is better.
    beside = Path(request.path).parent / TEST_PART
    root = workspace.roots()[0]
    has_test = (root / request.path).is_file() and (root / beside).is_file()
    if has_test and beside != Path(request.path):
        held_out = str(beside)
    why = "run this before training: it measures the model as it is, which may be enough"
    model = {"model": launch.arguments["model"]} if "model" in launch.arguments else {}
    why += "" if model else "; add `model`"
    return [_step("evaluate", why, dataset=held_out, **model)]


def _for_held_out(request: AuditRequest, report: AuditReport) -> NextStep:
    """Return what a validation or test file is for."""
    if request.purpose == "test":
        why = "measures a model on these rows, which no run here may train on"
        return _step("evaluate", why, dataset=request.path)
    tool = "launch_sft" if report.task == "sft" else "launch_dpo"
    why = "watches a training with these examples; add `model` and `dataset`"
    return _step(tool, why, validation=request.path)


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
    request: AuditRequest, report: AuditReport, again: dict[str, Any]
) -> list[NextStep]:
    """Return the calls that remove a reason why the data is not ready."""
    ids = {reason.id for reason in report.reasons}
    steps = []
    if "contradictions" in ids:
        rule, why = rule_for(report.duplicates.num_with_majority if report.duplicates else 0)
        steps.append(_step("audit_dataset", why, **(again | {"contradictions": rule})))
    if UNDECIDED in ids:
        why = "quotes rows with these columns; then use or ignore each in `mapping`"
        steps.append(_step("show_examples", why, path=request.path))
    if ids == {"too_few_for_any_goal"}:
        why = "says what else works with so few examples"
        steps.append(_step("recommend_approach", why, num_examples=report.num_usable))
    return steps


def _instead_of_removing(report: AuditReport, again: dict[str, Any]) -> list[NextStep]:
    """Offer what to decide when much would go: the kind that takes most first, then all of it."""
    # Fewer removed rows help only where enough are left for some goal.
    is_enough = all(reason.id != "too_few_for_any_goal" for reason in report.reasons)
    if not too_much_removed(report.reasons) or not is_enough:
        return []
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
        steps.append(_step("audit_dataset", why, **(again | change)))
    if report.num_usable:
        why = f"only if the user agrees to remove this many; {most} alone removes {count}"
        steps.append(_step("audit_dataset", why, **(again | {"max_removed_fraction": 1.0})))
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
    """Return the call that plans a training on a file."""
    arguments = {"dataset": dataset} | ({"validation": validation} if validation else {})
    why = "plans the training; nothing starts yet"
    if task != "sft":
        start, missing = _start_of_preferences(model)
        return _step("launch_dpo", why + missing, **start, **arguments)
    if model is None:
        return _step("launch_sft", f"{why}; add `model`", **arguments)
    return _step("launch_sft", why, model=model, **arguments)


def _start_of_preferences(model: str | None) -> tuple[dict[str, str], str]:
    """Return where training on preferences starts, and what is to be added: never at a raw base.

    >>> _start_of_preferences("sft-0123456789abcdef")
    ({'sft_run': 'sft-0123456789abcdef'}, '')
    >>> _start_of_preferences("meta-llama/Llama-3.1-8B")[0]
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
    if scan.counts["as_trained"] < len(scan.ledger):
        return False
    parts = [part for part in scan.inputs if part is not None]
    return all(not part.is_dir() and recognise(part).is_plain_lines for part in parts)
