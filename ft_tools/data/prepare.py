"""prepare_dataset: show what a mapping makes of a file, and write files once it is confirmed."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, Field

from ft_tools import facts, workspace
from ft_tools.contract import NextStep
from ft_tools.data.judge import count_findings, privacy
from ft_tools.data.judge.findings import RULES, note
from ft_tools.data.judge.next_steps import launch_on, pair_reading_steps, quoting, rule_for
from ft_tools.data.judge.readiness import FEWEST, MAX_CONFLICTING_FRACTION
from ft_tools.data.map.answers import are_classes
from ft_tools.data.map.apply_mapping import NO_ANSWER
from ft_tools.data.map.conditions import counted
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.mapping_for_inference import SNIPPET_NAME, write_mapping
from ft_tools.data.map.named_columns import require_none
from ft_tools.data.pipeline import (
    Methods,
    ProcessedRows,
    lines_of,
    process,
    with_completed_mapping,
)
from ft_tools.data.read.rows import sha256_of, sources_of_one_kind
from ft_tools.data.read.scan import Tick
from ft_tools.data.report import Outputs, PrepareReport, QuotedExample
from ft_tools.data.request import PrepareRequest
from ft_tools.data.show.profile import fitted, scan_file
from ft_tools.data.split.choose import label_counts
from ft_tools.data.split.parts import SAME_GROUP, HeldOut
from ft_tools.data.write import NAMES, Part, outputs_in, write_rows
from ft_tools.errors import BadInput, OutputExists, brief
from ft_tools.formats.column_counts import shown
from ft_tools.formats.example import Message, content_of
from ft_tools.formats.quoting import cut_to, quote
from ft_tools.formats.readers.source import decoded_size
from ft_tools.formats.test_sets import TO_FORGET, remember
from ft_tools.metrics.verdicts import (
    ALPHA,
    FEWEST_EXAMPLES,
    detectable_effect,
    examples_needed,
    normal_quantile,
)
from ft_tools.next_steps import next_step
from ft_tools.publish import new_folder, require_space, write_file
from ft_tools.runs.processes.start import start

AT_ONCE_BYTES = 8 * 2**20
"""More is written by a run."""
COMPARED_BYTES = 64 * 2**20
"""Of a file in which similar prompts are looked for."""
SHOWN_ROWS = 20_000
"""Rows of which the counts are shown before a mapping is confirmed."""
NUM_QUOTED, QUOTED_CHARS, SPOKEN_CHARS = 3, 200, 60
MOST_ABOUT = 5
REPORT, OUTPUT = "report.json", "prepared"
SIMPLE = ("majority", "tf_idf", "nearest_example")
"""Systems of `evaluate` that learn labels without a model."""
WIDEST = 0.5
"""Standard deviation of right and wrong answers, half of each."""
WANTED_EFFECT = 0.1
"""As smallest_effect_fraction of `evaluate`."""
PARTS = ("train", "validation", "test")


class PreparePlan(BaseModel):
    """What a run that prepares a file will do."""

    path: str
    mapping_hash: str
    size_bytes: int = Field(description="Of the data.")


def prepare_dataset(request: PrepareRequest) -> PrepareReport:
    """Show what a mapping makes of a file, or write the files of a confirmed one.

    Raises:
        NotFound: The file does not exist.
        BadData: It cannot be read.
        BadInput: With all that has to be decided: what of the mapping does not fit the file, and
            columns that are neither used nor ignored.
        OutputExists: The output folder is not empty.
        MissingExtra: The file type needs `fine-tuning-llm[data]`.
    """
    sources = sources_of_one_kind(request)
    if request.mapping is None:
        _, profile = scan_file(request, workspace.existing(request.path))
        if profile.format == "unknown":
            columns = {"prompt": "{COLUMN}", "answer": ["COLUMN"], "ignore": ["COLUMN"]}
            step = next_step("map_columns", _arguments(request) | {"mapping": columns})
            return PrepareReport(
                mapping=ColumnMapping(), profile=fitted(profile), next_steps=[step]
            )
    asked = request.model_copy(update={"mapping": request.mapping or ColumnMapping()})
    mapped, problems = with_completed_mapping(asked)
    digest = mapped.digest_of(sha256_of(sources))
    if request.confirm is None:
        return _shown(request, mapped, digest, problems)
    _require_confirmed(request, digest)
    require_none(problems)
    if request.output_dir is None:
        raise BadInput("output_dir is missing; name a new folder for the files")
    if done := _done_before(request):
        return done
    workspace.new_folder(request.output_dir)
    if decoded_size(sources, AT_ONCE_BYTES) <= AT_ONCE_BYTES:
        return perform(mapped)
    size_bytes = sum(source.size_bytes for source in sources)
    plan = PreparePlan(path=request.path, mapping_hash=digest, size_bytes=size_bytes)
    lineage = {"dataset": request.path}
    run_id = start("prepare", mapped, plan, request_id=request.request_id, lineage=lineage)
    step = next_step("wait_for_report", {"run_id": run_id})
    made = {"mapping": mapped.mapping, "mapping_hash": request.confirm, "run_id": run_id}
    return PrepareReport(**made, next_steps=[step])


def perform(request: PrepareRequest, tick: Tick = lambda _: None) -> PrepareReport:
    """Write the files of a confirmed request, with its mapping completed, in this process.

    Raises:
        BadInput: The file is no longer what was confirmed, or something must be decided.
    """
    assert request.output_dir is not None
    assert request.mapping is not None
    sources = sources_of_one_kind(request)
    digest = request.digest_of(sha256_of(sources))
    _require_confirmed(request, digest)
    rows = _processed(request, tick)
    _require_confirmed(request, digest, _with_known_rows(digest, rows))
    _require_training_rows(request, rows)
    folder = workspace.new_folder(request.output_dir)
    needed = 4 * sum(source.size_bytes for source in sources)
    require_space(folder.parent, needed, "the prepared files")
    code = None if request.mapping.is_as_it_is else str(folder / SNIPPET_NAME)
    outputs = outputs_in(folder, rows.parts, format_input=code)
    report = _report(request, digest, rows)
    steps = _after_writing(report, outputs)
    report = report.model_copy(update={"outputs": outputs, "next_steps": steps})
    with new_folder(folder) as staging:
        keys = write_rows(rows.scan, rows.parts, staging, tick)
        write_mapping(request.mapping, staging)
        write_file(staging / REPORT, report.model_dump_json(indent=1))
    if keys:
        remember(folder / NAMES[Part.TEST], keys)
    return report


def _arguments(request: PrepareRequest) -> dict[str, Any]:
    """Return the arguments of a call, for the next one to repeat."""
    return request.model_dump(mode="json", exclude_unset=True)


def _processed(
    request: PrepareRequest, tick: Tick, problems: Sequence[str] = (), limit: int | None = None
) -> ProcessedRows:
    """Read the rows and decide what becomes of each.

    Raises:
        BadInput: With all that somebody has to decide first.
    """
    compare = decoded_size(sources_of_one_kind(request), COMPARED_BYTES) <= COMPARED_BYTES
    rows = process(request, Methods(with_pairs=compare, tick=tick), limit, problems)
    found = list(rows.problems)
    if columns := count_findings.undecided_columns(rows.scan):
        rule = RULES["undecided_columns"]
        found.append(f"{rule.message}: {'; '.join(columns)}. For each: {rule.cure}")
    # Where nothing else is open, what is shown names contradictions.
    if (found or limit is None) and (undecided := _open_contradictions(request, rows)):
        found.append(note("decide_first", **undecided))
    require_none(found)
    return rows


def _with_known_rows(digest: str, rows: ProcessedRows) -> str:
    """Return a hash that covers the test rows and trained rows of the workspace, if there are any.

    The split depends on them, and an earlier test part may be deleted, or a run trained, meanwhile.
    """
    known = [
        sorted(at for at in some if at < SHOWN_ROWS)
        for some in (rows.scan.tested, rows.scan.trained)
    ]
    return f"{digest}-{sha256(repr(known).encode()).hexdigest()[:8]}" if any(known) else digest


def _require_training_rows(request: PrepareRequest, rows: ProcessedRows) -> None:
    """Refuse a split that leaves nothing to train on, but where all rows are the test part.

    Raises:
        BadInput: With what became of the rows, or the files that remember earlier test sets.
    """
    if rows.counts.get("train") or (request.is_test_only and rows.counts.get("test")):
        return
    if num_tested := len(rows.scan.tested):
        raise BadInput(note("test_rows_only", count=num_tested, forget=TO_FORGET))
    listed = ", ".join(f"{count} {why}" for why, count in rows.counts.items())
    raise BadInput(note("nothing_to_train_on", listed=listed))


def _open_contradictions(request: PrepareRequest, rows: ProcessedRows) -> dict[str, Any]:
    """Return what has to be decided about rows with the same prompt; empty if nothing has."""
    is_settled = any(isinstance(rule, str) for rule in request.rules)
    if is_settled or rows.scan.mapping.picked:
        return {}
    num, kept = sum(map(len, rows.undecided)), rows.scan.ledger.kept(validation=False)
    # As they were before the split left rows out.
    total = len(kept) + rows.counts.get(SAME_GROUP, 0)
    if num <= MAX_CONFLICTING_FRACTION * total:
        return {}
    rule = rule_for(rows.duplicates.num_with_majority)
    why = next_step(f"contradictions_{rule}", {}).why
    given = [request.preferred, rule] if request.preferred else rule
    return {"num": num, "total": total, "rule": given, "why": why}


def _require_confirmed(request: PrepareRequest, digest: str, known: str | None = None) -> None:
    """Refuse a confirmation of something else than what was shown.

    `known` is the hash that covers the known rows too, once they have been read.

    Raises:
        BadInput: The hash is not named: nobody saw what it stands for.
    """
    confirm = request.confirm or ""
    is_same = confirm.partition("-")[0] == digest
    if not is_same or known not in {None, confirm}:
        raise BadInput(
            note("other_known_rows" if is_same else "not_confirmed", confirm=brief(confirm))
        )


def _done_before(request: PrepareRequest) -> PrepareReport | None:
    """Return the report of the same call, if its files are there: calling twice writes once.

    Raises:
        OutputExists: Something else is in the folder.
    """
    path = workspace.resolve(request.output_dir or "") / REPORT
    if not path.is_file():
        return None
    held, cause = "other_files", None
    try:
        report = PrepareReport.model_validate_json(path.read_bytes())
        if report.mapping_hash == request.confirm:
            return report
    except (OSError, ValueError) as error:
        held, cause = "other_report", error
    raise OutputExists(note(held, folder=request.output_dir)) from cause


def _shown(
    request: PrepareRequest, mapped: PrepareRequest, digest: str, problems: Sequence[str]
) -> PrepareReport:
    """Return three examples and the counts of the first rows; write nothing."""
    rows = _processed(mapped, lambda _: None, problems, SHOWN_ROWS)
    if request.output_dir and not (workspace.resolve(request.output_dir) / REPORT).is_file():
        workspace.new_folder(request.output_dir)
    is_sample = len(rows.scan.ledger) == SHOWN_ROWS
    if not is_sample:
        _require_training_rows(mapped, rows)
    report = _report(mapped, digest, rows)
    notes = list(report.assumptions)
    if is_sample:
        notes.append(note("first_rows", count=f"{SHOWN_ROWS:,}"))
    again = _arguments(request)
    decide: list[str] = []
    if contradicting := _open_contradictions(request, rows):
        decide = [note("decide_first", **contradicting)]
        step = next_step(
            "resolve_contradictions", again | {"contradictions": contradicting["rule"]}
        )
    else:
        folder = request.output_dir or workspace.unused(OUTPUT)
        confirmed = {"confirm": report.mapping_hash, "output_dir": folder}
        step = next_step("write_prepared", again | confirmed)
    shown = {"examples": list(_quoted(rows)), "assumptions": notes, "next_steps": [step]}
    undecided = {"decide_first": decide, "mapping_hash": ""} if decide else {}
    return report.model_copy(update=shown | undecided)


def _report(request: PrepareRequest, digest: str, rows: ProcessedRows) -> PrepareReport:
    scanned, held_out = rows.scan, rows.split.held_out
    ledger, mapping = scanned.ledger, scanned.mapping
    labels = label_counts(ledger, scanned.answer_labels) if rows.task == "sft" else {}
    marks = Counter(ledger.label[at] for at in ledger.kept(validation=False))
    findings = count_findings.findings_of(scanned, request)
    return PrepareReport(
        mapping=mapping,
        mapping_hash=_with_known_rows(digest, rows),
        not_used=scanned.unread.listed(),
        num_rows=len(ledger),
        counts=rows.counts,
        labels={
            name or ",".join(mapping.answer) or "answer": {
                "classes": len(counts),
                "largest": max(counts.values()),
                "smallest": min(counts.values()),
            }
            for name, counts in labels.items()
            if are_classes(counts)
        },
        marks={"good": marks[1], "bad": marks[0]} if rows.task == "kto" else {},
        task=rows.task,
        masked=dict(scanned.masked),
        left_out_by={name: counted(values) for name, values in scanned.left_out_by.items()},
        turns_left_out=dict(sorted((+scanned.joining.left_out).items())),
        num_corrected=scanned.counts["corrected"],
        num_stripped=scanned.counts["stripped"],
        wordings=held_out._asdict() if held_out else {},
        contradictions=lines_of(ledger, rows.undecided or rows.groups),
        num_contradictions=len(rows.groups),
        num_undecided=len(rows.undecided),
        findings=findings,
        assumptions=list(_notes(request, rows)),
    )


def _notes(request: PrepareRequest, rows: ProcessedRows) -> Iterator[str]:
    """Yield what the counts do not say by themselves: rows of notes.toml that are not 0."""
    scanned, counts, held = rows.scan, rows.counts, rows.split.held_out or HeldOut(0)
    turns, named = scanned.mapping.turns, set(scanned.joining.speakers)
    num_files, num_test = len(scanned.files), counts.get("test", 0)
    num_rows = sum(counts.get(part, 0) for part in PARTS)
    num_left, unlabelled = sum(counts.values()) - num_rows, counts.get(NO_ANSWER, 0)
    never = [shown(one) for one in sorted({*turns.roles} - named - {"*"})] if turns else []
    num_held, again = held.num_test + held.num_validation, len(scanned.tested & rows.split.test)
    is_compared = rows.near.are_prompts_linked or request.near_duplicates == "off"
    if num_files > 1:
        yield note("several_files", count=num_files)
    yield from list(dict.fromkeys(scanned.about))[:MOST_ABOUT]
    yield from notes_of_test(num_test, num_rows, is_asked=request.test_fraction is not None)
    listed: list[tuple[str, int, dict[str, Any]]] = [
        ("left_out", num_left, {"removed": num_left - unlabelled, "unlabelled": unlabelled}),
        ("masked", scanned.counts["masked"], {}),
        ("joined", turns is not None, {}),
        ("no_conversation", counts.get("no_conversation", 0), {}),
        ("speakers_without_turns", len(never), {"listed": ", ".join(never)}),
        ("whole_wordings", num_held and held.num_wordings, held._asdict()),
        ("no_whole_wordings", not num_held and rows.split.held_out is not None, {}),
        ("not_compared", not is_compared, {}),
        ("earlier_test_rows", again, {"forget": TO_FORGET}),
        ("new_test_rows", again and num_test - again, {}),
        ("trained_rows", len(rows.split.trained), {}),
        (SAME_GROUP, counts.get(SAME_GROUP, 0), {}),
    ]
    yield from (note(name, count=count, **fields) for name, count, fields in listed if count)
    yield from scanned.named.notes()
    for one in scanned.mapping.replace:
        if not scanned.changed_by[one]:
            yield note("pattern_found_nothing", pattern=brief(repr(one)))


def notes_of_test(num_test: int, num_rows: int, *, is_asked: bool) -> list[str]:
    """Return what so many test rows show; nothing where that is enough, as asked for.

    >>> notes_of_test(67, 270, is_asked=False)[0][:58]
    '67 test rows, 25% of all, show a score to within 0.12 and '
    >>> notes_of_test(150, 270, is_asked=True)
    []
    """
    discordance = facts.number("evaluation.discordance")
    effect = detectable_effect(num_test, discordance)
    is_enough = effect <= WANTED_EFFECT
    if not num_test or (is_enough and is_asked):
        return []
    shows = f"only differences of {effect:.2f} or more between two systems"
    if num_test < FEWEST_EXAMPLES:
        shows = f"no difference between two systems (they are fewer than {FEWEST_EXAMPLES})"
    needed = examples_needed(WANTED_EFFECT, discordance)
    more = f"; {WANTED_EFFECT:g} takes about {needed}: raise test_fraction, or add rows"
    within = WIDEST * normal_quantile(1 - ALPHA / 2) / math.sqrt(num_test)
    numbers = {"share": f"{num_test / num_rows:.0%}", "within": f"{within:.2f}"}
    more = "" if is_enough else more
    return [note("test_rows_show", count=num_test, effect=shows, more=more, **numbers)]


def _quoted(rows: ProcessedRows) -> Iterator[QuotedExample]:
    """Quote examples as they will be trained, a good and a bad one first if there are marks."""
    ledger = rows.scan.ledger
    kept = [at for at, part in enumerate(rows.parts) if part == Part.TRAIN]
    wanted = [next((at for at in kept if ledger.label[at] == mark), -1) for mark in (1, 0)]
    wanted += [kept[(2 * n + 1) * len(kept) // (2 * NUM_QUOTED)] for n in range(NUM_QUOTED) if kept]
    system = {"role": "system", "content": rows.scan.mapping.system}
    chosen = [at for at in dict.fromkeys(wanted) if at >= 0][:NUM_QUOTED]
    for index, _, example in rows.scan.examples_at(set(chosen)):
        asked, answered = example.prompt_and_answer()
        # The mapping shows its system text; before each quoted row it would take the row's place.
        asked = asked[1:] if asked[:1] == [system] else asked
        rejected = "\n".join(map(content_of, example.rejected))
        yield QuotedExample(
            row=ledger.lines[index],
            prompt=_quote(_spoken(asked)),
            answer=_quote("\n".join(map(content_of, answered))),
            rejected=_quote(rejected) if rejected else "",
            mark="" if example.label is None else "good" if example.label else "bad",
        )


def _spoken(turns: Sequence[Message]) -> str:
    """Return turns as one text; of several, who speaks, and of long ones the beginnings."""
    if len(turns) == 1:
        return content_of(turns[0])
    most = max(SPOKEN_CHARS, QUOTED_CHARS // max(1, len(turns)))
    return "\n".join(f"{turn['role']}: {cut_to(content_of(turn), most)}" for turn in turns)


def _quote(text: str) -> str:
    quoted, is_whole = quote(privacy.mask(text), QUOTED_CHARS)
    return quoted if is_whole else f'{quoted[:-1]}\u2026"'


def _after_writing(report: PrepareReport, made: Outputs) -> list[NextStep]:
    """Return the calls that follow once files are written."""
    if not made.num_train:
        tested = {"dataset": made.test}
        return [next_step("measure_test_part", tested)] if made.num_test else []
    held_out = made.validation if made.num_validation else None
    checked = next_step("audit_prepared", {"path": made.train, "validation_path": held_out})
    if open_errors := [f for f in report.findings if f.severity == "error" and not f.removed]:
        steps = [*quoting(made.train, open_errors), checked]
    else:
        steps = [*pair_reading_steps(made.train, report.findings), checked]
        if made.num_train >= FEWEST:
            steps.append(launch_on(made.train, held_out, report.task, None))
    if not made.num_test:
        return steps
    few = any(finding.id == "few_wordings" for finding in report.findings)
    also = "new_wordings" if few and not report.wordings.get("num_test") else ""
    if not report.labels:
        return [*steps, next_step("measure_test_part", {"dataset": made.test}, also)]
    # Of labels, what costs nothing is measured first.
    learned = {"path": made.train}
    systems = [{"name": name, "baseline": name, "examples": learned} for name in SIMPLE]
    arguments = {"dataset": made.test, "systems": systems}
    return [*steps, next_step("measure_classifiers", arguments, also)]
