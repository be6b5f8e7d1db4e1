"""prepare_dataset: propose a mapping, show what it makes, and write files once it is confirmed."""

import difflib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, Field

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.data.judge import privacy
from ft_tools.data.prepare.build import (
    MAX_COMPARED,
    Decided,
    Part,
    Rows,
    decide,
    joined_turns,
    make,
)
from ft_tools.data.prepare.files import MAPPING, NAMES, REPORT, write_files
from ft_tools.data.prepare.mapping import ColumnMapping, schema_of
from ft_tools.data.prepare.propose import PLAIN_NAME, SAMPLE_ROWS, Seen, look, propose
from ft_tools.data.prepare.report import PreparedFiles, PrepareReport, QuotedExample
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.quote import quote
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_if_small
from ft_tools.errors import BadData, BadInput, OutputExists
from ft_tools.examples.example import content_of
from ft_tools.examples.source import Source, decoded_size, find_sources, read
from ft_tools.examples.test_rows import remember
from ft_tools.examples.verdicts import says_verdict
from ft_tools.publish import new_folder, require_space, sha256, write_file
from ft_tools.runs.start import start

AT_ONCE_BYTES = 8 * 2**20
"""More is written by a run."""
COMPARED_BYTES = 64 * 2**20
"""Of a file in which similar prompts are looked for."""
NUM_QUOTED = 3
QUOTED_CHARS = 200
SHORT = "prepared"


class PreparePlan(BaseModel):
    """What a run that prepares a file will do."""

    path: str
    mapping_hash: str
    size_bytes: int = Field(description="Of the data file.")


def prepare_dataset(request: PrepareRequest) -> PrepareReport:
    """Propose a mapping, or write the files of a confirmed one.

    Raises:
        NotFound: The file does not exist.
        BadData: It is no table, or cannot be read.
        BadInput: The mapping names a column that does not exist, or something must be decided.
        OutputExists: The output folder is not empty.
        MissingExtra: The file type needs `fine-tuning-llm[data]`.
    """
    source = _source(request)
    seen = look(row for _, row in _rows(source) if row is not None)
    if not seen.num_rows:
        raise BadData(source.path, "holds no row that can be read", "check its type and encoding")
    mapping = _completed(request.mapping or propose(seen), seen)
    _require_columns(mapping, seen)
    questions = _questions(mapping, seen)
    if request.confirm is None:
        return _shown(request, source, mapping, seen, questions)
    if request.confirm != mapping.digest:
        raise BadInput(
            f"confirm={request.confirm!r} is not the hash of this mapping ({mapping.digest}); call "
            "again without confirm and check the examples"
        )
    if questions:
        raise BadInput("decide first: " + "; ".join(questions))
    if request.output_dir is None:
        raise BadInput("output_dir is missing; name a new folder for the files")
    if done := _done_before(request, source, mapping):
        return done
    workspace.new_folder(request.output_dir)
    if decoded_size(source, AT_ONCE_BYTES) > AT_ONCE_BYTES:
        plan = PreparePlan(
            path=request.path, mapping_hash=mapping.digest, size_bytes=source.size_bytes
        )
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
        return PrepareReport(
            mapping=mapping, mapping_hash=mapping.digest, run_id=run_id, next_steps=[step]
        )
    return perform(request, mapping)


@dataclass(frozen=True)
class _Read:
    """How the rows of a file are read, and how many could not be."""

    source: Source
    mapping: ColumnMapping

    def rows(self) -> Rows:
        """Yield every row; turns are joined to conversations."""
        rows = _rows(self.source)
        return joined_turns(self.mapping, rows) if self.mapping.turns else rows


def perform(
    request: PrepareRequest,
    mapping: ColumnMapping,
    tick: Callable[[int], None] = lambda _: None,
) -> PrepareReport:
    """Write the files in this process."""
    assert request.output_dir is not None
    reader = _Read(_source(request), mapping)
    before = sha256(reader.source.path)
    size = decoded_size(reader.source, COMPARED_BYTES)
    compare = request.near_duplicates == "lexical" and size <= COMPARED_BYTES
    decided = decide(mapping, request, reader.rows(), tick, compare=compare)
    folder = workspace.new_folder(request.output_dir)
    require_space(folder.parent, 4 * reader.source.size_bytes, "the prepared files")
    counts = decided.counts()
    with new_folder(folder) as staging:
        keys = write_files(mapping, request, decided, reader.rows(), staging, tick)
        report = PrepareReport(
            mapping=mapping,
            mapping_hash=mapping.digest,
            num_rows=len(decided.ledger),
            counts=counts,
            labels=_labels(decided),
            task=decided.task,
            outputs=_outputs(folder, counts),
            assumptions=_notes(decided),
        )
        about = {"sha256": before, "request": json.loads(_what_matters(request))}
        made = json.dumps(about | {"report": report.model_dump(mode="json")}, indent=1)
        write_file(staging / REPORT, made)
    if keys:
        remember(f"{folder.name}/{NAMES[Part.TEST]}", keys)
    return _audited(report)


def _audited(report: PrepareReport) -> PrepareReport:
    """Add what an audit finds in the training file, and what to do next."""
    made = report.outputs
    if made is None or not made.num_train:
        return report
    audit = AuditRequest(
        path=made.train, validation_path=made.validation if made.num_validation else None
    )
    found = audit_if_small(audit)
    notes = list(report.assumptions)
    if found is None:
        notes.append("the training file is too large to be audited here: run audit_dataset on it")
    launch = {"sft": "launch_sft", "dpo": "launch_dpo"}.get(report.task)
    arguments = {"dataset": made.train} | (
        {"validation": made.validation} if made.num_validation else {}
    )
    steps = [NextStep(tool="audit_dataset", arguments=audit.model_dump(exclude_defaults=True),
                      why="checks the training file, and counts tokens with `model`")]  # fmt: skip
    errors = [f for f in found.findings if f.severity == "error"] if found else []
    if launch and found is not None and not errors:
        why = "plans the training; nothing starts yet"
        steps.insert(0, NextStep(tool=launch, arguments=arguments, why=why))
    if made.num_test:
        why = "measures a model on the rows that were set aside"
        steps.append(NextStep(tool="evaluate", arguments={"dataset": made.test}, why=why))
    return report.model_copy(
        update={
            "findings": found.findings[:10] if found else [],
            "reasons": found.reasons if found else [],
            "assumptions": notes,
            "next_steps": steps,
        }
    )


def _source(request: PrepareRequest) -> Source:
    path = workspace.existing(request.path)
    if request.encoding != "utf-8":
        kind = "tsv" if path.suffix.lower() == ".tsv" else "csv"
        return Source(path, kind, False, path.stat().st_size, encoding=request.encoding)
    sources = find_sources(path)
    if len(sources) != 1:
        raise BadInput(f"path={request.path!r} is a folder of {len(sources)} files; name one file")
    return replace(sources[0], select=request.query or request.sheet)


def _rows(source: Source) -> Iterator[tuple[int, dict[str, object] | None]]:
    for row in read(source):
        is_row = row.problem is None and isinstance(row.value, dict)
        if row.problem == "not_utf8":
            raise BadData(
                source.path,
                "is not UTF-8",
                "pass encoding, such as 'cp1252' (Western Windows), and check the quoted examples",
                row.number,
            )
        yield row.number, row.value if is_row else None


def _completed(mapping: ColumnMapping, seen: Seen) -> ColumnMapping:
    """Add what the values decide: the schema of a JSON answer."""
    if mapping.answer_format == "json" and mapping.answer_schema is None:
        schema = schema_of(mapping.answer_columns, seen.values)
        return mapping.model_copy(update={"answer_schema": schema})
    return mapping


def _require_columns(mapping: ColumnMapping, seen: Seen) -> None:
    turns = mapping.turns
    named = [
        *mapping.prompt_columns,
        *mapping.answer_columns,
        *mapping.group_by,
        *([mapping.time_column] if mapping.time_column else []),
        *([turns.conversation, turns.role, turns.text] if turns else []),
    ]
    missing = [name for name in named if name not in seen.values]
    missing += [n for n in mapping.verdicts if seen.unread.column(n) is None]
    if missing:
        close = difflib.get_close_matches(missing[0], seen.columns, 3, 0.4)
        near = ", ".join(name for name in close if PLAIN_NAME.fullmatch(name))
        raise BadInput(
            f"mapping names the column {missing[0]!r}, which the file does not have"
            + (f"; similar: {near}" if near else "; call without mapping to see a proposal")
        )
    if mapping.prompt and not mapping.prompt_columns:
        raise BadInput("mapping.prompt names no {COLUMN}; every row would ask the same")
    if bool(mapping.prompt) != bool(mapping.answer_columns):
        raise BadInput("mapping needs both prompt and answer_columns, or neither")
    if len(mapping.answer_columns) > 1 and mapping.answer_format == "text":
        raise BadInput("several answer_columns need answer_format='json'")


def _questions(mapping: ColumnMapping, seen: Seen) -> list[str]:
    """Ask what only a person can decide; names only where they are plain."""
    asked = []
    turns = mapping.turns
    used = {*mapping.prompt_columns, *mapping.answer_columns, *mapping.group_by}
    used |= {mapping.time_column} if mapping.time_column else set()
    used |= {turns.conversation, turns.role, turns.text} if turns else set()
    for column in seen.unread.asked({*used, *mapping.verdicts}):
        top = column.name.partition("[")[0].partition(".")[0]
        if mapping.is_as_it_is and top in seen.nested and not says_verdict(column.name):
            # What turns say over and over is no mark of a row.
            continue
        asked.append(
            f"column {column.shown_name} may mark rows as good or bad: set mapping.verdicts for it "
            "to filter, pair, marks, class or ignore"
        )
    for name, use in mapping.verdicts.items():
        if use == "class" and name not in mapping.answer_columns:
            asked.append(f"verdicts[{name!r}]='class': put the column into answer_columns")
    if mapping.is_as_it_is and turns is None and not seen.examples:
        asked.append("no question and answer were recognised: set mapping.prompt and "
                     "mapping.answer_columns")  # fmt: skip
    return asked


def _shown(
    request: PrepareRequest,
    source: Source,
    mapping: ColumnMapping,
    seen: Seen,
    questions: list[str],
) -> PrepareReport:
    """Return the mapping with three examples and the counts of the first rows; write nothing."""
    reader = _Read(source, mapping)
    compare = request.near_duplicates == "lexical"
    decided = decide(mapping, request, islice(reader.rows(), SAMPLE_ROWS), compare=compare)
    used = {*mapping.prompt_columns, *mapping.answer_columns, *mapping.group_by, *mapping.verdicts}
    unused = [n for n in seen.columns if n not in used and n != mapping.time_column]
    notes = _notes(decided)
    if len(decided.ledger) == SAMPLE_ROWS:
        notes.append(f"counted on the first {SAMPLE_ROWS:,} rows; confirming counts all")
    if seen.formulas:
        notes.append(f"{seen.formulas} cells begin like a formula")
    steps = []
    if not questions:
        again = request.model_dump(mode="json", exclude_unset=True)
        again |= {"mapping": mapping.model_dump(mode="json", exclude_defaults=True)}
        again |= {"confirm": mapping.digest, "output_dir": request.output_dir or SHORT}
        why = "writes the files, once the user agrees with the mapping and its examples"
        steps.append(NextStep(tool="prepare_dataset", arguments=again, why=why))
    return PrepareReport(
        mapping=mapping,
        mapping_hash=mapping.digest,
        examples=list(islice(_quoted(mapping, reader.rows()), NUM_QUOTED)),
        questions=questions,
        unused_columns=[name for name in unused if PLAIN_NAME.fullmatch(name)],
        num_rows=len(decided.ledger),
        counts=decided.counts(),
        labels=_labels(decided),
        task=decided.task,
        assumptions=notes,
        next_steps=steps,
    )


def _quoted(mapping: ColumnMapping, rows: Rows) -> Iterator[QuotedExample]:
    for number, row in rows:
        example = make(mapping, number, row).example
        if example is None:
            continue
        asked, answered = example.prompt_and_answer()
        prompt = "\n".join(content_of(message) for message in asked)
        answer = "\n".join(content_of(message) for message in answered)
        texts = [quote(privacy.mask(text), QUOTED_CHARS)[0] for text in (prompt, answer)]
        yield QuotedExample(row=number, prompt=texts[0], answer=texts[1])


def _labels(decided: Decided) -> dict[str, dict[str, int]]:
    """Return how balanced each answer field with few values is; no value of the data is named."""
    made = {}
    for name, counts in decided.labels.items():
        if PLAIN_NAME.fullmatch(name) and 1 < len(counts) <= 50:
            sizes = counts.values()
            made[name] = {"classes": len(counts), "largest": max(sizes), "smallest": min(sizes)}
    return made


def _notes(decided: Decided) -> list[str]:
    if decided.compared:
        return []
    return [
        f"similar prompts were not compared (up to {MAX_COMPARED:,} rows are): only equal prompts "
        "are kept in one part"
    ]


def _outputs(folder: Path, counts: dict[str, int]) -> PreparedFiles:
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


def _what_matters(request: PrepareRequest) -> str:
    return request.model_dump_json(exclude={"request_id", "output_dir", "confirm", "mapping"})


def _done_before(
    request: PrepareRequest, source: Source, mapping: ColumnMapping
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
    same = made["sha256"] == sha256(source.path) and report.mapping_hash == mapping.digest
    if not same or made["request"] != json.loads(_what_matters(request)):
        raise OutputExists(
            f"output folder {request.output_dir!r} holds files of another file, mapping or split; "
            "name a new folder"
        )
    return _audited(report)
