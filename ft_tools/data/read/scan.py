"""Read every row once: normalise, check, remember. The first of two passes."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ft_tools.data.judge import privacy, text_faults, turn_faults
from ft_tools.data.judge.findings import RULES
from ft_tools.data.map.apply_mapping import LEFT_OUT, NO_ANSWER, MappedRow, is_empty, text_of_cell
from ft_tools.data.map.conditions import values_at
from ft_tools.data.map.conversations import is_one_turn
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.times import sortable
from ft_tools.data.read.example_texts import lengths_of, text_of
from ft_tools.data.read.ledger import Ledger, hash_of
from ft_tools.data.read.rows import Reader
from ft_tools.data.read.scanned import Kind, Scan
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.data.understand.languages import UNKNOWN
from ft_tools.formats.column_counts import cell_at
from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.formats import columns_read, is_as_trained
from ft_tools.formats.loss_marks import has_marked_answer, trained_answers
from ft_tools.formats.masking import MeasuredExample
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.test_sets import keys_of
from ft_tools.formats.training_rows import trained_rows
from ft_tools.similarity.word_hashes import tokens_in

# What an example's structure may lack and trainers still train on it.
HARMLESS = {
    "placeholder_input",
    "implicit_prompt",
    "chosen_begins_rejected",
    "ends_with_user",
    "identical_pair",
}
Tick = Callable[[int], None]
"""Called now and then with the number of rows read; may raise to stop."""
TICK_ROWS = 500
Measure = Callable[[Sequence[Example]], list[MeasuredExample]]
BATCH_ROWS, BATCH_CHARS = 256, 1 << 18
"""Rows that are checked together, and about how many characters they may have in all."""
UNKNOWN_CHARS = BATCH_CHARS // 64
"""What a row counts for of which the length is not known."""
NOTHING = MappedRow(None)
Request = AuditRequest | PrepareRequest


@dataclass(slots=True)
class _ScannedRow:
    """A row of a batch, and what is known of it so far."""

    number: int
    row: Row
    made: MappedRow = NOTHING
    example: Example = field(init=False)
    """Unless the row has a problem."""
    is_tested: bool = False
    """Whether the row belongs to a test set, as it stands in the file or masked."""
    is_trained: bool = False
    """Whether a run was trained on it."""
    is_known: bool = False
    """Whether it is an example of a known format: only then it has what follows."""
    asked: list[Message] = field(init=False)
    prompt: str = ""
    answer: str = ""
    rejected: str = ""
    found: list[str] = field(default_factory=list)
    broken: bool = field(init=False)
    tokens: MeasuredExample = field(init=False)
    language: str = UNKNOWN


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Let Python not look for cycles: rows are in none, and it would look at each part of them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_no_search_for_cycles()
def scan(
    request: Request,
    inputs: tuple[Path, Path | None],
    benchmarks: Benchmarks,
    tick: Tick,
    measure: Measure,
    *,
    with_pairs: bool,
    limit: int | None = None,
) -> Scan:
    """Read the validation file, if there is one, and then the data, or its first rows.

    Raises:
        BadData: A file is not data.
        BadInput: Speakers have no role.
    """
    path, validation = inputs
    mapping = request.mapping or ColumnMapping()
    ledger = Ledger(with_pairs=with_pairs, with_questions=validation is not None)
    # What chooses rows of the data says nothing of the validation file.
    plain = request.model_copy(update={"sheet": None, "query": None, "encoding": None, "where": {}})
    readers = (Reader(request, path), Reader(plain, validation) if validation else None)
    result = Scan(ledger, inputs, readers, mapping, is_sample=limit is not None)
    if isinstance(request, PrepareRequest):
        result.trained_rows = trained_rows()
        result.masks = mapping.masks_all
    for reader, is_validation in ((readers[1], True), (readers[0], False)):
        if reader is None:
            continue
        result.in_validation = is_validation
        result.versions |= reader.versions()
        observe = None if is_validation else _observing(result)
        rows = islice(reader.rows(result.joining, observe), None if is_validation else limit)
        for batch in _batches(rows, result):
            _take(result, request, batch, benchmarks, measure)
            tick(len(ledger))
        if is_validation:
            ledger.num_validation = len(ledger)
    # A value that is named may be in the rows that were not read.
    is_sample = limit is not None and len(ledger) - ledger.num_validation >= limit
    is_sample = is_sample or bool(request.where)
    result.joining.require_roles()
    result.named.require_values(is_sample=is_sample)
    result.settle_loss()
    return result


def _observing(result: Scan) -> Callable[[Row], None] | None:
    """Return what looks at each row of the file for columns that are named, and those unread."""
    mapping = result.mapping
    turns = mapping.turns
    used, of_a_turn = mapping.used_columns, mapping.used_as_turn
    if not used:
        return None

    def observe(row: Row) -> None:
        result.named.add(row.value)
        if result.reads_by_mapping and isinstance(row.value, Mapping):
            is_turn = turns is not None and is_one_turn(turns, row.value)
            result.unread.add(row.value, of_a_turn if is_turn else used, row.number)

    return observe


def _batches(rows: Iterable[Row], result: Scan) -> Iterator[list[_ScannedRow]]:
    """Yield the rows with their examples, some at a time: what is counted by arrays is faster."""
    batch: list[_ScannedRow] = []
    num_chars = 0
    for row in rows:
        taken = _ScannedRow(row.number, row)
        if not row.problem:
            _make(result, taken)
        known = sum(map(len, (taken.prompt, taken.answer, taken.rejected))) or UNKNOWN_CHARS
        num_chars += known if row.num_chars is None else row.num_chars
        batch.append(taken)
        if len(batch) >= BATCH_ROWS or num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _make(result: Scan, taken: _ScannedRow) -> None:
    """Make the example of a row."""
    made = taken.made = result.make(taken.number, taken.row.value)
    if made.example is None:
        return
    example = taken.example = made.example
    taken.is_known = example.format != "unknown"
    if not taken.is_known:
        return
    # A test set is remembered as it was given, or as an earlier preparation wrote it.
    taken.is_tested = result.masks and example in result.test_rows
    taken.is_trained = result.masks and example in result.trained_rows
    result.mask(example)
    taken.asked, answered = example.prompt_and_answer()
    taken.prompt, taken.answer = text_of(taken.asked), text_of(answered)
    taken.rejected = text_of(example.rejected)


def _take(
    result: Scan,
    request: Request,
    batch: list[_ScannedRow],
    benchmarks: Benchmarks,
    measure: Measure,
) -> None:
    """Check the rows of a batch, and remember them in their order."""
    known = [taken for taken in batch if taken.is_known]
    for taken in known:
        _check(result, taken, benchmarks)
    # What is broken anyway is not put to a template, which would only refuse it.
    for by, some in (
        (measure, [t for t in known if not t.broken]),
        (lengths_of, [t for t in known if t.broken]),
    ):
        for taken, tokens in zip(some, by([t.example for t in some]), strict=True):
            taken.tokens = tokens
            taken.found += tokens.findings
    if not result.in_validation:
        for taken in known:
            _understand(result, taken)
            _compare_with_tests(result, request, taken)
            if not result.reads_by_mapping and isinstance(taken.row.value, Mapping):
                read = columns_read(taken.row.value, taken.example.format)
                used = result.mapping.used_columns if result.mapping.row_columns else set()
                result.unread.add(taken.row.value, read.union(used), taken.number)
    for taken in batch:
        _keep(result, request, taken)
    if result.ledger.with_pairs:
        texts = [text for t in batch for text in (t.prompt, t.answer, t.rejected)]
        result.ledger.add_words(tokens_in(texts))


def _check(result: Scan, taken: _ScannedRow, benchmarks: Benchmarks) -> None:
    """Check for faults of a single example."""
    example = taken.example
    taken.found = [*taken.row.notes, *turn_faults.structure(example)]
    taken.broken = any(RULES[name].removes for name in taken.found if name not in HARMLESS)
    taken.found += text_faults.contents(example)
    taken.found += _privacy(result, example)
    if benchmarks.num_questions:
        questions = [content_of(turn) for turn in taken.asked if turn["role"] == "user"]
        taken.found += benchmarks.matches(taken.prompt, questions, taken.answer)


def _privacy(result: Scan, example: Example) -> list[str]:
    """Return which findings about secrets and personal data hold for an example."""
    turns = [*example.messages, *example.chosen, *example.rejected]
    is_plain = example.text is None and not example.tools and all(len(t) == 2 for t in turns)
    # Beside what its turns say, such an example has the names of roles only.
    if is_plain and not privacy.may_hold("\n".join([turn["content"] for turn in turns])):
        return []
    answered, other = map("\n".join, example.texts())
    for text in (answered, other):
        result.counts.update(privacy.left_readable(text))
    found = []
    if secrets := privacy.secrets_in(f"{other}\n{answered}"):
        result.secrets.update(secrets)
        found.append("secret")
    if privacy.personal_data_in(answered):
        found.append("personal_data_in_answer")
    elif privacy.personal_data_in(other):
        found.append("personal_data_in_prompt")
    return found


def _understand(result: Scan, taken: _ScannedRow) -> None:
    """Count what an example is about; note an answer in another language or with no value."""
    prompt, answer = taken.prompt, taken.answer
    asked, taken.language = result.languages.add(prompt or answer, answer or prompt)
    if UNKNOWN not in (asked, taken.language) and asked != taken.language:
        taken.found.append("answer_in_other_language")
    result.added_facts.add(prompt, answer, taken.language)
    if prompt:
        result.prompts.add(lambda: prompt)


def _compare_with_tests(result: Scan, request: Request, taken: _ScannedRow) -> None:
    """Note whether a row belongs to a test set of the workspace, or was trained on."""
    example = taken.example
    if isinstance(request, PrepareRequest):
        taken.is_tested = taken.is_tested or example in result.test_rows
        taken.is_trained = taken.is_trained or example in result.trained_rows
    elif request.purpose == "test":
        result.test_keys.append(keys_of(example))
    elif (test_set := result.test_rows.set_of(example)) is not None:
        result.test_sets[test_set] += 1
        taken.found.append("test_row")


def _keep(result: Scan, request: Request, taken: _ScannedRow) -> None:
    """Remember an example, or a row that is none."""
    result.about += taken.row.about
    if not taken.is_known:
        _leave_out(result, taken)
        return
    example = taken.example
    lengths = (taken.tokens.whole, taken.tokens.answer)
    index = result.ledger.add(example, lengths, result.stratum_of(example, taken.answer))
    result.remember_answer(index, taken.answer)
    trained, has_marked = trained_answers(example), has_marked_answer(example)
    kind = Kind(example.format, taken.language, trained, has_marked)
    result.add_kind(kind, taken.tokens.trained or 0)
    removes_personal = isinstance(request, AuditRequest) and request.personal_data == "remove"
    kept_anyway: set[str] = set() if removes_personal else {"personal_data_in_answer"}
    if result.in_validation:
        # A validation file may be the benchmark itself: nothing is trained on it.
        kept_anyway.add("benchmark_ngram")
    _note_all(result, index, taken.found, kept_anyway)
    result.counts["as_trained"] += is_as_trained(example, taken.row.value)
    if result.in_validation:
        return
    _group(result, index, taken)
    # A side that is not there is no shorter one, and the same text twice has no difference.
    if example.task != "sft" and not taken.broken and "identical_pair" not in taken.found:
        result.pairs.add(example)
    if isinstance(request, AuditRequest):
        result.trainers.add(
            example,
            taken.row.value,
            broken=taken.broken,
            too_long=_too_long(example, *lengths, request.max_length),
        )


def _too_long(example: Example, whole: int, answer: int, most: int) -> tuple[str, str]:
    """Return what becomes of a long example in TRL, which cuts it, and Axolotl, which drops it."""
    is_cut = whole - answer >= most and bool(example.prompt_and_answer()[0])
    return (
        "answer_cut_off" if is_cut else "",
        "longer_than_sequence_len_dropped" if whole > most else "",
    )


def _leave_out(result: Scan, taken: _ScannedRow) -> None:
    """Remember a row that is no example."""
    if taken.row.problem:
        kind, why = "unreadable", [taken.row.problem]
    elif taken.made.example is None:
        why = [taken.made.problem]
        kind = "left_out" if why[0] in LEFT_OUT else "unreadable"
    else:
        kind, why = "unknown", taken.example.problems
    index = result.ledger.add_unread(taken.number, why[0])
    result.add_kind(Kind(kind))
    if not result.in_validation:
        result.trainers.add_unread(why[0])
    if why[0] == NO_ANSWER:
        result.unlabelled.add(index)
    _note_all(result, index, [one for one in why if one in RULES])


def _note_all(
    result: Scan,
    index: int,
    found: list[str],
    kept_anyway: "set[str] | frozenset[str]" = frozenset(),
) -> None:
    """Note the findings of a row, and remove it for those that remove."""
    for name in dict.fromkeys(found):
        result.note(name, index)
        if RULES[name].removes and name not in kept_anyway:
            result.ledger.remove(index, name)


def _group(result: Scan, index: int, taken: _ScannedRow) -> None:
    """Remember what decides which part an example goes to."""
    mapping, row = result.mapping, taken.row.value
    result.counts["corrected"] += taken.made.is_corrected
    result.counts["stripped"] += bool(taken.made.changed_by)
    result.changed_by.update(taken.made.changed_by)
    result.count_masked(taken.made.masked)
    if taken.is_tested:
        result.tested.add(index)
    elif taken.is_trained:
        result.trained.add(index)
    if mapping.time_column:
        result.times[index] = _latest_of(cell_at(row, mapping.time_column))
    if mapping.group_by:
        cells = [cell_at(row, name) or values_at(row, name) for name in mapping.group_by]
        # Rows of which nothing says to whom they belong are no group.
        if not all(map(is_empty, cells)):
            key = hash_of("\x1f".join(map(text_of_cell, cells)))
            result.ledger.link(index, result.first_in_group.setdefault(key, index))


def _latest_of(time: Any) -> str:
    """Return a time; of those of a conversation's turns the latest."""
    if isinstance(time, list):
        return max(map(text_of_cell, time), key=sortable, default="")
    return text_of_cell(time)
