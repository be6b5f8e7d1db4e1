"""The audit itself: what the pipeline found, as verdict, findings, cleaned files, page."""

from collections.abc import Iterator
from pathlib import Path

from ft_tools import abandoned_calls, workspace
from ft_tools.data.judge import count_findings, row_kinds
from ft_tools.data.judge.findings import note
from ft_tools.data.judge.next_steps import next_steps
from ft_tools.data.judge.readiness import is_undecided, judge, too_much_removed
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.mapping_for_inference import mapping_beside, write_mapping
from ft_tools.data.page import audit_page
from ft_tools.data.pipeline import Methods, ProcessedRows, process, with_completed_mapping
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.data.split.choose import num_wanted
from ft_tools.data.write import CLEANED, outputs_in, write_rows
from ft_tools.formats.readers.source import is_held_out
from ft_tools.formats.test_sets import FOLDER, name_of, remember
from ft_tools.publish import new_folder, require_space, write_file
from ft_tools.similarity.ngrams import MIN_WORDS

SHORT_SPLIT = 0.5
"""Of the validation examples that were wanted; with fewer, the report says why."""
MOST_ABOUT = 5
"""Sentences about the sheets and headers of a folder's files."""


def perform(request: AuditRequest, methods: Methods | None = None) -> AuditReport:
    """Do the audit in this process; the worker calls it with its own methods."""
    methods = methods or Methods()
    request, problems = with_completed_mapping(request)
    mapping = mapping_beside(workspace.existing(request.path)) if request.output_dir else None
    data = process(request, methods, problems=problems)
    scanned = data.scan
    count_findings.mark_lengths(scanned, request.max_length)
    if request.purpose == "test":
        remember(scanned.path, scanned.test_keys)
    abandoned_calls.doing("writing the report")
    report = _report(request, data, methods)
    if request.output_dir is not None and not (
        too_much_removed(report.reasons) or is_undecided(report.reasons)
    ):
        notes = [*report.assumptions, *_notes_of_split(request, data)]
        folder = workspace.new_folder(request.output_dir)
        page = str(folder / "report.html")
        outputs = outputs_in(folder, data.parts, CLEANED, report_html=page)
        report = report.model_copy(update={"outputs": outputs, "assumptions": notes})
    named = request.model_copy(update={"model": request.model or methods.named_model})
    steps = next_steps(named, scanned, report)
    report = report.model_copy(update={"next_steps": steps})
    if methods.page_to is not None or report.outputs is not None:
        html = audit_page(report, scanned)
        if methods.page_to is not None:
            write_file(methods.page_to, html)
        if report.outputs is not None:
            _publish(request, data, report, html, methods, mapping)
    return report


def _report(request: AuditRequest, data: ProcessedRows, methods: Methods) -> AuditReport:
    scanned = data.scan
    ledger = scanned.ledger
    total = len(ledger) - ledger.num_validation
    num_usable = len(ledger.kept(validation=False))
    findings = count_findings.findings_of(scanned, request)
    verdict, reasons = judge(scanned, findings, request)
    main = row_kinds.main_format(scanned)
    shape = scanned.languages.shape() | scanned.pairs.shape()
    shape |= {f"secret_{name}": count for name, count in scanned.secrets.items()}
    if scanned.num_trained_tokens is not None:
        shape["num_trained_tokens"] = scanned.num_trained_tokens
    return AuditReport(
        verdict=verdict,
        num_examples=total,
        num_usable=num_usable,
        removed_by=count_findings.removed_by(ledger),
        detected_format=main,
        format_fraction=round(scanned.formats[main] / total, 4) if total else 0.0,
        task=data.task,
        findings=findings,
        num_findings=len(findings),
        duplicates=data.duplicates,
        tokens=count_findings.tokens_of(ledger, request.max_length, methods.token_method),
        trainer_survival=scanned.trainers.survival(),
        shape=shape,
        assumptions=[*methods.token_notes(), *data.near.assumptions, *_notes(data)],
        reasons=reasons,
    )


def _notes(data: ProcessedRows) -> Iterator[str]:
    """Yield how far leaks and benchmarks were looked for, and how the files were read."""
    scanned, benchmarks = data.scan, data.benchmarks
    yield from list(dict.fromkeys(scanned.about))[:MOST_ABOUT]
    if scanned.validation is not None and not scanned.ledger.kept(validation=True):
        yield note("no_validation_example")
    if benchmarks.num_questions or benchmarks.num_too_short:
        name = "benchmarks_searched" if data.near.by_meaning else "benchmarks_searched_by_words"
        yield note(name, count=benchmarks.num_questions)
    if benchmarks.num_too_short:
        yield note("benchmarks_too_short", count=benchmarks.num_too_short, least=MIN_WORDS)
    if benchmarks.num_without:
        yield note("benchmarks_without", count=benchmarks.num_without)
    for file, count in scanned.test_sets.most_common():
        yield note("test_rows", count=count, name=name_of(file), file=FOLDER / file)
    yield from scanned.named.notes()
    num_parts, num_files = sum(map(is_held_out, scanned.files)), len(scanned.files)
    if 0 < num_parts < num_files:
        yield note("parts_as_training", count=num_parts, files=num_files)
    if num_files > 1:
        yield note("several_files", count=num_files)


def _notes_of_split(request: AuditRequest, data: ProcessedRows) -> Iterator[str]:
    """Yield how examples were chosen for validation."""
    made = data.split
    if made.held_out and made.held_out.num_validation:
        yield note("held_out_wordings", count=made.held_out.num_validation)
    fraction = request.validation_fraction if request.splits else 0.0
    wanted = num_wanted(len(data.scan.ledger.kept(validation=False)), fraction)
    if len(made.validation) < SHORT_SPLIT * wanted:
        yield note("short_split", count=len(made.validation), wanted=wanted)


def _publish(
    request: AuditRequest,
    data: ProcessedRows,
    report: AuditReport,
    html: str,
    methods: Methods,
    mapping: ColumnMapping | None,
) -> None:
    """Write the cleaned files and the reports.

    Raises:
        BadData: The input changed since it was scanned.
        OutputExists: The folder is not empty.
        DiskFull: There is no space; nothing is published.
    """
    assert report.outputs is not None
    scanned, folder = data.scan, Path(report.outputs.folder)
    personal: set[int] = set()
    if request.personal_data != "keep":
        names = ("personal_data_in_prompt", "personal_data_in_answer")
        personal = {at for name in names for at in scanned.found.get(name, ())}
    needed = sum(source.size_bytes for source in scanned.files)
    require_space(folder.parent, 3 * needed, "the cleaned files")
    with new_folder(folder) as staging:
        write_rows(scanned, data.parts, staging, methods.tick, files=CLEANED, to_mask=personal)
        if mapping is not None:
            write_mapping(mapping, staging)
        write_file(staging / "report.json", report.model_dump_json(indent=1))
        write_file(staging / "report.html", html)
        methods.write_beside(staging)
