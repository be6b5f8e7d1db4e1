"""The audit itself: read, check, deduplicate, split, report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ft_tools import abandoned_calls, workspace
from ft_tools.data.audit_refusals import require_examples
from ft_tools.data.concise import concise
from ft_tools.data.judge import count_findings, row_kinds
from ft_tools.data.judge.enough_examples import judge_size, rarest_label
from ft_tools.data.judge.next_steps import next_steps
from ft_tools.data.judge.verdict import is_undecided, judge, too_much_removed
from ft_tools.data.map.mapping_for_inference import keep_mapping
from ft_tools.data.map.named_columns import completed
from ft_tools.data.page.figures import figures_of
from ft_tools.data.page.page import audit_page
from ft_tools.data.read.example_texts import lengths_of
from ft_tools.data.read.rows import Reader
from ft_tools.data.read.scan import Measure, Tick, scan
from ft_tools.data.read.scanned import Scan
from ft_tools.data.repeats import contradictions, duplicates
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.repeats.near import FindNear, find_lexical
from ft_tools.data.report import AuditReport, Duplicates, Kind, Outputs
from ft_tools.data.report_notes import assumptions_of, shape_of, short_split
from ft_tools.data.request import AuditRequest
from ft_tools.data.split.whole_wordings import validation_part
from ft_tools.data.understand.lengths import METHOD
from ft_tools.data.understand.trainers import survival
from ft_tools.data.write import CLEANED, NAMES, Part, write_rows
from ft_tools.formats.example import Example
from ft_tools.formats.remembered_test_sets import remember
from ft_tools.formats.trained_pieces import Masked, no_masks
from ft_tools.publish import new_folder, require_space, write_file

MOST_GROUPS, MOST_IN_GROUP = 5, 5


@dataclass(frozen=True)
class Methods:
    """What an audit is done with: plain Python at once, models in a worker."""

    find_near: FindNear = find_lexical
    with_pairs: bool = True
    measure: Measure = lengths_of
    token_method: str = METHOD
    masks: Callable[[Example], list[Masked]] = no_masks
    """Shows what of an example is trained on, for the page."""
    token_notes: Callable[[], list[str]] = list
    """What counting showed about the tokenizer and its template; asked after the scan."""
    tick: Tick = lambda _: None
    named_model: str | None = None
    """The model that was asked for, if it is not here: the next calls name it."""
    page_to: Path | None = None
    """Where the page is written besides the output folder."""


def perform(request: AuditRequest, methods: Methods | None = None) -> AuditReport:
    """Do the audit in this process; the worker calls it with its own methods."""
    methods = methods or Methods()
    validation = workspace.existing(request.validation_path) if request.validation_path else None
    path = workspace.existing(request.path)
    inputs = (path, validation)
    if request.mapping is not None:
        mapping = completed(request.mapping, Reader(request, path))
        request = request.model_copy(update={"mapping": mapping})
    benchmarks = Benchmarks([workspace.existing(name) for name in request.benchmark_paths])
    with_pairs = methods.with_pairs and request.near_duplicates != "off"
    abandoned_calls.doing("reading the examples")
    scanned = scan(
        request, inputs, benchmarks, methods.tick, methods.measure, with_pairs=with_pairs
    )
    require_examples(request, scanned)
    task = row_kinds.task_of(scanned, request.task)
    row_kinds.mark_formats(scanned, task)
    ledger = scanned.ledger
    num_exact = duplicates.mark_exact(ledger, scanned.note)
    num_alike = 0
    if validation is not None:
        num_alike = duplicates.mark_prompt_leaks(ledger, scanned.note)
    abandoned_calls.doing(f"comparing {len(ledger)} examples")
    near = methods.find_near(scanned, request)
    num_prompts = duplicates.mark_repeated_prompts(ledger, scanned.note)
    groups = contradictions.find(ledger, scanned.note)
    num_clear = contradictions.num_with_majority(ledger, groups)
    contradictions.resolve(ledger, groups, request.contradictions, scanned.times_of_rows())
    count_findings.mark_lengths(scanned, request.max_length)
    found = Duplicates(
        num_exact=num_exact,
        num_near=near.num_near,
        num_conflicting=sum(map(len, groups)),
        num_conflicting_groups=len(groups),
        num_with_majority=num_clear,
        conflicting_groups=[
            [ledger.lines[at] for at in group[:MOST_IN_GROUP]] for group in groups[:MOST_GROUPS]
        ],
        method=near.method,
    )
    report = _report(request, scanned, task, methods.token_method).model_copy(
        update={
            "duplicates": found,
            "shape": shape_of(scanned, num_prompts),
            "assumptions": [
                *methods.token_notes(),
                *near.assumptions,
                *assumptions_of(benchmarks, scanned, num_alike, near),
            ],
        }
    )
    if request.purpose == "test":
        remember(path, scanned.test_keys)
    abandoned_calls.doing("writing the report")
    report = _written(request, scanned, report, methods)
    return concise(request, report)


def _report(request: AuditRequest, scanned: Scan, task: Kind, token_method: str) -> AuditReport:
    ledger = scanned.ledger
    findings = count_findings.findings_of(scanned, request)
    total = len(ledger) - ledger.num_validation
    num_usable = len(ledger.kept(validation=False))
    size = judge_size(
        num_usable, task, rarest_label(ledger, scanned.answer_labels) if task == "sft" else None
    )
    verdict, reasons = judge(scanned, findings, request, size, task)
    main = row_kinds.main_format(scanned)
    return AuditReport(
        verdict=verdict,
        num_examples=total,
        num_usable=num_usable,
        removed_by=count_findings.removed_by(ledger),
        detected_format=main,
        format_fraction=round(scanned.formats[main] / total, 4) if total else 0.0,
        task=task,
        findings=findings,
        num_findings=len(findings),
        tokens=count_findings.tokens_of(ledger, request.max_length, token_method),
        trainer_survival=survival(scanned.traits, row_kinds.unread_of(scanned)),
        size_verdict=size,
        reasons=reasons,
    )


def _written(
    request: AuditRequest, scanned: Scan, report: AuditReport, methods: Methods
) -> AuditReport:
    """Write the outputs, if they are wanted and the gate on removals agrees; add the next steps."""
    to_validation: set[int] = set()
    may_write = not (too_much_removed(report.reasons) or is_undecided(report.reasons))
    if request.output_dir is not None and may_write:
        to_validation, about = _validation_part(request, scanned)
        made = _outputs(workspace.new_folder(request.output_dir), scanned, len(to_validation))
        notes = report.assumptions + about + short_split(request, scanned, len(to_validation))
        report = report.model_copy(update={"outputs": made, "assumptions": notes})
    named = request.model_copy(update={"model": request.model or methods.named_model})
    steps = next_steps(named, scanned, report)
    report = report.model_copy(update={"next_steps": steps})
    if methods.page_to is None and report.outputs is None:
        return report
    html = audit_page(report, figures_of(scanned, report.tokens, methods.masks))
    if methods.page_to is not None:
        write_file(methods.page_to, html)
    if report.outputs is not None:
        _publish(request, scanned, report, html, to_validation, methods.tick)
    return report


def _publish(
    request: AuditRequest,
    scanned: Scan,
    report: AuditReport,
    html: str,
    to_validation: set[int],
    tick: Tick,
) -> None:
    """Write the cleaned files and the reports.

    Raises:
        BadData: The input changed since it was scanned.
        OutputExists: The folder is not empty.
        DiskFull: There is no space; nothing is published.
    """
    assert report.outputs is not None
    folder = Path(report.outputs.train).parent
    ledger = scanned.ledger
    parts = bytearray(Part.REMOVED if removed else Part.TRAIN for removed in ledger.removal)
    for at in (*range(ledger.num_validation), *to_validation):
        if not ledger.removal[at]:
            parts[at] = Part.VALIDATION
    needed = sum(source.size_bytes for source, _ in scanned.files)
    require_space(folder.parent, 3 * needed, "the cleaned files")
    with new_folder(folder) as staging:
        personal = _personal(request, scanned)
        write_rows(scanned, parts, staging, tick, files=CLEANED, to_mask=personal)
        keep_mapping(scanned.inputs[0], staging)
        write_file(staging / "report.json", report.model_dump_json(indent=1))
        write_file(staging / "report.html", html)


def _personal(request: AuditRequest, scanned: Scan) -> set[int]:
    """Return the examples whose personal data is masked: prompts, and answers if so asked."""
    if request.personal_data == "keep":
        return set()
    names = ("personal_data_in_prompt", "personal_data_in_answer")
    return {at for name in names for at in scanned.found.get(name, ())}


def _validation_part(request: AuditRequest, scanned: Scan) -> tuple[set[int], list[str]]:
    """Choose the examples for validation, and say how; none if a validation file was given."""
    if scanned.inputs[1] is not None:
        return set(), []
    few = bool(scanned.wordings.findings())
    kept, fraction = scanned.ledger.kept(validation=False), request.validation_fraction
    part = validation_part(scanned.ledger, kept, fraction, request.seed, few_wordings=few)
    num = part.num_wordings
    about = [f"{num} wordings of prompts are in the validation file alone"] if num else []
    return part.rows, about


def _outputs(folder: Path, scanned: Scan, num_chosen: int) -> Outputs:
    ledger = scanned.ledger
    num_train = len(ledger.kept(validation=False)) - num_chosen
    num_validation = len(ledger.kept(validation=True)) + num_chosen
    return Outputs(
        train=str(folder / NAMES[Part.TRAIN]),
        validation=str(folder / NAMES[Part.VALIDATION]),
        removed=str(folder / NAMES[Part.REMOVED]),
        report_json=str(folder / "report.json"),
        report_html=str(folder / "report.html"),
        num_train=num_train,
        num_validation=num_validation,
        num_removed=len(ledger) - num_train - num_validation,
    )
