"""Read every row once: normalise, check, remember. The first of an audit's two passes."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ft_tools.data.judge import privacy, text_faults, turn_order
from ft_tools.data.judge.findings import RULES
from ft_tools.data.map.apply_mapping import LEFT_OUT, NO_ANSWER, Made, is_empty, text_of_cell
from ft_tools.data.map.conversations import is_one_turn
from ft_tools.data.map.mapping import ColumnMapping, values_at
from ft_tools.data.map.times import sortable
from ft_tools.data.read.example_texts import (
    lengths_of,
    telling_words_of,
    text_of,
    that_may_be_private,
)
from ft_tools.data.read.ledger import KEPT, Ledger, hash_of
from ft_tools.data.read.rows import Reader
from ft_tools.data.read.scanned import Scan
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.data.split.trained_before import trained_rows
from ft_tools.data.understand.languages import UNKNOWN, script_of
from ft_tools.data.understand.trainers import traits_of
from ft_tools.formats.columns import cell_at
from ft_tools.formats.detect_format import columns_read
from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.formats import is_as_trained
from ft_tools.formats.loss_marks import Trained, has_marked_answer, trained_answers
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import Source
from ft_tools.formats.remembered_test_sets import keys_of
from ft_tools.formats.trained_pieces import Measured
from ft_tools.similarity.word_hashes import WordSet, tokens_in

MAX_TRAITS = 10_000
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
Measure = Callable[[Sequence[Example]], list[Measured]]
BATCH_ROWS, BATCH_CHARS = 256, 1 << 18
"""Rows that are checked together, and about how many characters they may have in all."""
UNKNOWN_CHARS = BATCH_CHARS // 64
"""What a row counts for of which the length is not known."""
NOTHING = Made(None)
TELLING = WordSet(text_faults.TELLING)


@dataclass(slots=True)
class _Taken:
    """A row of a batch, and what is known of it so far."""

    number: int
    row: Row
    made: Made = NOTHING
    example: Example = field(init=False)
    """Unless the row has a problem."""
    is_tested: bool = False
    """Whether the row belongs to a test set, as it stands in the file or masked."""
    is_trained: bool = False
    """Whether a run was trained on it."""
    is_known: bool = False
    """Whether it is an example of a known format: only then it has what follows."""
    asked: list[Message] = field(init=False)
    answered: list[Message] = field(init=False)
    prompt: str = ""
    answer: str = ""
    rejected: str = ""
    said: frozenset[str] = frozenset()
    """The distinctive words of these three."""
    found: list[str] = field(default_factory=list)
    broken: bool = field(init=False)
    tokens: Measured = field(init=False)
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
    request: AuditRequest | PrepareRequest,
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
    result = Scan(ledger, inputs, readers, mapping)
    if isinstance(request, PrepareRequest):
        result.trained_rows = trained_rows()
    result.is_sample = limit is not None
    result.masks = isinstance(request, PrepareRequest) and "*" in mapping.mask
    for reader, is_validation in ((readers[1], True), (readers[0], False)):
        if reader is None:
            continue
        result.in_validation = is_validation
        result.versions |= reader.versions()
        observe = None if is_validation else _observing(result)
        rows: Iterator[tuple[Source, Row, int]] = reader.rows(result.joining, observe)
        rows = islice(rows, None if is_validation else limit)
        if not is_validation:
            rows = _noting_files(result, rows)
        for batch in _batches(rows, result):
            _take(result, request, batch, benchmarks, measure)
            tick(len(result.ledger))
        if is_validation:
            result.ledger.num_validation = len(result.ledger)
    result.joining.require_roles()
    is_sample = limit is not None and len(ledger) - ledger.num_validation >= limit
    result.named.require_values(is_sample=is_sample)
    _settle_loss(result)
    return result


def _observing(result: Scan) -> Callable[[Row], None] | None:
    """Return what looks at each row of the file for columns that are named, and those unread."""
    mapping = result.mapping
    used, of_a_turn, turns = mapping.used_columns, mapping.used_as_turn, mapping.turns
    if not used:
        return None

    def observe(row: Row) -> None:
        result.named.add(row.value)
        if result.reads_by_mapping and isinstance(row.value, Mapping):
            is_turn = turns is not None and is_one_turn(turns, row.value)
            result.unread.add(row.value, of_a_turn if is_turn else used, row.number)

    return observe


def _noting_files(
    result: Scan, rows: Iterable[tuple[Source, Row, int]]
) -> Iterator[tuple[Source, Row, int]]:
    """Remember each file with the row number before its first."""
    for source, row, number in rows:
        if not result.files or result.files[-1][0] is not source:
            result.files.append((source, number - row.number))
        yield source, row, number


def _batches(rows: Iterator[tuple[Source, Row, int]], result: Scan) -> Iterator[list[_Taken]]:
    """Yield the rows with their examples, some at a time.

    One check of many rows after the other is faster than all checks of one row after the other.
    """
    batch: list[_Taken] = []
    num_chars = 0
    for _, row, number in rows:
        taken = _Taken(number, row)
        if not row.problem:
            _make(result, taken)
        num_chars += _num_chars(taken) if row.num_chars is None else row.num_chars
        batch.append(taken)
        if len(batch) >= BATCH_ROWS or num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _make(result: Scan, taken: _Taken) -> None:
    """Make the example of a row."""
    made = taken.made = result.make(taken.number, taken.row.value)
    if made.example is None:
        return
    example = taken.example = made.example
    taken.is_known = example.format != "unknown"
    if not taken.is_known:
        return
    if result.masks:
        # A test set is remembered as it was given, or as an earlier preparation wrote it.
        taken.is_tested = example in result.test_rows
        taken.is_trained = example in result.trained_rows
        result.count_masked(result.mask(example))
        taken.is_tested = taken.is_tested or example in result.test_rows
    taken.asked, taken.answered = example.prompt_and_answer()
    taken.prompt, taken.answer = text_of(taken.asked), text_of(taken.answered)
    taken.rejected = text_of(example.rejected)


def _num_chars(taken: _Taken) -> int:
    """Return about how much a row of unknown size holds."""
    if not taken.is_known:
        return UNKNOWN_CHARS
    rejected = sum(len(content_of(turn)) for turn in taken.example.rejected)
    return len(taken.prompt) + len(taken.answer) + rejected


def _take(
    result: Scan,
    request: AuditRequest | PrepareRequest,
    batch: list[_Taken],
    benchmarks: Benchmarks,
    measure: Measure,
) -> None:
    """Check the rows of a batch, and remember them in their order."""
    known = [taken for taken in batch if taken.is_known]
    words = tokens_in([text for t in batch for text in (t.prompt, t.answer, t.rejected)])
    said = iter(TELLING.within(words))
    for taken, *parts in zip(batch, said, said, said, strict=True):
        taken.said = frozenset().union(*parts)
    _check(result, known, benchmarks)
    # What is broken anyway is not put to a template, which would only refuse it.
    for by, some in (
        (measure, [t for t in known if not t.broken]),
        (lengths_of, [t for t in known if t.broken]),
    ):
        for taken, tokens in zip(some, by([t.example for t in some]), strict=True):
            taken.tokens = tokens
            taken.found += tokens.findings
    if not result.in_validation:
        _understand(result, known)
        for taken in known:
            taken.found += _compare_with_tests(result, request, taken)
            if not result.reads_by_mapping and isinstance(taken.row.value, Mapping):
                read = columns_read(taken.row.value, taken.example.format)
                used = result.mapping.used_columns if result.mapping.row_columns else ()
                result.unread.add(taken.row.value, read.union(used), taken.number)
    for taken in batch:
        _keep(result, request, taken)
    result.ledger.add_words(words)


def _check(result: Scan, known: list[_Taken], benchmarks: Benchmarks) -> None:
    """Check for faults of single examples."""
    for taken in known:
        taken.found = [*taken.row.notes, *turn_order.structure(taken.example)]
        taken.broken = any(RULES[name].removes for name in taken.found if name not in HARMLESS)
    for taken in known:
        said = telling_words_of(taken.example, taken.asked, taken.answered, taken.said)
        taken.found += text_faults.contents(taken.example, said)
    for at in sorted(that_may_be_private([taken.example for taken in known])):
        known[at].found += _privacy(result, known[at].example)
    for taken in known:
        questions = [content_of(turn) for turn in taken.asked if turn["role"] == "user"]
        taken.found += benchmarks.matches(taken.prompt, questions, taken.answer)


def _understand(result: Scan, known: list[_Taken]) -> None:
    """Count what the examples are about, and note answers in another language or with no value."""
    for taken in known:
        prompt, answer = taken.prompt, taken.answer
        spoken, taken.language = result.variety.add(prompt or answer, answer or prompt)
        if UNKNOWN not in (spoken, taken.language) and spoken != taken.language:
            taken.found.append("answer_in_other_language")
    for taken in known:
        result.added_facts.add(taken.prompt, taken.answer, taken.language)
    for taken in known:
        result.wordings.add(taken.prompt)
        if result.fields.add(taken.answer.strip()):
            taken.found.append("empty_json_value")


def _keep(result: Scan, request: AuditRequest | PrepareRequest, taken: _Taken) -> None:
    """Remember an example, or a row that is none."""
    problem = taken.row.problem
    result.about += taken.row.about
    if problem:
        _leave_out(result, taken.number, "unreadable", [problem])
        return
    if taken.made.example is None:
        why = taken.made.problem
        _leave_out(result, taken.number, "left_out" if why in LEFT_OUT else "unreadable", [why])
        return
    example = taken.example
    if not taken.is_known:
        _leave_out(result, example.line, "unknown", example.problems)
        return
    script = script_of(taken.answer or taken.prompt)
    lengths = (taken.tokens.whole, taken.tokens.answer)
    index = result.ledger.add(example, lengths, result.stratum_of(example, taken.answer, script))
    result.remember_labels(index, taken.answer)
    keep = _kept_anyway(request)
    if result.in_validation:
        # A validation file may be the benchmark itself: nothing is trained on it.
        keep.add("benchmark_ngram")
    _finish(result, index, example.format, script, taken.found, keep=keep, language=taken.language)
    result.trained_tokens[index] = taken.tokens.trained or 0
    result.loss[index] = trained_answers(example)
    result.has_marked[index] = has_marked_answer(example)
    result.num_as_trained += is_as_trained(example, taken.row.value)
    if result.in_validation:
        return
    _group(result, index, taken)
    result.parts.update(_parts(example))
    # A side that is not there is no shorter one, and the same text twice has no difference.
    if example.task != "sft" and not taken.broken and "identical_pair" not in taken.found:
        result.pairs.add(example)
    if isinstance(request, PrepareRequest):
        return
    traits = traits_of(
        example,
        taken.row.value,
        broken=taken.broken,
        tokens=lengths,
        max_length=request.max_length,
    )
    num_seen = result.traits.get(traits, 0)
    if num_seen or len(result.traits) < MAX_TRAITS:
        result.traits[traits] = num_seen + 1


def _leave_out(result: Scan, number: int, format_name: str, why: list[str]) -> None:
    """Remember a row that is no example."""
    index = result.ledger.add_unread(number, why[0])
    if why[0] == NO_ANSWER:
        result.unlabelled.add(index)
    _finish(result, index, format_name, "latin", [one for one in why if one in RULES])


def _group(result: Scan, index: int, taken: _Taken) -> None:
    """Remember what decides which part an example goes to."""
    mapping, row = result.mapping, taken.row.value
    result.num_corrected += taken.made.is_corrected
    result.num_stripped += taken.made.is_stripped
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
            result.groups[index] = key


def _latest_of(time: Any) -> str:
    """Return a time; of those of a conversation's turns the latest."""
    if isinstance(time, list):
        return max(map(text_of_cell, time), key=sortable, default="")
    return text_of_cell(time)


def _compare_with_tests(
    result: Scan, request: AuditRequest | PrepareRequest, taken: _Taken
) -> list[str]:
    """Return the finding if a row belongs to a test set of the workspace."""
    if isinstance(request, PrepareRequest):
        taken.is_tested = taken.is_tested or taken.example in result.test_rows
        taken.is_trained = taken.is_trained or taken.example in result.trained_rows
        return []
    if request.purpose == "test":
        result.test_keys.append(keys_of(taken.example))
    elif (test_set := result.test_rows.set_of(taken.example)) is not None:
        result.test_sets[test_set] += 1
        return ["test_row"]
    return []


def _parts(example: Example) -> list[str]:
    roles = [m["role"] for m in example.messages]
    has = {
        "system": "system" in roles,
        "tools": bool(example.tools),
        "tool_turns": "tool" in roles or any(m.get("tool_calls") for m in example.messages),
        "several_answers": roles.count("assistant") > 1,
    }
    return [name for name, there in has.items() if there]


def _kept_anyway(request: AuditRequest | PrepareRequest) -> set[str]:
    removes = isinstance(request, AuditRequest) and request.personal_data == "remove"
    return set() if removes else {"personal_data_in_answer"}


def _finish(
    result: Scan,
    index: int,
    format_name: str,
    script: str,
    found: list[str],
    keep: "set[str] | frozenset[str]" = frozenset(),
    language: str = UNKNOWN,
) -> None:
    if not result.in_validation:
        result.formats[format_name] += 1
        result.scripts[script] += 1
    result.trained_tokens.append(0)
    result.loss.append(Trained.ONLY_ANSWER)
    result.has_marked.append(False)
    result.format_of.append(_number(result.format_names, format_name))
    result.script_of.append(_number(result.script_names, script))
    result.language_of.append(_number(result.language_names, language))
    for name in dict.fromkeys(found):
        result.note(name, index)
        if RULES[name].removes and name not in keep:
            result.ledger.remove(index, name)


def _number(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def _privacy(result: Scan, example: Example) -> list[str]:
    answered, other = map("\n".join, example.texts())
    found = []
    kinds = privacy.secrets_in(f"{other}\n{answered}")
    if kinds:
        result.secrets.update(kinds)
        found.append("secret")
    if privacy.personal_data_in(answered):
        found.append("personal_data_in_answer")
    elif privacy.personal_data_in(other):
        found.append("personal_data_in_prompt")
    return found


def _settle_loss(scan: Scan) -> None:
    """Choose the form of the cleaned files, and note what is not trained only there, or nowhere."""
    kept = [at for at in range(len(scan.ledger)) if scan.ledger.removal[at] == KEPT]
    kinds = {scan.loss[at] for at in kept}
    some_only = {Trained.LAST_OF_SEVERAL, Trained.SOME_BETWEEN}
    no_prompts = {Trained.ALL_OF_SEVERAL, Trained.SOME_BETWEEN}
    scan.as_prompts = Trained.LAST_OF_SEVERAL in kinds and not kinds & no_prompts
    for at in kept:
        if scan.loss[at] in some_only and not scan.as_prompts:
            scan.note("untrained_lost", at)
        elif scan.has_marked[at]:
            scan.note("untrained_answer", at)
