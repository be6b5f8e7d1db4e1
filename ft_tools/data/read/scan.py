"""Read every row once: normalise, check, remember. The first of an audit's two passes."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ft_tools.data.judge import privacy, text_faults, turn_order
from ft_tools.data.judge.findings import RULES
from ft_tools.data.read.both_passes import rows_of, versions_of
from ft_tools.data.read.example_texts import (
    lengths_of,
    telling_words_of,
    text_of,
    that_may_be_private,
)
from ft_tools.data.read.examples import example_of
from ft_tools.data.read.ledger import KEPT, Ledger
from ft_tools.data.read.scanned import Scan
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.request import AuditRequest
from ft_tools.data.split import split_key
from ft_tools.data.understand.languages import UNKNOWN, script_of
from ft_tools.data.understand.trainers import traits_of
from ft_tools.formats.detect_format import columns_read
from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.formats import is_as_trained
from ft_tools.formats.loss_marks import Trained, has_marked_answer, trained_answers
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import Source
from ft_tools.formats.remembered_test_sets import keys_of
from ft_tools.formats.trained_pieces import Measured
from ft_tools.formats.verdict_columns import Column
from ft_tools.formats.verdicts import is_wanted, values_at
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
TELLING = WordSet(text_faults.TELLING)


@dataclass(slots=True)
class _Taken:
    """A row of a batch, and what is known of it so far."""

    number: int
    row: Row
    example: Example = field(init=False)
    """Unless the row has a problem."""
    is_known: bool = False
    """Whether it is an example of a known format: only then it has what follows."""
    asked: list[Message] = field(init=False)
    answered: list[Message] = field(init=False)
    prompt: str = ""
    answer: str = ""
    rejected: str = ""
    said: frozenset[str] = frozenset()
    """Telling words of these three."""
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
    request: AuditRequest,
    inputs: tuple[Path, Path | None],
    benchmarks: Benchmarks,
    tick: Tick,
    measure: Measure,
    *,
    with_pairs: bool,
) -> Scan:
    """Read the validation file, if there is one, and then the data.

    Raises:
        BadData: A file is not data.
    """
    path, validation = inputs
    ledger = Ledger(with_pairs=with_pairs, with_questions=validation is not None)
    result = Scan(ledger, inputs)
    for part, is_validation in ((validation, True), (path, False)):
        if part is None:
            continue
        result.in_validation = is_validation
        result.versions |= versions_of(part)
        rows = rows_of(part, result.files, is_validation=is_validation)
        for batch in _batches(rows, request):
            _take(result, request, batch, benchmarks, measure)
            tick(len(result.ledger))
        if is_validation:
            result.ledger.num_validation = len(result.ledger)
    _settle_loss(result)
    return result


def _batches(
    rows: Iterator[tuple[Source, Row, int]], request: AuditRequest
) -> Iterator[list[_Taken]]:
    """Yield the rows with their examples, some at a time.

    One check of many rows after the other is faster than all checks of one row after the other.
    """
    batch: list[_Taken] = []
    num_chars = 0
    for _, row, number in rows:
        taken = _Taken(number, row)
        if not row.problem:
            example = taken.example = example_of(request, number, row.value)
            taken.is_known = example.format != "unknown"
            if taken.is_known:
                taken.asked, taken.answered = example.prompt_and_answer()
                taken.prompt, taken.answer = text_of(taken.asked), text_of(taken.answered)
                taken.rejected = text_of(example.rejected)
        num_chars += _num_chars(taken) if row.num_chars is None else row.num_chars
        batch.append(taken)
        if len(batch) >= BATCH_ROWS or num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _num_chars(taken: _Taken) -> int:
    """Return about how much a row of unknown size holds."""
    if not taken.is_known or taken.example is None:
        return UNKNOWN_CHARS
    rejected = sum(len(content_of(turn)) for turn in taken.example.rejected)
    return len(taken.prompt) + len(taken.answer) + rejected


def _take(
    result: Scan,
    request: AuditRequest,
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
        for taken in batch:
            if not taken.row.problem:
                taken.found += _verdicts(result, request, taken)
    for taken in batch:
        _keep(result, request, taken)
    result.ledger.add_words(words)


def _check(result: Scan, known: list[_Taken], benchmarks: Benchmarks) -> None:
    """Look for faults of single examples."""
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


def _keep(result: Scan, request: AuditRequest, taken: _Taken) -> None:
    """Remember an example, or a row that is none."""
    problem = taken.row.problem
    result.about += taken.row.about
    if problem:
        index = result.ledger.add_unread(taken.number, problem)
        _finish(result, index, "unreadable", "latin", [problem])
        return
    example = taken.example
    if not taken.is_known:
        index = result.ledger.add_unread(example.line, example.problems[0])
        _finish(result, index, "unknown", "latin", example.problems)
        return
    script = script_of(taken.answer or taken.prompt)
    lengths = (taken.tokens.whole, taken.tokens.answer)
    index = result.ledger.add(example, lengths, split_key(example, taken.answer, script))
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
    result.parts.update(_parts(example))
    # A side that is not there is no shorter one, and the same text twice has no difference.
    if example.task != "sft" and not taken.broken and "identical_pair" not in taken.found:
        result.pairs.add(example)
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


def _verdicts(result: Scan, request: AuditRequest, taken: _Taken) -> list[str]:
    """Note what a row's unread columns say of it, and whether it belongs to a test set."""
    example, row = taken.example, taken.row.value
    if not taken.is_known:
        # Its columns may mark it all the same.
        result.unread.add(row, (), example.line)
        return []
    read: Set[str] = frozenset()
    if request.named_columns is not None:
        read = set(request.named_columns.values())
    elif isinstance(row, Mapping):
        read = columns_read(row, example.format)
    result.unread.add(row, read, example.line)
    found = []
    label = request.label_column
    if label is not None:
        result.labels = result.labels or Column(label)
        for value in values_at(row, label):
            result.labels.add(value, example.line)
    uses = request.verdicts.items()
    if not all(name == label or is_wanted(row, name, use) for name, use in uses):
        found.append("marked_bad")
    if request.purpose == "test":
        result.test_keys.append(keys_of(example))
    elif (test_set := result.test_rows.set_of(example)) is not None:
        result.test_sets[test_set] += 1
        found.append("test_row")
    return found


def _parts(example: Example) -> list[str]:
    roles = [m["role"] for m in example.messages]
    has = {
        "system": "system" in roles,
        "tools": bool(example.tools),
        "tool_turns": "tool" in roles or any(m.get("tool_calls") for m in example.messages),
        "several_answers": roles.count("assistant") > 1,
    }
    return [name for name, there in has.items() if there]


def _kept_anyway(request: AuditRequest) -> set[str]:
    return set() if request.personal_data == "remove" else {"personal_data_in_answer"}


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
