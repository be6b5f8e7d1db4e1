"""prepare_dataset: propose a mapping, show what it makes, and write files once it is confirmed."""

import json
from collections import Counter
from collections.abc import Callable

from pydantic import BaseModel, Field

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.data.audit_refusals import nothing_readable
from ft_tools.data.prepare.ask_about_contradictions import require_agreement
from ft_tools.data.prepare.check_mapping import completed, questions_of, require_columns
from ft_tools.data.prepare.column_mapping import ColumnMapping
from ft_tools.data.prepare.decided import Decided, Part
from ft_tools.data.prepare.decision_notes import about_turns, labels_of, notes_of, wordings_in
from ft_tools.data.prepare.next_steps import audited, outputs_of
from ft_tools.data.prepare.open_table import Reader, decoded, source_of
from ft_tools.data.prepare.preview import shown
from ft_tools.data.prepare.propose_instruction import instruction_for
from ft_tools.data.prepare.propose_mapping import Seen, look, propose
from ft_tools.data.prepare.quote_marks import about_marks, marked_with, marks_of
from ft_tools.data.prepare.report import PrepareReport
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.row_decisions import decide
from ft_tools.data.prepare.write_files import NAMES, REPORT, write_files
from ft_tools.errors import BadData, BadInput, OutputExists, brief
from ft_tools.formats.readers.source import Source, decoded_size
from ft_tools.formats.remembered_test_sets import remember, to_forget
from ft_tools.publish import new_folder, require_space, write_file
from ft_tools.runs.processes.start import start

AT_ONCE_BYTES = 8 * 2**20
"""More is written by a run."""
COMPARED_BYTES = 64 * 2**20
"""Of a file in which similar prompts are looked for."""


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
    source = source_of(request)
    seen = look(decoded(source))
    if not seen.num_rows:
        raise _no_rows(request, source, seen)
    mapping = completed(_mapping(request, seen), seen)
    require_columns(mapping, seen)
    reader = Reader(source, mapping)
    if request.confirm is None:
        if request.output_dir and not (workspace.resolve(request.output_dir) / REPORT).is_file():
            workspace.new_folder(request.output_dir)
        return shown(request, reader, seen)
    digest = _confirmed(request, reader)
    if questions := questions_of(mapping, seen):
        raise BadInput("decide first: " + "; ".join(questions))
    if request.output_dir is None:
        raise BadInput("output_dir is missing; name a new folder for the files")
    if done := _done_before(request, reader):
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


def _no_rows(request: PrepareRequest, source: Source, seen: Seen) -> BadData:
    """Return what refuses a file, or a query, of which no row can be read."""
    if seen.noted:
        finding, rows = min(seen.noted.items(), key=lambda noted: noted[1][0])
        return nothing_readable(source.path, finding, rows[0])
    if request.query:
        return BadData(source.path, "the query returns no row", "check its tables and conditions")
    return BadData(source.path, "holds no row", "name a file with rows: a header alone is none")


def _mapping(request: PrepareRequest, seen: Seen) -> ColumnMapping:
    """Return the mapping that is given; a partial one is put over the proposal."""
    given = request.mapping or ColumnMapping()
    if given.is_complete:
        return given
    mapping = given.over(propose(seen, given))
    # What is asked without what is answered is no proposal: the report then asks for both.
    is_half = not mapping.is_complete and not mapping.is_as_it_is
    if is_half and given.is_as_it_is:
        return given
    if "system" in given.model_fields_set:
        return mapping
    return mapping.model_copy(update={"system": instruction_for(mapping, seen)})


def _require_training_rows(decided: Decided) -> None:
    """Refuse a split of which earlier test sets leave nothing to train on.

    Raises:
        BadInput: With the files that remember them.
    """
    if decided.tested and not decided.counts().get("train"):
        raise BadInput(
            f"no row is left to train on: {len(decided.tested)} are of earlier test sets, and what "
            f"belongs to them is in the test part, too; use another workspace, or {to_forget()}"
        )


def perform(
    request: PrepareRequest,
    mapping: ColumnMapping,
    tick: Callable[[int], None] = lambda _: None,
) -> PrepareReport:
    """Write the files in this process.

    Raises:
        BadInput: The file is no longer what was confirmed, or something must be decided.
    """
    assert request.output_dir is not None
    reader = Reader(source_of(request), mapping)
    digest = _confirmed(request, reader)
    size = decoded_size(reader.source, COMPARED_BYTES)
    compare = request.near_duplicates != "off" and size <= COMPARED_BYTES
    left_out: Counter[str] = Counter()
    decided = decide(mapping, request, reader.rows(left_out), tick, compare=compare)
    require_agreement(request, decided)
    _require_training_rows(decided)
    folder = workspace.new_folder(request.output_dir)
    require_space(folder.parent, 4 * reader.source.size_bytes, "the prepared files")
    counts = decided.counts()
    with new_folder(folder) as staging:
        written = write_files(reader, request, decided, staging, tick)
        report = PrepareReport(
            mapping=mapping,
            mapping_hash=digest,
            num_rows=len(decided.ledger),
            counts=counts,
            labels=labels_of(decided),
            marks=marks_of(mapping, decided),
            marked_with=marked_with(decided),
            task=decided.task,
            outputs=outputs_of(folder, counts),
            masked=written.masked,
            wordings=wordings_in(decided),
            assumptions=[
                *about_turns(mapping, left_out),
                *notes_of(decided, is_share_chosen=request.test_fraction is None),
                *about_marks(mapping, decided),
            ],
        )
        about = {"sha256": reader.content, "request": json.loads(_what_matters(request))}
        made = json.dumps(about | {"report": report.model_dump(mode="json")}, indent=1)
        write_file(staging / REPORT, made)
    if written.test_keys:
        remember(folder / NAMES[Part.TEST], written.test_keys)
    return audited(report)


def _what_matters(request: PrepareRequest) -> str:
    return request.model_dump_json(exclude={"request_id", "output_dir", "confirm", "mapping"})


def _what_was_shown(request: PrepareRequest) -> str:
    """Name what a call that confirms repeats; a mapping that it leaves out is proposed anew."""
    if request.mapping is None:
        return "the mapping, which this call does not give, and every other argument"
    return "the mapping and every other argument"


def _confirmed(request: PrepareRequest, reader: Reader) -> str:
    """Return the hash of what is about to be written.

    Raises:
        BadInput: It is not what was shown. The hash is not named: nobody saw what it stands for.
    """
    digest = request.digest_of(reader.mapping, reader.content)
    if request.confirm != digest:
        raise BadInput(
            f"confirm={brief(request.confirm)} is not the hash of this file, mapping and split; "
            f"repeat {_what_was_shown(request)} with which it was shown, or call again without "
            "confirm and check the examples and counts"
        )
    return digest


def _done_before(request: PrepareRequest, reader: Reader) -> PrepareReport | None:
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
    same = made["sha256"] == reader.content and report.mapping == reader.mapping
    if not same or made["request"] != json.loads(_what_matters(request)):
        raise OutputExists(
            f"output folder {request.output_dir!r} holds files of another file, mapping or split; "
            "name a new folder"
        )
    return audited(report)
