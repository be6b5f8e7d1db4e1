"""Turns to conversations: rows of a table with one row per turn, or lists of turns in the rows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.data.prepare.column_mapping import (
    LEAVE_OUT,
    ColumnMapping,
    is_empty,
    text_of_cell,
)
from ft_tools.data.prepare.times import is_month_first, sortable
from ft_tools.formats.columns import cell_at
from ft_tools.formats.example import Message
from ft_tools.formats.speakers import is_internal, role_of
from ft_tools.formats.turns import as_turns

JOINED = "joined turns"
"""Key of a conversation's messages beside the columns of its row."""


@dataclass
class Conversation:
    """The turns of a conversation, wherever they stand in the table."""

    first: int
    turns: list[tuple[str, int, Message]] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """The other columns that the mapping names, each with its different values."""

    def add(self, time: str, number: int, message: Message, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self.turns.append((time, number, message))
        for name, values in self.columns.items():
            value = cell_at(row, name)
            if not is_empty(value) and value not in values:
                values.append(value)

    def messages(self, left_out: "Counter[str]", *, month_first: bool) -> list[Message]:
        """Return the turns in order; what one says in several rows in a row is one turn.

        Answers before the first question, and what follows the last answer, are left out.
        """
        made: list[Message] = []
        for _, _, message in sorted(
            self.turns, key=lambda turn: (sortable(turn[0], month_first=month_first), turn[1])
        ):
            if made and made[-1]["role"] == message["role"]:
                text = f"{made[-1]['content']}\n{message['content']}"
                made[-1] = {"role": message["role"], "content": text}
            else:
                made.append(message)
        is_asked = [message["role"] == "user" for message in made]
        first = is_asked.index(True) if True in is_asked else 0
        kept = [m for at, m in enumerate(made) if at >= first or m["role"] != "assistant"]
        left_out["before the first question"] += len(made) - len(kept)
        while _is_answered(kept) and kept[-1]["role"] != "assistant":
            kept.pop()
            left_out["after the last answer"] += 1
        return kept


def _is_answered(messages: Iterable[Message]) -> bool:
    return any(message["role"] == "assistant" for message in messages)


def joined(
    mapping: ColumnMapping,
    rows: Iterator[tuple[int, dict[str, object] | None]],
    left_out: "Counter[str]",
) -> Iterator[tuple[int, dict[str, object] | None]]:
    """Join turns into one row per conversation.

    Of a table with one row per turn all rows are held in memory, as the turns of a conversation
    need not stand together; a row with a list of turns is a conversation of its own. Rows that
    cannot be read or belong to no conversation stay rows of their own, so that they are counted.

    Args:
        mapping: With `turns`.
        rows: Number and value of each.
        left_out: Reason -> turns that are part of no conversation; is added to.
    """
    turns = mapping.turns
    assert turns is not None
    roles = {name.strip().casefold(): role for name, role in turns.roles.items()}
    named = [*mapping.verdicts, *mapping.group_by]
    named += [mapping.time_column] if mapping.time_column else []
    held: dict[str, Conversation] = {}

    def add(talk: Conversation, number: int, turn: Mapping[str, Any]) -> None:
        said = text_of_cell(cell_at(turn, turns.role))
        role = roles.get(said.casefold()) or role_of(said) or said
        text = text_of_cell(cell_at(turn, turns.text))
        if why := _why_left_out(turn, role, text):
            left_out[why] += 1
        else:
            time = text_of_cell(cell_at(turn, mapping.time_column or ""))
            talk.add(time, number, {"role": role, "content": text}, turn)

    for number, row in rows:
        value = as_turns(cell_at(row, turns.conversation)) if row is not None else None
        if row is not None and isinstance(value, list):
            talk = Conversation(number)
            for at, turn in enumerate(value):
                if isinstance(turn, Mapping):
                    add(talk, at, turn)
            yield number, {**row, **_made(talk, mapping, left_out)}
        elif row is None or not (key := text_of_cell(value)):
            yield number, None
        else:
            talk = held.setdefault(key, Conversation(number, columns={name: [] for name in named}))
            add(talk, number, row)
    month_first = is_month_first(time for talk in held.values() for time, *_ in talk.turns)
    for talk in held.values():
        made = _made(talk, mapping, left_out, month_first=month_first)
        yield talk.first, {**talk.columns, **made}


def as_told(row: Any) -> Any:
    """Return a row with its joined turns as `messages`, unless it has a column of that name."""
    if not isinstance(row, Mapping) or JOINED not in row:
        return row
    told = {name: value for name, value in row.items() if name != JOINED}
    return {"messages": row[JOINED]} | told


def _why_left_out(turn: Mapping[str, Any], role: str, text: str) -> str:
    """Return why a turn is no part of its conversation; empty if it is one."""
    if is_internal(turn):
        return "internal"
    if role == LEAVE_OUT:
        return f"of speakers with the role {LEAVE_OUT}"
    return "" if text else "without text"


def _made(
    talk: Conversation,
    mapping: ColumnMapping,
    left_out: "Counter[str]",
    *,
    month_first: bool | None = None,
) -> dict[str, Any]:
    """Return a conversation's messages, and its latest time where its turns have some."""
    times = [time for time, *_ in talk.turns]
    month_first = bool(is_month_first(times) if month_first is None else month_first)
    made: dict[str, Any] = {JOINED: talk.messages(left_out, month_first=month_first)}
    if mapping.time_column and any(times):
        made[mapping.time_column] = max(sortable(time, month_first=month_first) for time in times)
    return made
