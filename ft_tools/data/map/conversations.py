"""Turns to conversations: rows of a table with one row per turn, or lists of turns in the rows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ft_tools.data.map.conditions import fits, holds, values_at
from ft_tools.data.map.mapping import LEAVE_OUT, ColumnMapping, Tree, Turns
from ft_tools.data.map.times import is_month_first, sortable
from ft_tools.errors import BadInput
from ft_tools.formats.column_counts import cell_at, shown, text_of, turns_in
from ft_tools.formats.example import Message
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.turns import as_turns

JOINED, WHY_NOT = "joined turns", "why turns are no conversation"
"""Key of a conversation's messages beside the columns of its row; of one that is left out, of an id
of `NOT_JOINED`."""
NOT_JOINED = ("broken_tree", "replies_left_out", "questions_left_out")
BROKEN, UNANSWERED, UNASKED = NOT_JOINED
LOST = "question that is left out"
"""Role of a turn of the user that the mapping leaves out, or that says nothing in text."""
OURS = frozenset({"system", "user", "assistant", "tool"})
"""Roles that need no entry in `roles`."""
MOST_NAMED = 12
Said = tuple[str, int, Message]
"""What orders a turn, its place in the file, and what it says."""


@dataclass
class Joining:
    """How turns were joined over a file."""

    left_out: "Counter[str]" = field(default_factory=Counter)
    """Reason -> turns that are part of no conversation."""
    unknown: "Counter[str]" = field(default_factory=Counter)
    """Speaker without a role -> turns."""
    roles: dict[str, str] = field(default_factory=dict)
    """Speaker -> who that is, where another list says it."""

    speakers: set[str] = field(default_factory=set)
    """All that were met, and who they are."""

    def role_of(self, turns: Turns, speaker: str) -> str | None:
        """Return the role of a speaker; `*` stands for no id that the other list lacks."""
        self.speakers |= {speaker, self.roles.get(speaker, speaker)}
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
    nodes: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    """The turns as they are in the file, if they are a tree."""
    turns: list[Said] = field(default_factory=list)
    _columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The other columns that the mapping names, each with its different values."""
    has_lost_replies: bool = False
    """Whether the mapping leaves a turn of it out that is none of the user."""

    def collect(self, name: str, value: Any) -> None:
        """Remember a value of a column; there may be as many as there are turns."""
        if value is not None and value != "" and value == value:
            self._columns.setdefault(name, {})[repr(value)] = value

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns with their values; of several, a list."""
        several = {name: [*values.values()] for name, values in self._columns.items()}
        return {name: one if len(one) > 1 else one[0] for name, one in several.items()}

    def made(self, turns: Turns, joining: Joining) -> dict[str, Any]:
        """Return its messages, or why they can be no example."""
        if turns.tree is not None and not self._follow(turns, turns.tree, joining):
            return {WHY_NOT: BROKEN}
        messages = _messages(self, turns, joining)
        roles = {message["role"] for message in messages}
        if self.has_lost_replies and "assistant" not in roles:
            return {WHY_NOT: UNANSWERED}
        has_lost_questions = any(turn["role"] == LOST for _, _, turn in self.turns)
        if has_lost_questions and "user" not in roles:
            return {WHY_NOT: UNASKED}
        return {JOINED: messages}

    def _follow(self, turns: Turns, tree: Tree, joining: Joining) -> bool:
        """Take the turns on the path to the last one; return whether there is a path."""
        path = path_of([node for _, node in self.nodes], tree, self.columns.get(tree.last))
        for _, node in self.nodes:
            joining.role_of(turns, text_of(cell_at(node, turns.role)))
        if path is not None:
            joining.left_out["of other branches"] += len(self.nodes) - len(path)
            for at, node in enumerate(path):
                _take(self, turns, at, node, joining)
        return path is not None


def joined(mapping: ColumnMapping, rows: Iterable[Row], joining: Joining) -> Iterator[Row]:
    """Join turns into one row per conversation.

    Of a table with one row per turn all rows are held in memory, as the turns of a conversation
    need not stand together; a row with a list of turns is a conversation of its own. Rows that
    cannot be read or belong to no conversation stay rows of their own, so that they are counted.

    Args:
        mapping: Says where the turns are.
        rows: Of a file.
        joining: Counts what is left out.
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
        items = turns_in(cell)
        if items is not None:
            made = _of_list(row.number, value, items, turns, joining).made(turns, joining)
            yield row._replace(value={**value, **made})
        elif isinstance(cell, Mapping | list) or not (key := text_of(cell)):
            yield row
        else:
            talk = held.setdefault(key, _Conversation(row.number))
            _add(talk, turns, row.number, value, joining)
            last = [turns.tree.last] if turns.tree else []
            for name in [*mapping.row_columns, *last]:
                is_cell = "[]" not in name or name in value
                for one in [cell_at(value, name)] if is_cell else values_at(value, name):
                    talk.collect(name, one)
    for talk in held.values():
        yield Row(talk.first, {**talk.columns, **talk.made(turns, joining)}, None)


def _of_list(
    number: int, row: Mapping[str, Any], items: Iterable[Any], turns: Turns, joining: Joining
) -> _Conversation:
    """Return the conversation of a row that has a list of turns."""
    talk = _Conversation(number)
    if turns.tree is not None:
        talk.collect(turns.tree.last, cell_at(row, turns.tree.last))
    opening = text_of(cell_at(row, turns.first)) if turns.first else ""
    if opening:
        talk.turns.append(("", -1, {"role": "user", "content": opening}))
    for at, turn in enumerate(items):
        if isinstance(turn, Mapping):
            _add(talk, turns, at, turn, joining)
    return talk


def is_one_turn(turns: Turns, row: Mapping[str, Any]) -> bool:
    """Return whether a row is a turn, and not a conversation with a list of turns."""
    return turns_in(cell_at(row, turns.conversation)) is None


def _add(
    talk: _Conversation, turns: Turns, number: int, turn: Mapping[str, Any], joining: Joining
) -> None:
    if turns.tree is not None:
        talk.nodes.append((number, turn))
    else:
        _take(talk, turns, number, turn, joining)


def _take(
    talk: _Conversation, turns: Turns, number: int, turn: Mapping[str, Any], joining: Joining
) -> None:
    speaker = text_of(cell_at(turn, turns.role))
    role = joining.role_of(turns, speaker)
    value = cell_at(turn, turns.text)
    said = text_of_turn(value)
    order = text_of(cell_at(turn, turns.order)) if turns.order else ""
    why = _left_out(turns, turn)
    if role == "user" and (why or not said) and (said or _holds_more(value)):
        talk.turns.append((order, number, {"role": LOST, "content": ""}))
    if why:
        joining.left_out[why] += 1
        talk.has_lost_replies |= bool(said) and role not in {"user", "system"}
        return
    if not said:
        joining.left_out["without text"] += 1
        return
    if role is None:
        joining.unknown[speaker] += 1
    elif role == LEAVE_OUT:
        joining.left_out["of speakers that are left out"] += 1
        talk.has_lost_replies = True
    else:
        talk.turns.append((order, number, {"role": role, "content": said}))


def _holds_more(value: Any) -> bool:
    """Return whether a turn without text holds something else, such as a picture."""
    return any(value) if isinstance(value, list) else bool(value) and isinstance(value, Mapping)


def _left_out(turns: Turns, turn: Mapping[str, Any]) -> str:
    """Return why the values of a turn leave it out; empty if they do not."""
    for name, unwanted in turns.drop.items():
        if holds(turn, name, unwanted):
            return f"dropped by {shown(name)}"
    if turns.keep and not any(fits(turn, choice, any) for choice in turns.keep):
        kept = turns.keep[0].items()
        unmet = [name for name, wanted in kept if not fits(turn, {name: wanted}, any)]
        return f"not kept by {shown(unmet[0])}" if len(turns.keep) == 1 else "not kept"
    return ""


def text_of_turn(value: Any) -> str:
    r"""Return what a turn says; the texts of a list are its lines.

    >>> text_of_turn(["a", {"x": 1}, "b"]), text_of_turn(" a ")
    ('a\nb', 'a')
    """
    if isinstance(value, list):
        return "\n".join(text for text in value if isinstance(text, str)).strip()
    return "" if isinstance(value, Mapping) else text_of(value)


def _in_order(entries: list[Said], turns: Turns) -> list[Said]:
    """Return what begins with the time and number of a turn in the order of the turns."""
    if not turns.order:
        return entries
    month_first = bool(is_month_first(one[0] for one in entries))
    return sorted(entries, key=lambda one: (sortable(one[0], month_first=month_first), one[1]))


def _coherent(ordered: Sequence[Said], answers: int | None, joining: Joining) -> Iterator[Message]:
    """Yield the turns up to the last answer that is kept.

    An answer to nothing but questions that are left out ends a conversation, too.
    """
    is_asked = is_lost = False
    num_answers, why = 0, ""
    for _, _, message in ordered:
        role = message["role"]
        if role == "assistant" and is_lost and not is_asked and num_answers:
            why = "after a question that is left out"
        if why:
            joining.left_out[why] += role != LOST
        elif role == LOST:
            is_lost = True
        else:
            is_answer = role == "assistant" and (is_asked or num_answers > 0)
            num_answers += is_answer
            is_asked = role == "user" or (is_asked and not is_answer)
            is_lost = is_lost and not is_answer
            if num_answers == answers:
                why = "after the answers that are kept"
            yield message


def _messages(talk: _Conversation, turns: Turns, joining: Joining) -> list[Message]:
    """Return the turns in order; what one speaker says several times in a row is one turn.

    Answers before the first question, and what follows the last answer, are left out.
    """
    said: list[tuple[str, list[str]]] = []
    for message in _coherent(_in_order(talk.turns, turns), turns.answers, joining):
        if not said or said[-1][0] != message["role"] or message["role"] == "tool":
            said.append((message["role"], []))
        said[-1][1].append(message["content"])
    made: list[Message] = [{"role": role, "content": "\n".join(texts)} for role, texts in said]
    is_asked = [message["role"] == "user" for message in made]
    first = is_asked.index(True) if True in is_asked else 0
    kept = [m for at, m in enumerate(made) if at >= first or m["role"] != "assistant"]
    joining.left_out["before the first question"] += len(made) - len(kept)
    if any(message["role"] == "assistant" for message in kept):
        while kept[-1]["role"] != "assistant":
            kept.pop()
            joining.left_out["after the last answer"] += 1
    return kept


def path_of(
    nodes: Sequence[Mapping[str, Any]], tree: Tree, last: Any
) -> "list[Mapping[str, Any]] | None":
    """Return the turns from the first to the last one; None if no such path can be followed.

    It cannot if ids repeat, the last turn or a parent is not there, or parents go in a circle.
    """
    by_id = {text_of(cell_at(node, tree.id)): node for node in nodes}
    if len(by_id) < len(nodes):
        return None
    path: list[Mapping[str, Any]] = []
    at = text_of(last)
    while at and len(path) < len(nodes):
        node = by_id.get(at)
        if node is None:
            return None
        path.append(node)
        at = text_of(cell_at(node, tree.parent))
    return path[::-1] if path and not at else None
