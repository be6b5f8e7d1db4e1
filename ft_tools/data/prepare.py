"""prepare_dataset: show what a mapping makes of a file, and write files once it is confirmed."""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, Field

from ft_tools import abandoned_calls, workspace
from ft_tools.contract import NextStep
from ft_tools.data.audit_refusals import nothing_readable
from ft_tools.data.judge import count_findings, privacy, row_kinds
from ft_tools.data.judge.enough_examples import label_counts
from ft_tools.data.judge.findings import RULES
from ft_tools.data.judge.next_steps import about_told_apart, rule_for, start_of_preferences
from ft_tools.data.judge.verdict import MAX_CONFLICTING_FRACTION
from ft_tools.data.map.apply_mapping import are_classes
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.mapping_for_inference import MAPPING, write_mapping
from ft_tools.data.map.named_columns import completed
from ft_tools.data.prepare_notes import notes_of
from ft_tools.data.read.example_texts import lengths_of
from ft_tools.data.read.rows import Reader, source_of
from ft_tools.data.read.scan import Tick, scan
from ft_tools.data.read.scanned import Scan
from ft_tools.data.repeats import contradictions, duplicates
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.report import (
    Kind,
    PreparedFiles,
    PrepareReport,
    Profile,
    QuotedExample,
)
from ft_tools.data.request import PrepareRequest
from ft_tools.data.show.profile import profile_of
from ft_tools.data.split.parts import Parts, choose_parts
from ft_tools.data.write import NAMES, Part, pair_of, write_rows
from ft_tools.errors import BadData, BadInput, OutputExists, brief
from ft_tools.formats.example import content_of
from ft_tools.formats.quoting import quote
from ft_tools.formats.readers.source import Source, decoded_size
from ft_tools.formats.remembered_test_sets import remember, to_forget
from ft_tools.publish import new_folder, require_space, sha256, write_file
from ft_tools.runs.processes.start import start

AT_ONCE_BYTES = 8 * 2**20
"""More is written by a run."""
COMPARED_BYTES = 64 * 2**20
"""Of a file in which similar prompts are looked for."""
SHOWN_ROWS = 20_000
"""Rows of which the counts are shown before a mapping is confirmed."""
NUM_QUOTED, QUOTED_CHARS = 3, 200
REPORT = "report.json"
OUTPUT = "prepared"
MOST_GROUPS, MOST_IN_GROUP = 5, 5
SIMPLE = ("majority", "tf_idf", "nearest_example")
"""Systems of `evaluate` that learn labels without a model."""
LAUNCHES: dict[Kind, str] = {"sft": "launch_sft", "dpo": "launch_dpo", "kto": "launch_dpo"}


class PreparePlan(BaseModel):
    """What a run that prepares a file will do."""

    path: str
    mapping_hash: str
    size_bytes: int = Field(description="Of the data file.")


def prepare_dataset(request: PrepareRequest) -> PrepareReport:
    """Show what a mapping makes of a file, or write the files of a confirmed one.

    Raises:
        NotFound: The file does not exist.
        BadData: It cannot be read.
        BadInput: The mapping does not fit the file, or a column is neither used nor ignored.
        OutputExists: The output folder is not empty.
        MissingExtra: The file type needs `fine-tuning-llm[data]`.
    """
    source = source_of(request)
    path = workspace.existing(request.path)
    if request.mapping is None:
        profile = profile_of(request, path)
        if profile.format == "unknown":
            return _without_mapping(request, PrepareReport(mapping=ColumnMapping()), profile)
    mapping = completed(request.mapping or ColumnMapping(), Reader(request, path))
    content = sha256(source.path)
    digest = request.digest_of(mapping, content)
    if request.confirm is None:
        if request.output_dir and not (workspace.resolve(request.output_dir) / REPORT).is_file():
            workspace.new_folder(request.output_dir)
        return _shown(request, mapping, digest)
    _require_confirmed(request, digest)
    if request.output_dir is None:
        raise BadInput("output_dir is missing; name a new folder for the files")
    if done := _done_before(request, mapping, content):
        return done
    workspace.new_folder(request.output_dir)
    if decoded_size(source, AT_ONCE_BYTES) > AT_ONCE_BYTES:
        plan = PreparePlan(path=request.path, mapping_hash=digest, size_bytes=source.size_bytes)
        run_id = start(
            "prepare",
            request.model_copy(update={"mapping": mapping}),
            plan,
            request_id=request.request_id,
            lineage={"dataset": request.path},
        )
        step = NextStep(
            tool="get_run", arguments={"run_id": run_id}, why="returns progress and report"
        )
        return PrepareReport(mapping=mapping, mapping_hash=digest, run_id=run_id, next_steps=[step])
    return perform(request, mapping)


@dataclass(frozen=True)
class Prepared:
    """What becomes of the rows of a file under a mapping."""

    scan: Scan
    task: Kind
    parts: Parts
    partner: dict[int, int]
    """Of a pair: the index of the later row -> that of the earlier one."""
    groups: list[list[int]]
    """Rows with one prompt and different answers."""
    num_kept: int
    """Rows before contradictions were resolved."""
    num_with_majority: int
    compared: bool

    def counts(self) -> dict[str, int]:
        """Count the rows by outcome."""
        names = {Part.TRAIN: "train", Part.VALIDATION: "validation", Part.TEST: "test"}
        made: Counter[str] = Counter()
        for at, part in enumerate(self.parts.of):
            made[names.get(Part(part)) or self.scan.ledger.reason_of(at) or "removed"] += 1
        return dict(made.most_common())


def perform(
    request: PrepareRequest, mapping: ColumnMapping, tick: Tick = lambda _: None
) -> PrepareReport:
    """Write the files in this process.

    Raises:
        BadInput: The file is no longer what was confirmed, or something must be decided.
    """
    assert request.output_dir is not None
    source = source_of(request)
    content = sha256(source.path)
    digest = request.digest_of(mapping, content)
    _require_confirmed(request, digest)
    prepared = _prepared(request, mapping, tick)
    if question := _open_contradictions(request, prepared):
        raise BadInput(f"decide first: {question}")
    _require_training_rows(prepared)
    folder = workspace.new_folder(request.output_dir)
    require_space(folder.parent, 4 * source.size_bytes, "the prepared files")
    report = _report(request, mapping, digest, prepared)
    report = _with_outputs(report.model_copy(update={"outputs": _outputs(folder, report.counts)}))
    with new_folder(folder) as staging:
        scanned = prepared.scan
        keys = write_rows(scanned, prepared.parts.of, staging, tick, partner=prepared.partner)
        write_mapping(mapping, staging)
        about = {"sha256": content, "request": json.loads(_what_matters(request))}
        made = json.dumps(about | {"report": report.model_dump(mode="json")}, indent=1)
        write_file(staging / REPORT, made)
    if keys:
        remember(folder / NAMES[Part.TEST], keys)
    return report


def _prepared(
    request: PrepareRequest, mapping: ColumnMapping, tick: Tick, limit: int | None = None
) -> Prepared:
    """Read the rows and decide what becomes of each."""
    path = workspace.existing(request.path)
    source = source_of(request)
    compare = request.near_duplicates != "off"
    compare = compare and decoded_size(source, COMPARED_BYTES) <= COMPARED_BYTES
    abandoned_calls.doing("reading the rows")
    asked = request.model_copy(update={"mapping": mapping})
    scanned = scan(
        asked, (path, None), Benchmarks([]), tick, lengths_of, with_pairs=compare, limit=limit
    )
    ledger = scanned.ledger
    _require_rows(source, scanned)
    if columns := count_findings.undecided_columns(scanned):
        raise BadInput(
            f"{RULES['undecided_columns'].message}: {'; '.join(columns)}. "
            f"For each: {RULES['undecided_columns'].cure}"
        )
    task = row_kinds.task_of(scanned, "auto")
    row_kinds.mark_formats(scanned, task)
    abandoned_calls.doing(f"comparing {len(ledger)} examples")
    # Copies go before pairs are made, or the partner of one would go with it.
    duplicates.mark_exact(ledger, scanned.note)
    partner: dict[int, int] = {}
    if mapping.marks is not None and mapping.marks.pairs:
        partner, task = _pair(scanned), "dpo"
    groups = contradictions.find(ledger, scanned.note)
    num_kept = len(ledger.kept(validation=False))
    num_clear = contradictions.num_with_majority(ledger, groups)
    contradictions.resolve(
        ledger, groups, request.contradictions or "keep", scanned.times_of_rows()
    )
    compared = compare and _link(scanned)
    parts = choose_parts(scanned, request, compared=compared)
    return Prepared(scanned, task, parts, partner, groups, num_kept, num_clear, compared)


def _link(scanned: Scan) -> bool:
    """Link rows whose prompts are similar; return whether all were compared."""
    # numpy comes with it.
    from ft_tools.similarity.by_words import Lexical

    return Lexical(scanned.ledger).link_near_prompts()


def _pair(scanned: Scan) -> dict[int, int]:
    """Put each bad answer with a good one to the same prompt; the later row holds the pair.

    An answer that is marked good and bad, on different rows, is in no pair.
    """
    ledger = scanned.ledger
    partner: dict[int, int] = {}
    kept = ledger.kept(validation=False)
    marks: dict[tuple[int, int], set[int]] = defaultdict(set)
    for at in kept:
        marks[ledger.prompt[at], ledger.answer[at]].add(ledger.label[at])
    waiting: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    for at in kept:
        mark, prompt = ledger.label[at], ledger.prompt[at]
        if len(marks[prompt, ledger.answer[at]]) > 1:
            ledger.remove(at, "same_answer_good_and_bad")
        elif others := waiting[prompt, 1 - mark]:
            partner[at] = others.popleft()
            ledger.remove(partner[at], "in_a_pair")
        else:
            waiting[prompt, mark].append(at)
    for left in waiting.values():
        for at in left:
            ledger.remove(at, "no_partner")
    return partner


def _require_rows(source: Source, scanned: Scan) -> None:
    """Refuse a file, or a query, of which no row can be read.

    Raises:
        BadData: With the reason of the first row.
    """
    ledger = scanned.ledger
    if not len(ledger):
        if source.select and source.kind == "sqlite":
            why = "the query returns no row", "check its tables and conditions"
        else:
            why = "holds no row", "name a file with rows, and a `where` that some rows meet"
        raise BadData(source.path, *why)
    if scanned.formats["unreadable"] == len(ledger) - len(scanned.unlabelled):
        at = next((at for at in range(len(ledger)) if at not in scanned.unlabelled), 0)
        raise nothing_readable(source.path, ledger.reason_of(at) or "", ledger.lines[at])


def _require_training_rows(prepared: Prepared) -> None:
    """Refuse a split that leaves nothing to train on.

    Raises:
        BadInput: With what became of the rows, or the files that remember earlier test sets.
    """
    counts = prepared.counts()
    if counts.get("train"):
        return
    if not prepared.scan.tested:
        raise BadInput(
            f"no row is left to train on: {', '.join(f'{n} {why}' for why, n in counts.items())}; "
            "check keep, drop and marks of the mapping, and the shares of the parts"
        )
    raise BadInput(
        f"no row is left to train on: {len(prepared.scan.tested)} are of earlier test sets, "
        "and what belongs to them is in the test part, too; use another workspace, or "
        f"{to_forget()}"
    )


def _open_contradictions(request: PrepareRequest, prepared: Prepared) -> str:
    """Return what has to be decided about rows with the same prompt; empty if nothing has."""
    num = sum(map(len, prepared.groups))
    share = num / max(1, prepared.num_kept)
    if request.contradictions is not None or share <= MAX_CONFLICTING_FRACTION:
        return ""
    rule, why = rule_for(prepared.num_with_majority)
    return (
        f"{num} of {prepared.num_kept} rows have a prompt with different answers (show_examples "
        f"with contradictions=true and this mapping quotes them): pass contradictions={rule!r} "
        f"({why}), or 'keep'"
    )


def _what_matters(request: PrepareRequest) -> str:
    return request.model_dump_json(exclude={"request_id", "output_dir", "confirm", "mapping"})


def _require_confirmed(request: PrepareRequest, digest: str) -> None:
    """Refuse a confirmation of something else than what was shown.

    Raises:
        BadInput: The hash is not named: nobody saw what it stands for.
    """
    if request.confirm != digest:
        raise BadInput(
            f"confirm={brief(request.confirm)} is not the hash of this file, mapping and split; "
            "repeat the mapping and every other argument with which it was shown, or call again "
            "without confirm and check the examples and counts"
        )


def _done_before(
    request: PrepareRequest, mapping: ColumnMapping, content: str
) -> PrepareReport | None:
    """Return the report of the same call, if its files are there: calling twice writes once.

    Raises:
        OutputExists: Something else is in the folder.
    """
    folder = workspace.resolve(request.output_dir or "")
    if not (folder / REPORT).is_file():
        return None
    try:
        made = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        report = PrepareReport.model_validate(made["report"])
    except (OSError, ValueError, KeyError) as error:
        raise OutputExists(f"output folder {request.output_dir!r} holds another report") from error
    same = made["sha256"] == content and report.mapping == mapping
    if not same or made["request"] != json.loads(_what_matters(request)):
        raise OutputExists(
            f"output folder {request.output_dir!r} holds files of another file, mapping or split; "
            "name a new folder"
        )
    return report


def _without_mapping(
    request: PrepareRequest, report: PrepareReport, profile: Profile
) -> PrepareReport:
    """Return what a file holds, and the call to fill in."""
    again = request.model_dump(mode="json", exclude_unset=True)
    again["mapping"] = {"prompt": "{COLUMN}", "answer": ["COLUMN"], "ignore": ["COLUMN"]}
    why = "with the columns that are asked and answered; all others are used or ignored by name"
    step = NextStep(tool="prepare_dataset", arguments=again, why=why)
    return report.model_copy(update={"profile": profile, "next_steps": [step]})


def _shown(request: PrepareRequest, mapping: ColumnMapping, digest: str) -> PrepareReport:
    """Return three examples and the counts of the first rows; write nothing."""
    prepared = _prepared(request, mapping, lambda _: None, SHOWN_ROWS)
    is_sample = len(prepared.scan.ledger) == SHOWN_ROWS
    if not is_sample and not prepared.scan.tested:
        _require_training_rows(prepared)
    report = _report(request, mapping, digest, prepared)
    notes = list(report.assumptions)
    if is_sample:
        notes.append(f"counted on the first {SHOWN_ROWS:,} rows; confirming counts all")
    again = request.model_dump(mode="json", exclude_unset=True)
    if question := _open_contradictions(request, prepared):
        notes.append(f"decide first: {question}")
        again["contradictions"] = rule_for(prepared.num_with_majority)[0]
        why = "shows the counts with contradictions resolved; ask the user first"
    else:
        again |= {"confirm": digest, "output_dir": request.output_dir or workspace.unused(OUTPUT)}
        why = "writes the files, once the user agrees with the mapping and its examples"
    step = NextStep(tool="prepare_dataset", arguments=again, why=why)
    examples = list(islice(_quoted(prepared), NUM_QUOTED))
    return report.model_copy(
        update={"examples": examples, "assumptions": notes, "next_steps": [step]}
    )


def _report(
    request: PrepareRequest, mapping: ColumnMapping, digest: str, prepared: Prepared
) -> PrepareReport:
    scanned = prepared.scan
    ledger = scanned.ledger
    labels = label_counts(ledger, scanned.answer_labels) if prepared.task == "sft" else {}
    marks = Counter(ledger.label[at] for at in ledger.kept(validation=False))
    held = prepared.parts.held_out
    findings = count_findings.findings_of(scanned, request)
    return PrepareReport(
        mapping=mapping,
        mapping_hash=digest,
        not_used=scanned.unread.listed(),
        num_rows=len(ledger),
        counts=prepared.counts(),
        labels={
            name or ",".join(mapping.answer) or "answer": {
                "classes": len(counts),
                "largest": max(counts.values()),
                "smallest": min(counts.values()),
            }
            for name, counts in labels.items()
            if are_classes(counts)
        },
        marks={"good": marks[1], "bad": marks[0]} if prepared.task == "kto" else {},
        task=prepared.task,
        masked=dict(scanned.masked),
        num_corrected=scanned.num_corrected,
        num_stripped=scanned.num_stripped,
        wordings={} if held is None else held._asdict(),
        contradictions=[
            [ledger.lines[at] for at in group[:MOST_IN_GROUP]]
            for group in prepared.groups[:MOST_GROUPS]
        ],
        findings=findings[: count_findings.MAX_CONCISE_FINDINGS],
        assumptions=notes_of(
            scanned,
            prepared.parts,
            prepared.counts(),
            is_share_chosen=request.test_fraction is None,
            compared=prepared.compared or request.near_duplicates == "off",
        ),
    )


def _quoted(prepared: Prepared) -> Iterator[QuotedExample]:
    """Quote examples as they will be trained, a good and a bad one first if there are marks."""
    scanned, ledger = prepared.scan, prepared.scan.ledger
    kept = [at for at, part in enumerate(prepared.parts.of) if part == Part.TRAIN]
    wanted = dict.fromkeys(
        next((at for at in kept if ledger.label[at] == mark), -1) for mark in (1, 0)
    )
    spread = [kept[(2 * n + 1) * len(kept) // (2 * NUM_QUOTED)] for n in range(NUM_QUOTED) if kept]
    chosen = sorted([at for at in dict.fromkeys([*wanted, *spread]) if at >= 0][:NUM_QUOTED])
    earlier = {prepared.partner[at] for at in chosen if at in prepared.partner}
    held = {}
    system = {"role": "system", "content": scanned.mapping.system}
    for index, row in scanned.read_again():
        if index in earlier:
            held[index] = scanned.example_of(ledger.lines[index], row.value)
        if index not in chosen:
            continue
        example = scanned.example_of(ledger.lines[index], row.value)
        if index in prepared.partner:
            example = pair_of(example, held[prepared.partner[index]])
        asked, answered = example.prompt_and_answer()
        # The mapping shows its system text; before each quoted row it would take the row's place.
        asked = asked[1:] if asked[:1] == [system] else asked
        rejected = "\n".join(map(content_of, example.rejected))
        yield QuotedExample(
            row=ledger.lines[index],
            prompt=_quote("\n".join(map(content_of, asked))),
            answer=_quote("\n".join(map(content_of, answered))),
            rejected=_quote(rejected) if rejected else "",
            mark="" if example.label is None else "good" if example.label else "bad",
        )
        if index == chosen[-1]:
            return


def _quote(text: str) -> str:
    return quote(privacy.mask(text), QUOTED_CHARS)[0]


def _outputs(folder: Path, counts: dict[str, int]) -> PreparedFiles:
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


def _with_outputs(report: PrepareReport) -> PrepareReport:
    """Add the calls that follow once files are written."""
    made = report.outputs
    if made is None or not made.num_train:
        return report
    parts = {"validation": made.validation} if made.num_validation else {}
    why = "counts tokens with the tokenizer of `model`, and looks for near-duplicates"
    audit = (
        {"path": made.train, "validation_path": made.validation} if parts else {"path": made.train}
    )
    checked = NextStep(tool="audit_dataset", arguments=audit, why=why)
    errors = [f for f in report.findings if f.severity == "error" and not f.removed]
    if errors:
        lines = errors[0].lines or [1]
        step = {"path": made.train, "lines": lines[: count_findings.FIRST_LINES]}
        why = f"quotes {errors[0].id}"
        steps = [NextStep(tool="show_examples", arguments=step, why=why), checked]
    else:
        steps = [*about_told_apart(made.train, report.findings), checked]
        why = "plans the training; nothing starts yet"
        why += "; add `model`" if report.task == "sft" else start_of_preferences(None)[1]
        arguments = {"dataset": made.train, **parts}
        steps.append(NextStep(tool=LAUNCHES[report.task], arguments=arguments, why=why))
    if made.num_test:
        steps.append(_measuring(report, made))
    return report.model_copy(update={"next_steps": steps})


def _measuring(report: PrepareReport, made: PreparedFiles) -> NextStep:
    """Return the call that measures on the rows that were set aside; labels cost nothing first."""
    few = any(finding.id == "few_wordings" for finding in report.findings)
    first = "; its prompts follow a few templates: add rows in new wordings first"
    more = first if few and not report.wordings.get("num_test") else ""
    if not report.labels:
        why = f"measures on the rows that were set aside; add `model` or `systems`{more}"
        return NextStep(tool="evaluate", arguments={"dataset": made.test}, why=why)
    systems = [{"name": k, "baseline": k, "examples": {"path": made.train}} for k in SIMPLE]
    why = f"measures simple classifiers on rows set aside; add a system with a model{more}"
    return NextStep(tool="evaluate", arguments={"dataset": made.test, "systems": systems}, why=why)
