"""Decide what becomes of each row: the first of two passes, of which the second writes them.

Between the passes a row is a few numbers, so a million rows take some hundred MiB.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ft_tools.data.prepare.choose_parts import split
from ft_tools.data.prepare.column_mapping import (
    MARKING,
    MAX_CLASSES,
    ColumnMapping,
    text_of_cell,
)
from ft_tools.data.prepare.decided import Decided, Part
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.row_as_example import Made, make, masked, values_marked
from ft_tools.data.prepare.times import is_month_first, sortable
from ft_tools.data.read.ledger import NUM_PARTS, Ledger, hash_of
from ft_tools.data.repeats import contradictions, duplicates
from ft_tools.formats.columns import cell_at
from ft_tools.formats.example import content_of
from ft_tools.formats.verdicts import JUDGED
from ft_tools.similarity.by_words import Lexical
from ft_tools.similarity.word_hashes import tokens_in

MAX_COMPARED = 50_000
"""Rows up to which similar prompts are found; above, only equal ones are kept together."""
READ_AT_ONCE = 250
"""Rows of which the words are read together; `MAX_COMPARED` is a multiple."""
MAX_LABELS = 1_000
MAX_ENDINGS = 10_000
ENDING_CHARS = (8, 60)
"""Length of a last line that may be a signature. Ours."""
MAX_MARKS = 200
"""Different values of marks that are counted."""
TICK_ROWS = 2_000


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
    said: list[str] = []
    for number, row in rows:
        made = make(mapping, number, row)
        _count_marks(result, mapping, row)
        if len(result.ledger) % READ_AT_ONCE == 0:
            _remember_words(result, said)
        said += _take(result, mapping, request, made, (number, row), first_in)
        if number % TICK_ROWS == 0:
            tick(number)
    _remember_words(result, said)
    if task == "dpo":
        _pair(result)
    duplicates.mark_exact(result.ledger, lambda name, at: result.lose(at, name))
    _resolve_conflicts(result, mapping, request)
    result.compared = (
        compare
        and len(result.ledger) <= MAX_COMPARED
        and Lexical(result.ledger).link_near_prompts()
    )
    split(result, mapping, request)
    return result


def _count_marks(result: Decided, mapping: ColumnMapping, row: Mapping[str, Any] | None) -> None:
    """Count what the columns that mark rows hold, by what it says."""
    for mark, value in values_marked(mapping, row or {}, mapping.marking(MARKING)):
        name = mark.value if mark in JUDGED else "not_marked"
        counts = result.marked_with.setdefault(name, Counter())
        text = text_of_cell(value)
        if text in counts or len(counts) < MAX_MARKS:
            counts[text] += 1


def _remember_words(result: Decided, said: list[str]) -> None:
    """Remember the words of the last rows, and forget what they said."""
    if result.ledger.with_pairs and len(result.ledger) <= MAX_COMPARED:
        result.ledger.add_words(tokens_in(said))
    said.clear()


def _take(
    result: Decided,
    mapping: ColumnMapping,
    request: PrepareRequest,
    made: Made,
    read: tuple[int, Mapping[str, Any] | None],
    first_in: dict[int, int],
) -> list[str]:
    """Remember a row; return what of it is compared, by the parts of a ledger's words."""
    (number, row), ledger = read, result.ledger
    result.marks.append(made.mark)
    if made.example is None or row is None:
        ledger.add_unread(number, made.problem)
        waits = made.problem == "no_answer"
        result.outcomes.append("" if waits else made.problem)
        result.parts.append(Part.UNLABELLED if waits else Part.REMOVED)
        result.times.append("")
        result.groups.append(0)
        return [""] * NUM_PARTS
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
    if made.is_corrected:
        result.corrected.add(len(ledger))
    at = ledger.add(made.example, (0, 0), _stratum(result, mapping, row, made.mark, answer))
    _remember_ending(result, answer)
    result.outcomes.append("")
    result.parts.append(Part.TRAIN)
    result.times.append(text_of_cell(cell_at(row, mapping.time_column or "")))
    key = 0
    if mapping.group_by:
        key = hash_of("\x1f".join(text_of_cell(cell_at(row, n)) for n in mapping.group_by))
        ledger.link(at, first_in.setdefault(key, at))
    result.groups.append(key)
    said = [content_of(turn) for turn in asked if turn["role"] != "system"]
    return ["\n".join(said), answer, ""]


def _remember_ending(result: Decided, answer: str) -> None:
    """Count the last line of an answer, which may be a signature."""
    before, _, last = answer.rstrip().rpartition("\n")
    is_short = ENDING_CHARS[0] <= len(last) <= ENDING_CHARS[1] and any(map(str.isalpha, last))
    if before and is_short and (last in result.endings or len(result.endings) < MAX_ENDINGS):
        result.endings[last] += 1


def _stratum(
    result: Decided, mapping: ColumnMapping, row: Mapping[str, Any], mark: int, answer: str
) -> str:
    """Name what the parts hold in proportion: the classes, or else the length of the answer."""
    if result.task == "kto":
        return f"kto {mark}"
    fields = {name: text_of_cell(cell_at(row, name)) for name in mapping.answer_columns}
    if fields and len(result.ledger) < MAX_COMPARED:
        result.classes[len(result.ledger)] = tuple(fields.items())
    for name, value in fields.items():
        counts = result.labels.setdefault(name, Counter())
        if value in counts or len(counts) < MAX_LABELS:
            counts[value] += 1
    if fields and all(len(result.labels[name]) <= MAX_CLASSES for name in fields):
        return " ".join(fields.values())
    return str(len(answer).bit_length())


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
        result.lose(at, "conflicting_targets")


def _pair(result: Decided) -> None:
    """Put each bad answer with a good one to the same prompt; the later row holds the pair.

    A row with a better answer is a pair already.
    """
    ledger = result.ledger
    waiting: dict[tuple[int, int], list[int]] = defaultdict(list)
    for at in ledger.kept(validation=False):
        if at in result.corrected:
            continue
        mark, prompt = result.marks[at], ledger.prompt[at]
        others = waiting[prompt, 1 - mark]
        while others and ledger.answer[others[0]] == ledger.answer[at]:
            result.drop(others.pop(0), "same_answer_good_and_bad")
        if others:
            result.partner[at] = others.pop(0)
            result.drop(result.partner[at], "in_a_pair")
        else:
            waiting[prompt, mark].append(at)
    for left in waiting.values():
        for at in left:
            result.drop(at, "no_partner")
