"""Apply a mapping to a row: its example and mark, or why it is left out."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from ft_tools.data.cleaned_files import mask_example
from ft_tools.data.judge import privacy
from ft_tools.data.judge.findings import RULES
from ft_tools.data.judge.turn_order import structure
from ft_tools.data.prepare.column_mapping import (
    ColumnMapping,
    answer_of,
    correction_of,
    format_input,
)
from ft_tools.data.prepare.turns import JOINED
from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.formats import normalise
from ft_tools.formats.turns import with_system
from ft_tools.formats.verdicts import Mark, judged, values_at


class Made(NamedTuple):
    """A row as an example."""

    example: Example | None
    mark: int = -1
    problem: str = ""
    """Why it is left out; empty if it stays. `no_answer` is set aside for labelling."""
    is_corrected: bool = False
    """Whether a better answer is used: instead of the row's, or preferred to it."""


def make(mapping: ColumnMapping, number: int, row: Mapping[str, Any] | None) -> Made:
    """Apply a mapping to a row."""
    if row is None:
        return Made(None, problem="unreadable")
    mark = mark_in(mapping, row) if mapping.verdicts else -1
    uses = set(mapping.verdicts.values())
    # Marks are for the answers that were given.
    better = "" if "marks" in uses else correction_of(mapping, row)
    if not better and (problem := _left_out(mapping, row, mark)):
        return Made(None, mark, problem)
    if mapping.is_as_it_is:
        return _as_it_is(mapping, number, row, mark)
    answer = answer_of(mapping, row)
    asked: list[Message] = [dict(message) for message in format_input(mapping, row)]
    if not asked[-1]["content"]:
        return Made(None, mark, "empty_prompt")
    if answer is None and (not better or "pair" in uses):
        return Made(None, mark, "no_answer")
    answered: list[Message] = [{"role": "assistant", "content": better or answer}]
    if better and "pair" in uses:
        rejected: list[Message] = [{"role": "assistant", "content": answer}]
        pair = Example(number, "preference_explicit", "dpo", asked, answered, rejected)
        return Made(pair, mark, is_corrected=True)
    if {"pair", "marks"} & uses:
        return Made(Example(number, "kto", "kto", asked, answered, label=mark == 1), mark)
    example = Example(number, "prompt_completion", "sft", [*asked, *answered])
    return Made(example, mark, is_corrected=bool(better))


def _left_out(mapping: ColumnMapping, row: Mapping[str, Any], mark: int) -> str:
    """Return why the marks of a row leave it out; empty if they do not."""
    uses = set(mapping.verdicts.values())
    # Each of them has to say that the row is good: one that is empty does not.
    found = [_mark_by(mapping, row, [name]) for name in mapping.marking({"filter"})]
    if any(one != 1 for one in found):
        return "marked_bad" if 0 in found else "not_marked_good"
    if "drop_bad" in uses and _is_bad(mapping, row):
        return "marked_bad"
    if mark < 0 and {"pair", "marks"} & uses:
        return "not_marked" if mapping.marking({"pair", "marks"}) else "no_better_answer"
    return ""


def _as_it_is(mapping: ColumnMapping, number: int, row: Mapping[str, Any], mark: int) -> Made:
    """Read a row that is an example of a known format already."""
    # The other columns of joined turns are no part of the example.
    example = normalise(number, {"messages": row.get(JOINED)} if mapping.turns else row)
    found = structure(example)
    if "missing_assistant" in found or "empty_answer" in found:
        return Made(None, mark, "no_answer")
    if any(RULES[name].removes for name in found):
        return Made(None, mark, next(name for name in found if RULES[name].removes))
    if mapping.system and example.text is None:
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
    named = (mapping.marking(uses) for uses in ({"pair", "marks"}, {"filter"}, {"drop_bad"}))
    columns = next(filter(None, named), [])
    return _mark_by(mapping, row, columns)


def _mark_by(mapping: ColumnMapping, row: Mapping[str, Any], columns: Collection[str]) -> int:
    marks = _marks(mapping, row, columns)
    if not marks:
        return 1 if any("" in mapping.good_of(name) for name in columns) else -1
    if marks == {Mark.GOOD}:
        return 1
    return 0 if Mark.BAD in marks else -1


def _is_bad(mapping: ColumnMapping, row: Mapping[str, Any]) -> bool:
    """Tell whether a column of which bad rows are dropped marks this one as bad."""
    return Mark.BAD in _marks(mapping, row, mapping.marking({"drop_bad"}))


def _marks(
    mapping: ColumnMapping, row: Mapping[str, Any], columns: Iterable[str]
) -> set[Mark | None]:
    """Return what the values of some columns say of a row."""
    return {mark for mark, _ in values_marked(mapping, row, columns)}


def values_marked(
    mapping: ColumnMapping, row: Mapping[str, Any], columns: Iterable[str]
) -> list[tuple[Mark | None, Any]]:
    """Return the values of some columns, each with what it says of a row."""
    return [
        (judged(value, mapping.good_of(name), mapping.bad_of(name)), value)
        for name in columns
        for value in values_at(row, name)
    ]
