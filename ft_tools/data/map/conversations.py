"""Turns to conversations: rows of a table with one row per turn, or lists of turns in the rows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.data.map.mapping import LEAVE_OUT, ColumnMapping, Tree, Turns, drops, keeps
from ft_tools.data.map.times import is_month_first, sortable
from ft_tools.errors import BadInput
from ft_tools.formats.column_counts import items_of, shown, text_of
from ft_tools.formats.columns import cell_at
from ft_tools.formats.example import Message
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.turns import as_turns

JOINED, UNANSWERED = "joined turns", "turns without the replies that were left out"
"""Key of a conversation's messages beside the columns of its row; of one whose replies the mapping
leaves out, all of them, another."""
OURS = frozenset({"system", "user", "assistant", "tool"})
"""Roles that need no entry in `roles`."""
MOST_NAMED = 12


@dataclass
class Joining:
    """How turns were joined over a file."""

    left_out: "Counter[str]" = field(default_factory=Counter)
    """Reason -> turns that are part of no conversation."""
    unknown: "Counter[str]" = field(default_factory=Counter)
    """Speaker without a role -> turns."""
    roles: dict[str, str] = field(default_factory=dict)
    """Speaker -> who that is, where another list says it."""

    def role_of(self, turns: Turns, speaker: str) -> str | None:
        """Return the role of a speaker; `*` stands for no id that the other list lacks."""
        if turns.role_from is not None and speaker not in self.roles:
            return turns.roles.get(speaker)
        speaker = self.roles.get(speaker, speaker)
        return turns.roles.get(speaker) or (speaker if speaker in OURS else turns.roles.get("*"))

    def require_roles(self) -> None:
        """Refuse speakers whose role nobody named.

        Raises:
            BadInput: With the speakers and how often each speaks.
        """
        if not self.unknown:
            return
        listed = ", ".join(f"{shown(n)} {c}" for n, c in self.unknown.most_common(MOST_NAMED))
        more = len(self.unknown) - MOST_NAMED
        listed += f" and {more} more" if more > 0 else ""
        raise BadInput(
            f"mapping.turns.roles lacks {len(self.unknown)} speakers ({listed}): set each to "
            "system, user, assistant, tool or leave_out; '*' stands for all others"
            f"{' that are in the list of role_from' if self.roles else ''}"
        )


@dataclass
class _Conversation:
    """The turns of a conversation, wherever they stand in the table."""

    first: int
    turns: list[tuple[str, int, Message]] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    """The other columns that the mapping names, each with its values."""
    has_lost_replies: bool = False
    """Whether the mapping leaves a turn of it out that is none of the user."""

    def made(self, turns: Turns, joining: Joining) -> dict[str, Any]:
        """Return its messages under the key that says whether they can be an example."""
        messages = _messages(self, turns, joining)
        is_answered = any(message["role"] == "assistant" for message in messages)
        return {UNANSWERED if self.has_lost_replies and not is_answered else JOINED: messages}


def joined(mapping: ColumnMapping, rows: Iterable[Row], joining: Joining) -> Iterator[Row]:
    """Join turns into one row per conversation.

    Of a table with one row per turn all rows are held in memory, as the turns of a conversation
    need not stand together; a row with a list of turns is a conversation of its own. Rows that
    cannot be read or belong to no conversation stay rows of their own, so that they are counted.
    """
    turns = mapping.turns
    assert turns is not None
    held: dict[str, _Conversation] = {}
    for row in rows:
        if row.problem or not isinstance(row.value, Mapping):
            yield row
            continue
        value = row.value
        cell = as_turns(cell_at(value, turns.conversation))
        if (items := turns_in(cell)) is not None:
            talk = _of_a_list(turns, row.number, value, items, joining)
            yield row._replace(value={**value, **talk.made(turns, joining)})
        elif isinstance(cell, Mapping | list) or not (key := text_of(cell)):
            yield row
        else:
            talk = held.setdefault(key, _Conversation(row.number))
            _add(talk, turns, row.number, value, joining)
            for name in mapping.row_columns:
                _collect(talk.columns, name, cell_at(value, name))
    for talk in held.values():
        yield Row(talk.first, {**talk.columns, **talk.made(turns, joining)}, None)


def _of_a_list(
    turns: Turns, number: int, row: Mapping[str, Any], items: list[Any], joining: Joining
) -> _Conversation:
    """Return the conversation of a row with a list of turns."""
    talk = _Conversation(number)
    opening = text_of(cell_at(row, turns.first)) if turns.first else ""
    if opening:
        talk.turns.append(("", -1, {"role": "user", "content": opening}))
    if turns.tree is not None:
        items = _branch(turns.tree, items, text_of(cell_at(row, turns.tree.last)), joining)
    for at, turn in enumerate(items):
        if isinstance(turn, Mapping):
            _add(talk, turns, at, turn, joining)
    return talk


def is_one_turn(turns: Turns, row: Mapping[str, Any]) -> bool:
    """Return whether a row is a turn, and not a conversation with a list of turns."""
    return turns_in(cell_at(row, turns.conversation)) is None


def turns_in(cell: Any) -> list[Any] | None:
    """Return the turns that a cell holds, as a list or as an object of objects; else None."""
    cell = as_turns(cell)
    inner = list(cell.values()) if isinstance(cell, Mapping) else []
    if inner and all(isinstance(one, Mapping) for one in inner):
        return inner
    return items_of(cell)


def _branch(tree: Tree, items: list[Any], last: str, joining: Joining) -> list[Any]:
    """Return the turns from the root to the last one; those of other branches were discarded."""
    turns = [one for one in items if isinstance(one, Mapping)]
    by_id = {text_of(cell_at(one, tree.id)): one for one in turns}
    path: list[Any] = []
    # Each turn is taken once, so that a circle ends.
    while (turn := by_id.pop(last, None)) is not None:
        path.append(turn)
        last = text_of(cell_at(turn, tree.parent))
    joining.left_out["of other branches"] += len(by_id)
    return path[::-1]


def _collect(columns: dict[str, Any], name: str, value: Any) -> None:
    """Remember the values of a column over the rows of a conversation; of several, a list."""
    if value is None or value == "" or value != value:
        return
    known = columns.setdefault(name, value)
    if known != value:
        several = known if isinstance(known, list) else [known]
        columns[name] = several if value in several else [*several, value]


def _add(
    talk: _Conversation, turns: Turns, number: int, turn: Mapping[str, Any], joining: Joining
) -> None:
    speaker = text_of(cell_at(turn, turns.role))
    role = joining.role_of(turns, speaker)
    if not keeps(turn, turns.keep) or drops(turn, turns.drop):
        joining.left_out["not kept"] += 1
        talk.has_lost_replies |= role != "user"
        return
    said = text_of_turn(cell_at(turn, turns.text))
    if not said:
        joining.left_out["without text"] += 1
        return
    if role is None:
        joining.unknown[speaker] += 1
    elif role == LEAVE_OUT:
        joining.left_out["of speakers that are left out"] += 1
        talk.has_lost_replies = True
    else:
        order = text_of(cell_at(turn, turns.order)) if turns.order else ""
        talk.turns.append((order, number, {"role": role, "content": said}))


def text_of_turn(value: Any) -> str:
    r"""Return what a turn says; the texts of a list are its lines.

    >>> text_of_turn(["a", {"x": 1}, "b"]), text_of_turn(" a ")
    ('a\nb', 'a')
    """
    if isinstance(value, list):
        return "\n".join(text for text in value if isinstance(text, str)).strip()
    return "" if isinstance(value, Mapping) else text_of(value)


def _messages(talk: _Conversation, turns: Turns, joining: Joining) -> list[Message]:
    """Return the turns in order; what one speaker says several times in a row is one turn.

    Answers before the first question, and what follows the last answer, are left out.
    """
    ordered = talk.turns
    if turns.order:
        month_first = bool(is_month_first(time for time, *_ in ordered))
        ordered = sorted(
            ordered, key=lambda turn: (sortable(turn[0], month_first=month_first), turn[1])
        )
    made: list[Message] = []
    for _, _, message in ordered:
        if made and made[-1]["role"] == message["role"] != "tool":
            text = f"{made[-1]['content']}\n{message['content']}"
            made[-1] = {"role": message["role"], "content": text}
        else:
            made.append(message)
    is_asked = [message["role"] == "user" for message in made]
    first = is_asked.index(True) if True in is_asked else 0
    kept = [m for at, m in enumerate(made) if at >= first or m["role"] != "assistant"]
    joining.left_out["before the first question"] += len(made) - len(kept)
    if any(message["role"] == "assistant" for message in kept):
        while kept[-1]["role"] != "assistant":
            kept.pop()
            joining.left_out["after the last answer"] += 1
    return kept
