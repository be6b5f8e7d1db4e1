"""Turn rows into examples in two passes: decide what becomes of each row, then write it.

Between the passes a row is a few numbers, so a million rows take some hundred MiB.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from ft_tools.data.cleaned_files import mask_example
from ft_tools.data.judge import privacy
from ft_tools.data.judge.findings import RULES
from ft_tools.data.judge.turn_order import structure
from ft_tools.data.prepare.column_mapping import (
    MAX_CLASSES,
    ColumnMapping,
    answer_of,
    format_input,
    text_of_cell,
)
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.times import is_month_first, sortable
from ft_tools.data.prepare.whole_wordings import MAX_ROWS, Bundle, bundles_of, choose
from ft_tools.data.read.ledger import Ledger, hash_of
from ft_tools.data.repeats import contradictions, duplicates
from ft_tools.data.repeats.near_by_words import Lexical
from ft_tools.data.repeats.words import tokens_of
from ft_tools.data.split import choose_validation, groups_of
from ft_tools.examples.columns import cell_at
from ft_tools.examples.example import Example, Message, content_of
from ft_tools.examples.formats import normalise
from ft_tools.examples.remembered_test_sets import TestRows, known_test_rows
from ft_tools.examples.turns import with_system
from ft_tools.examples.verdicts import Mark, judged, values_at
from ft_tools.examples.wordings import Wordings

MAX_COMPARED = 50_000
"""Rows up to which similar prompts are found; above, only equal ones are kept together."""
MAX_LABELS = 1_000
MOST_TESTED = 0.5
"""Of the rows: earlier test rows and those of their wordings."""
ENOUGH_TEST_ROWS = 150
"""They show a difference of 0.1. Source: ft_tools/evaluation/intervals/sample_size.py"""
ENOUGH_TRAINING_ROWS = 100
"""They are left to train on before the test part gets more than a tenth. Ours."""
LEAST_TEST, MOST_TEST = 0.1, 0.25
"""Shares of the rows for the test part, if none is given. Ours."""
SAME_GROUP = "same_group_as_test"
ASKED_AGAIN = "asked_again_in_test"
TICK_ROWS = 2_000


class Part(IntEnum):
    """Where a row goes."""

    REMOVED = 0
    TRAIN = 1
    VALIDATION = 2
    TEST = 3
    UNLABELLED = 4


class HeldOut(NamedTuple):
    """Wordings, in all and by part; 0 in each part where none can be held out."""

    num_wordings: int
    num_test: int
    num_validation: int


@dataclass
class Decided:
    """What becomes of each row."""

    ledger: Ledger
    task: str
    outcomes: list[str]
    """Per example, why it is left out; empty if it stays."""
    test_rows: TestRows = field(default_factory=known_test_rows)
    parts: bytearray = field(default_factory=bytearray)
    marks: "array[int]" = field(default_factory=lambda: array("b"))
    """1 for good, 0 for bad, -1 for neither."""
    groups: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hash of the values of `group_by`; 0 without."""
    times: list[str] = field(default_factory=list)
    labels: dict[str, "Counter[str]"] = field(default_factory=dict)
    partner: dict[int, int] = field(default_factory=dict)
    """Of a pair: the index of the later row -> that of the earlier one."""
    tested: set[int] = field(default_factory=set)
    """Rows of a test set of this workspace, as an earlier preparation wrote one."""
    num_conflicting: int = 0
    """Rows whose prompt has different answers, before a rule decides."""
    num_with_majority: int = 0
    """Prompts of which one answer is the most frequent."""
    wordings: Wordings = field(default_factory=Wordings)
    """Of the prompts."""
    classes: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """Of the first rows: (column, value) of each answer column."""
    masked: "Counter[str]" = field(default_factory=Counter)
    """Kind of secret or personal data -> rows in which it is replaced."""
    held_out: HeldOut | None = None
    """Where prompts follow few templates and whole wordings were to be held out."""
    num_kept: int = 0
    """Rows beside which these are counted: no copies, and none that is left out."""
    compared: bool = True

    def counts(self) -> dict[str, int]:
        """Count the rows by outcome."""
        names = {Part.TRAIN: "train", Part.VALIDATION: "validation", Part.TEST: "test"}
        names[Part.UNLABELLED] = "no_answer"
        made: Counter[str] = Counter()
        for at, part in enumerate(self.parts):
            made[self.outcomes[at] or names.get(Part(part), "removed")] += 1
        return dict(made.most_common())


class Made(NamedTuple):
    """A row as an example."""

    example: Example | None
    mark: int = -1
    problem: str = ""
    """Why it is left out; empty if it stays. `no_answer` is set aside for labelling."""


def make(mapping: ColumnMapping, number: int, row: Mapping[str, Any] | None) -> Made:
    """Apply a mapping to a row."""
    if row is None:
        return Made(None, problem="unreadable")
    mark = mark_in(mapping, row) if mapping.verdicts else -1
    uses = set(mapping.verdicts.values())
    if "filter" in uses and mark != 1:
        return Made(None, mark, "marked_bad" if mark == 0 else "not_marked_good")
    if "drop_bad" in uses and _is_bad(mapping, row):
        return Made(None, 0, "marked_bad")
    if mark < 0 and {"pair", "marks"} & uses:
        return Made(None, mark, "not_marked")
    if mapping.is_as_it_is:
        return _as_it_is(mapping, number, row, mark)
    answer = answer_of(mapping, row)
    asked: list[Message] = [dict(message) for message in format_input(mapping, row)]
    if not asked[-1]["content"]:
        return Made(None, mark, "empty_prompt")
    if answer is None:
        return Made(None, mark, "no_answer")
    answered: list[Message] = [{"role": "assistant", "content": answer}]
    if {"pair", "marks"} & uses:
        return Made(Example(number, "kto", "kto", asked, answered, label=mark == 1), mark)
    return Made(Example(number, "prompt_completion", "sft", [*asked, *answered]), mark)


def _as_it_is(mapping: ColumnMapping, number: int, row: Mapping[str, Any], mark: int) -> Made:
    """Read a row that is an example of a known format already."""
    # The other columns of joined turns are no part of the example.
    example = normalise(number, {"messages": row.get("messages")} if mapping.turns else row)
    found = structure(example)
    if "missing_assistant" in found or "empty_answer" in found:
        return Made(None, mark, "no_answer")
    if any(RULES[name].removes for name in found):
        return Made(None, mark, next(name for name in found if RULES[name].removes))
    if mapping.system and example.text is None and example.task == "sft":
        example.messages = with_system(example, {"system": mapping.system}, example.messages)
    if {"pair", "marks"} & set(mapping.verdicts.values()):
        if example.task != "sft" or example.text is not None:
            return Made(None, mark, "no_marked_answer")
        asked, answered = example.prompt_and_answer()
        return Made(Example(number, "kto", "kto", asked, answered, label=mark == 1), mark)
    return Made(example, mark)


def masked(example: Example) -> set[str]:
    """Replace secrets and personal data in an example; return which kinds it had."""
    texts = [content_of(turn) for turn in (*example.messages, *example.chosen, *example.rejected)]
    text = "\n".join([*texts, example.text or "", str(example.tools or "")])
    if not privacy.may_hold(text):
        return set()
    mask_example(example)
    return {*privacy.secrets_in(text), *privacy.personal_data_in(text)}


def mark_in(mapping: ColumnMapping, row: Mapping[str, Any]) -> int:
    """Return whether a row is marked good (1), bad (0), or neither (-1), by the columns in use."""
    columns = [n for n, use in mapping.verdicts.items() if use in {"filter", "pair", "marks"}]
    marks = _marks(mapping, row, columns)
    if not marks:
        return 1 if any("" in mapping.good_of(name) for name in columns) else -1
    if marks == {Mark.GOOD}:
        return 1
    return 0 if Mark.BAD in marks else -1


def _is_bad(mapping: ColumnMapping, row: Mapping[str, Any]) -> bool:
    """Tell whether a column of which bad rows are dropped marks this one as bad."""
    columns = [name for name, use in mapping.verdicts.items() if use == "drop_bad"]
    return Mark.BAD in _marks(mapping, row, columns)


def _marks(
    mapping: ColumnMapping, row: Mapping[str, Any], columns: Iterable[str]
) -> set[Mark | None]:
    """Return what the values of some columns say of a row."""
    return {
        judged(value, mapping.good_of(name)) for name in columns for value in values_at(row, name)
    }


def decide(
    mapping: ColumnMapping,
    request: PrepareRequest,
    rows: Iterable[tuple[int, Mapping[str, Any] | None]],
    tick: Callable[[int], None] = lambda _: None,
    *,
    compare: bool = True,
) -> Decided:
    """Read every row once and decide where it goes; `compare` looks for similar prompts, too."""
    uses = set(mapping.verdicts.values())
    task = "dpo" if "pair" in uses else "kto" if "marks" in uses else "sft"
    result = Decided(Ledger(with_pairs=compare), task, [])
    first_in: dict[int, int] = {}
    for number, row in rows:
        made = make(mapping, number, row)
        _take(result, mapping, request, made, (number, row), first_in, compare)
        if number % TICK_ROWS == 0:
            tick(number)
    if task == "dpo":
        _pair(result)
    duplicates.mark_exact(result.ledger, lambda name, at: _lose(result, at, name))
    _resolve_conflicts(result, mapping, request)
    result.compared = (
        compare
        and len(result.ledger) <= MAX_COMPARED
        and Lexical(result.ledger).link_near_prompts()
    )
    _split(result, mapping, request)
    return result


def _take(
    result: Decided,
    mapping: ColumnMapping,
    request: PrepareRequest,
    made: Made,
    read: tuple[int, Mapping[str, Any] | None],
    first_in: dict[int, int],
    compare: bool,
) -> None:
    (number, row), ledger = read, result.ledger
    result.marks.append(made.mark)
    if made.example is None or row is None:
        ledger.add_unread(number, made.problem)
        waits = made.problem == "no_answer"
        result.outcomes.append("" if waits else made.problem)
        result.parts.append(Part.UNLABELLED if waits else Part.REMOVED)
        result.times.append("")
        result.groups.append(0)
        return
    # A test set is remembered as it was given, or as an earlier preparation wrote it.
    is_tested = made.example in result.test_rows
    if request.personal_data == "mask":
        # As it will be written: rows that differ in an address alone are the same row.
        result.masked.update(masked(made.example))
    if is_tested or made.example in result.test_rows:
        result.tested.add(len(ledger))
    asked, answered = made.example.prompt_and_answer()
    answer = " ".join(map(content_of, answered))
    result.wordings.add("\n".join(map(content_of, asked)))
    at = ledger.add(made.example, (0, 0), _stratum(result, mapping, row, made.mark, answer))
    if compare and at < MAX_COMPARED:
        said = [content_of(turn) for turn in asked if turn["role"] != "system"]
        ledger.add_words(tokens_of("\n".join(said)), tokens_of(answer), [])
    result.outcomes.append("")
    result.parts.append(Part.TRAIN)
    result.times.append(text_of_cell(cell_at(row, mapping.time_column or "")))
    key = 0
    if mapping.group_by:
        key = hash_of("\x1f".join(text_of_cell(cell_at(row, n)) for n in mapping.group_by))
        ledger.link(at, first_in.setdefault(key, at))
    result.groups.append(key)


def _stratum(
    result: Decided, mapping: ColumnMapping, row: Mapping[str, Any], mark: int, answer: str
) -> str:
    """Name what the parts hold in proportion: the classes, or else the length of the answer."""
    if result.task == "kto":
        return f"kto {mark}"
    fields = {name: text_of_cell(cell_at(row, name)) for name in mapping.answer_columns}
    if fields and len(result.ledger) < MAX_ROWS:
        result.classes[len(result.ledger)] = tuple(fields.items())
    for name, value in fields.items():
        counts = result.labels.setdefault(name, Counter())
        if value in counts or len(counts) < MAX_LABELS:
            counts[value] += 1
    if fields and all(len(result.labels[name]) <= MAX_CLASSES for name in fields):
        return " ".join(fields.values())
    return str(len(answer).bit_length())


def _lose(result: Decided, at: int, why: str) -> None:
    """Leave a row out."""
    result.outcomes[at] = why
    result.parts[at] = Part.REMOVED


def _resolve_conflicts(result: Decided, mapping: ColumnMapping, request: PrepareRequest) -> None:
    """Count the rows that contradict each other, and leave out what a rule does not keep."""
    ledger = result.ledger
    groups = contradictions.find(ledger, lambda _, __: None)
    result.num_kept = len(ledger.kept(validation=False))
    result.num_conflicting = sum(map(len, groups))
    result.num_with_majority = contradictions.num_with_majority(ledger, groups)
    if not groups:
        return
    month_first = bool(is_month_first(result.times))

    def time_of(at: int) -> str:
        return sortable(result.times[at], month_first=month_first) if mapping.time_column else ""

    for at in contradictions.resolve(ledger, groups, request.contradictions or "keep", time_of):
        _lose(result, at, "conflicting_targets")


def _pair(result: Decided) -> None:
    """Put each bad answer with a good one to the same prompt; the later row holds the pair."""
    ledger = result.ledger
    waiting: dict[tuple[int, int], list[int]] = defaultdict(list)
    for at in ledger.kept(validation=False):
        mark, prompt = result.marks[at], ledger.prompt[at]
        others = waiting[prompt, 1 - mark]
        while others and ledger.answer[others[0]] == ledger.answer[at]:
            _drop(result, others.pop(0), "same_answer_good_and_bad")
        if others:
            result.partner[at] = others.pop(0)
            _drop(result, result.partner[at], "in_a_pair")
        else:
            waiting[prompt, mark].append(at)
    for left in waiting.values():
        for at in left:
            _drop(result, at, "no_partner")


def _drop(result: Decided, at: int, why: str) -> None:
    result.ledger.remove(at, why)
    _lose(result, at, why)


def _split(result: Decided, mapping: ColumnMapping, request: PrepareRequest) -> None:
    ledger = result.ledger
    kept = ledger.kept(validation=False)
    share = test_share(request, len(kept))
    if mapping.time_column:
        test = _latest(result, kept, share)
        test |= {at for at in result.tested if not result.outcomes[at]}
    elif _hold_out_wordings(result, request, kept, share):
        return
    else:
        test = _tested_before(result, kept)
        rest = [at for at in kept if at not in test]
        wanted = max(0.0, share * len(kept) - len(test)) / max(1, len(rest))
        test |= choose_validation(ledger, rest, wanted, request.seed)
    for at in test:
        result.parts[at] = Part.TEST
    rest = [at for at in kept if at not in test and not result.outcomes[at]]
    _put_aside(result, rest, request.validation_fraction / max(1e-9, 1 - share), request.seed)


def _put_aside(result: Decided, rest: list[int], share: float, seed: int) -> None:
    """Take the validation part out of the rows that are no test rows."""
    for at in choose_validation(result.ledger, rest, min(share, 0.9), seed):
        result.parts[at] = Part.VALIDATION


def test_share(request: PrepareRequest, num_kept: int) -> float:
    """Return the share of the test part: as many rows as show what matters, within reason."""
    if request.test_fraction is not None:
        return request.test_fraction
    rows = max(1, num_kept)
    left = 1 - request.validation_fraction
    most = min(MOST_TEST, max(LEAST_TEST, left - ENOUGH_TRAINING_ROWS / rows), left / 2)
    return min(most, max(LEAST_TEST, ENOUGH_TEST_ROWS / rows))


def _hold_out_wordings(
    result: Decided, request: PrepareRequest, kept: list[int], share: float
) -> bool:
    """Put whole wordings into the test and validation parts; False if that cannot be."""
    ledger = result.ledger
    is_asked = request.near_duplicates == "wordings" and result.compared
    if not is_asked or len(ledger) > MAX_ROWS or not result.wordings.findings():
        return False
    bundles = bundles_of(ledger, groups_of(ledger, kept))
    num_wordings = sum(one.is_wording for one in bundles)
    result.held_out = HeldOut(num_wordings, 0, 0)
    tested = result.tested.intersection(kept)
    test = [one for one in bundles if not tested.isdisjoint(one.rows)]
    num_test = sum(len(one.rows) for one in test)
    if num_test > MOST_TESTED * len(kept):
        return False
    strata = {at: ledger.split_key[at] for at in kept}
    classes = _classes(result, kept)

    def more(wanted: int, taken: list[Bundle]) -> list[Bundle]:
        left = [one for one in bundles if one not in taken]
        return choose(left, wanted, strata, classes, request.seed)

    test += more(round(share * len(kept)) - num_test, test)
    if share and not any(one.is_wording for one in test):
        return False
    validation = more(round(request.validation_fraction * len(kept)), test)
    if sum(len(one.rows) for one in (*test, *validation)) >= len(kept):
        return False
    for part, chosen in ((Part.TEST, test), (Part.VALIDATION, validation)):
        for at in (at for one in chosen for at in one.rows):
            result.parts[at] = part
    if not validation and request.validation_fraction:
        rest = [at for at in kept if result.parts[at] == Part.TRAIN]
        _put_aside(result, rest, request.validation_fraction / max(1e-9, 1 - share), request.seed)
    counts = (sum(one.is_wording for one in part) for part in (test, validation))
    result.held_out = HeldOut(num_wordings, *counts)
    return True


def _classes(result: Decided, kept: list[int]) -> dict[int, tuple[Any, ...]]:
    """Return what each row teaches if that is a class; else nothing."""
    names = {name for name, counts in result.labels.items() if len(counts) <= MAX_CLASSES}
    if result.classes:
        return {at: tuple(one for one in result.classes[at] if one[0] in names) for at in kept}
    answers = {at: (result.ledger.answer[at],) for at in kept}
    return answers if len(set(answers.values())) <= MAX_CLASSES else {}


def _tested_before(result: Decided, kept: list[int]) -> set[int]:
    """Return what belongs to an earlier test set, and what must be in one part with that."""
    if not result.tested:
        return set()
    ledger = result.ledger
    choose_validation(ledger, kept, 0.5, 0)
    roots = {ledger.linked(at) for at in result.tested}
    return {at for at in kept if ledger.linked(at) in roots}


def _latest(result: Decided, kept: list[int], fraction: float) -> set[int]:
    """Return the latest rows; earlier ones that belong to the same group or prompt are left out."""
    ledger = result.ledger
    choose_validation(ledger, kept, 0.5, 0)
    month_first = bool(is_month_first(result.times))
    times = {at: sortable(result.times[at], month_first=month_first) for at in kept}
    ordered = sorted(kept, key=lambda at: (times[at], ledger.lines[at]))
    test = set(ordered[len(ordered) - round(fraction * len(ordered)) :])
    roots = {ledger.linked(at) for at in test}
    groups = {result.groups[at] for at in test} - {0}
    for at in kept:
        if at not in test and ledger.linked(at) in roots:
            is_of_group = result.groups[at] in groups
            _drop(result, at, SAME_GROUP if is_of_group else ASKED_AGAIN)
    return test
