"""Tables with one row per turn: recognise them, and join their rows to conversations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.data.prepare.column_mapping import ColumnMapping, is_empty, text_of_cell
from ft_tools.data.prepare.times import is_month_first, sortable
from ft_tools.examples.columns import cell_at
from ft_tools.examples.example import Message
from ft_tools.examples.turns import ROLES

CUSTOMERS = (
    "client visitor caller guest member requester end-user kunde kundin cliente klant клиент 客户 "
    "顧客"
)
STAFF = (
    "agent support operator staff employee advisor adviser rep representative helpdesk berater "
    "beraterin mitarbeiter agente conseiller оператор 客服 オペレーター"
)
SPEAKERS = dict.fromkeys(CUSTOMERS.split(), "user") | dict.fromkeys(STAFF.split(), "assistant")
"""Who speaks in exported chats and tickets, besides the names that training formats use."""


def role_of(speaker: str) -> str | None:
    """Return the role of a speaker; None if the name is not known.

    >>> role_of("Customer"), role_of("agent"), role_of("Ms Keller")
    ('user', 'assistant', None)
    """
    name = speaker.strip().casefold()
    return ROLES.get(name) or SPEAKERS.get(name)


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

    def messages(self, *, month_first: bool) -> list[Message]:
        """Return the turns in order; what one says in several rows in a row is one turn."""
        made: list[Message] = []
        for _, _, message in sorted(
            self.turns, key=lambda turn: (sortable(turn[0], month_first=month_first), turn[1])
        ):
            if made and made[-1]["role"] == message["role"]:
                text = f"{made[-1]['content']}\n{message['content']}"
                made[-1] = {"role": message["role"], "content": text}
            else:
                made.append(message)
        return made


def joined(
    mapping: ColumnMapping, rows: Iterator[tuple[int, dict[str, object] | None]]
) -> Iterator[tuple[int, dict[str, object] | None]]:
    """Join the rows of a table with one row per turn into one row per conversation.

    The turns of a conversation need not stand together; all of them are held in memory. Rows that
    cannot be read or belong to no conversation stay rows of their own, so that they are counted.
    """
    turns = mapping.turns
    assert turns is not None
    roles = {name.strip().casefold(): role for name, role in turns.roles.items()}
    named = [*mapping.verdicts, *mapping.group_by]
    named += [mapping.time_column] if mapping.time_column else []
    held: dict[str, Conversation] = {}
    for number, row in rows:
        key = text_of_cell(cell_at(row, turns.conversation)) if row is not None else ""
        if row is None or not key:
            yield number, None
            continue
        said = text_of_cell(cell_at(row, turns.role))
        role = roles.get(said.casefold()) or role_of(said) or said
        text = text_of_cell(cell_at(row, turns.text))
        talk = held.get(key)
        if talk is None:
            talk = held[key] = Conversation(number, columns={name: [] for name in named})
        time = text_of_cell(cell_at(row, mapping.time_column or ""))
        talk.add(time, number, {"role": role, "content": text}, row)
    month_first = bool(is_month_first(time for talk in held.values() for time, *_ in talk.turns))
    for talk in held.values():
        latest: dict[str, Any] = {}
        if mapping.time_column:
            times = [sortable(time, month_first=month_first) for time, *_ in talk.turns]
            latest = {mapping.time_column: max(times)}
        messages = talk.messages(month_first=month_first)
        yield talk.first, {"messages": messages, **talk.columns, **latest}
