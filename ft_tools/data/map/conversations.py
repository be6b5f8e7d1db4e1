"""Turns to conversations: rows of a table with one row per turn, or lists of turns in the rows."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ft_tools.data.judge.findings import note
from ft_tools.data.map.conditions import counted, fits, holds, values_at
from ft_tools.data.map.mapping import (
    FIRST_SPEAKER,
    LAST,
    LEAVE_OUT,
    ColumnMapping,
    Turns,
)
from ft_tools.data.map.times import is_month_first, sortable
from ft_tools.formats.column_counts import cell_at, shown, text_of, turns_in
from ft_tools.formats.example import Message
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.turns import as_turns

JOINED, WHY_NOT = "joined turns", "why turns are no conversation"
"""Key of a conversation's messages beside the columns of its row; of one that is left out, of an id
of `NOT_JOINED`."""
NOT_JOINED = (
    *("broken_tree", "replies_left_out", "questions_left_out"),
    *("starts_otherwise", "ends_otherwise"),
)
BROKEN, UNANSWERED, UNASKED, STARTS_OTHERWISE, ENDS_OTHERWISE = NOT_JOINED
LOST = "question that is left out"
"""Role of a turn of the user that the mapping leaves out, or that says nothing in text."""
OURS = frozenset({"system", "user", "assistant", "tool"})
"""Roles that need no entry in `roles`, if it has none for all others."""


@dataclass
class Joining:
    """How turns were joined over a file."""

    left_out: "Counter[str]" = field(default_factory=Counter)
    """Reason -> turns that are part of no conversation."""
    unknown: "Counter[str]" = field(default_factory=Counter)
    """Speaker without a role -> turns."""
    silent: "Counter[str]" = field(default_factory=Counter)
    """The same of turns without text: where none has any, the key of the text is wrong."""
    has_text: bool = False
    roles: dict[str, str] = field(default_factory=dict)
    """Speaker -> who that is, where another list says it."""
    speakers: set[str] = field(default_factory=set)
    """All that were met, and who they are."""

    def role_of(self, turns: Turns, speaker: str, user: str = "") -> str | None:
        """Return the role of a speaker; `*` stands for no id that the other list lacks."""
        self.speakers |= {speaker, self.roles.get(speaker, speaker)}
        if user and speaker == user:
            return "user"
        if turns.role_from is not None and speaker not in self.roles:
            return turns.roles.get(speaker)
        speaker = self.roles.get(speaker, speaker)
        role = turns.roles.get(speaker) or turns.roles.get("*")
        return role or (speaker if speaker in OURS else None)

    def problems(self) -> list[str]:
        """Return what is wrong if there are speakers whose role nobody named."""
        unknown = self.unknown if self.has_text else +self.silent
        of_list = " that are in the list of role_from" if self.roles else ""
        fields = {"count": len(unknown), "listed": counted(unknown), "of_list": of_list}
        return [note("speakers_without_role", **fields)] if unknown else []


class _Turn(NamedTuple):
    """A turn as it was read."""

    order: str
    speaker: str
    role: str | None
    said: str
    why: str = ""
    """Why its values leave it out."""
    holds_more: bool = False
    """Whether it holds something else than text, such as a picture."""
    id: str = ""
    parent: str = ""
    may_open: bool = True
    """Whether a conversation may begin with it."""


def joined(
    mapping: ColumnMapping, rows: Iterable[Row], joining: Joining, others: Iterable[str] = ()
) -> Iterator[Row]:
    """Join turns into one row per conversation.

    Of a table with one row per turn all rows are held in memory, as the turns of a conversation
    need not stand together; a row with a list of turns is a conversation of its own. Rows that
    cannot be read or belong to no conversation stay rows of their own, so that they are counted.
    `others` are columns that are read beside those of the mapping.
    """
    turns = mapping.turns
    assert turns is not None
    last = [turns.tree.last] if turns.tree else []
    held: dict[str, tuple[int, list[_Turn], dict[str, dict[str, Any]]]] = {}
    """Of each id: its first row, its turns, and the different values of other columns."""
    for row in rows:
        if row.problem or not isinstance(row.value, Mapping):
            yield row
            continue
        value = row.value
        user = text_of(cell_at(value, turns.user)) if turns.user else ""
        cell = as_turns(cell_at(value, turns.conversation))
        items = turns_in(cell)
        if items is not None:
            read = [_read(turns, one, joining, user) for one in items if isinstance(one, Mapping)]
            opening = text_of(cell_at(value, turns.first)) if turns.first else ""
            ends = cell_at(value, last[0]) if last else None
            yield row._replace(value={**value, **_made(turns, read, ends, joining, opening)})
        elif isinstance(cell, Mapping | list) or not (key := text_of(cell)):
            yield row
        else:
            _, read, columns = held.setdefault(key, (row.number, [], {}))
            read.append(_read(turns, value, joining, user))
            for name in [*mapping.row_columns, *last, *others]:
                is_cell = "[]" not in name or name in value
                for one in [cell_at(value, name)] if is_cell else values_at(value, name):
                    if one is not None and one != "" and one == one:
                        columns.setdefault(name, {})[repr(one)] = one
    for first, read, columns in held.values():
        several = {name: [*each.values()] for name, each in columns.items()}
        values = {name: one if len(one) > 1 else one[0] for name, one in several.items()}
        ends = values.get(last[0]) if last else None
        yield Row(first, {**values, **_made(turns, read, ends, joining)}, None)


def is_one_turn(turns: Turns, row: Mapping[str, Any]) -> bool:
    """Return whether a row is a turn, and not a conversation with a list of turns."""
    return turns_in(cell_at(row, turns.conversation)) is None


def _read(turns: Turns, turn: Mapping[str, Any], joining: Joining, user: str) -> _Turn:
    speaker, value = text_of(cell_at(turn, turns.role)), cell_at(turn, turns.text)
    # A turn without text may hold something else, such as a picture.
    holds_more = any(value) if isinstance(value, list) else isinstance(value, Mapping) and value
    tree = turns.tree
    return _Turn(
        order=text_of(cell_at(turn, turns.order)) if turns.order else "",
        speaker=speaker,
        role=joining.role_of(turns, speaker, user),
        said=text_of_turn(value),
        why=_left_out(turns, turn),
        may_open=fits(turn, turns.first_turn),
        holds_more=bool(holds_more),
        id=text_of(cell_at(turn, tree.id)) if tree else "",
        parent=text_of(cell_at(turn, tree.parent)) if tree else "",
    )


def _left_out(turns: Turns, turn: Mapping[str, Any]) -> str:
    """Return why the values of a turn leave it out; empty if they do not."""
    for name, unwanted in turns.drop.items():
        if holds(turn, name, unwanted):
            return f"dropped by {shown(name)}"
    if turns.keep and not any(fits(turn, choice) for choice in turns.keep):
        kept = turns.keep[0].items()
        unmet = [name for name, wanted in kept if not fits(turn, {name: wanted})]
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


def _made(
    turns: Turns, read: Sequence[_Turn], last: Any, joining: Joining, opening: str = ""
) -> dict[str, Any]:
    """Return the messages of a conversation, or why they can be no example."""
    path = _path(read, text_of(last)) if turns.tree else _in_order(read, turns)
    if path is None:
        return {WHY_NOT: BROKEN}
    joining.left_out["of other branches"] += len(read) - len(path)
    path = _with_asker(path) if turns.user == FIRST_SPEAKER else path
    lost, said = set[str](), list[Message]()
    said += [{"role": "user", "content": opening}] if opening else []
    for turn in path:
        if turn.role == "user" and (turn.why or not turn.said) and (turn.said or turn.holds_more):
            said.append({"role": LOST, "content": ""})
            lost.add("user")
        why = turn.why or ("" if turn.said else "without text")
        joining.has_text |= bool(turn.said)
        joining.silent[turn.speaker] += turn.role is None and why == "without text"
        if not why and turn.role == LEAVE_OUT:
            why = "of speakers that are left out"
        if why:
            joining.left_out[why] += 1
            lost.add("reply" if turn.said and turn.role not in {"user", "system"} else "")
        elif turn.role is None:
            joining.unknown[turn.speaker] += 1
        else:
            said.append({"role": turn.role, "content": turn.said})
    if otherwise := _otherwise(path, said, turns):
        return {WHY_NOT: otherwise}
    messages = _messages([*_chosen(said, turns, joining)], turns, joining)
    roles = {message["role"] for message in messages}
    if "reply" in lost and "assistant" not in roles:
        return {WHY_NOT: UNANSWERED}
    if "user" in lost and "user" not in roles:
        return {WHY_NOT: UNASKED}
    return {JOINED: messages}


def _otherwise(path: Sequence[_Turn], said: Sequence[Message], turns: Turns) -> str:
    """Return whether a conversation starts or ends in another way than is wanted."""
    spoken = ["user" if one["role"] == LOST else one["role"] for one in said]
    spoken = [role for role in spoken if role != "system"]
    first, last = (spoken[0], spoken[-1]) if spoken else (turns.starts_with, turns.ends_with)
    if first != (turns.starts_with or first) or not all(turn.may_open for turn in path[:1]):
        return STARTS_OTHERWISE
    return "" if last == (turns.ends_with or last) else ENDS_OTHERWISE


def _with_asker(path: Sequence[_Turn]) -> Sequence[_Turn]:
    """Return the turns, of which those of the first speaker are the user's."""
    asker = path[0].speaker if path else ""
    return [turn._replace(role="user") if turn.speaker == asker else turn for turn in path]


def _in_order(read: Sequence[_Turn], turns: Turns) -> Sequence[_Turn]:
    if not turns.order:
        return read
    month_first = bool(is_month_first(turn.order for turn in read))
    return sorted(read, key=lambda turn: sortable(turn.order, month_first=month_first))


def _path(read: Sequence[_Turn], last: str) -> list[_Turn] | None:
    """Return the turns from the first to the last one; None if no such path can be followed.

    It cannot if ids repeat, the last turn or a parent is not there, or parents go in a circle.
    """
    by_id = {turn.id: turn for turn in read}
    path: list[_Turn] = []
    while last and last in by_id and len(path) < len(read):
        path.append(by_id[last])
        last = path[-1].parent
    return path[::-1] if path and not last and len(by_id) == len(read) else None


def _chosen(said: Sequence[Message], turns: Turns, joining: Joining) -> Iterator[Message]:
    """Yield the turns without questions after those that are kept, and answers before the last."""
    last = max((at for at, one in enumerate(said) if one["role"] == "assistant"), default=0)
    num_questions = 0
    for at, one in enumerate(said):
        num_questions += one["role"] in {"user", LOST}
        if one["role"] in {"user", LOST} and num_questions > (turns.questions or math.inf):
            joining.left_out["after the questions that are kept"] += one["role"] != LOST
        elif one["role"] == "assistant" and turns.answers == LAST and at != last:
            joining.left_out["before the last answer"] += 1
        else:
            yield one


def _messages(said: Sequence[Message], turns: Turns, joining: Joining) -> list[Message]:
    """Return the turns in order; what one role says several times in a row is one turn.

    Answers before the first question are left out, as are what follows the last answer, and an
    answer to nothing but questions that are left out, which ends a conversation.
    """
    made: list[tuple[str, list[str]]] = []
    is_asked = is_lost = False
    num_answers, why = 0, ""
    for message in said:
        role = message["role"]
        if role == "assistant" and is_lost and not is_asked and num_answers:
            why = "after a question that is left out"
        if why or role == LOST:
            is_lost = True
            joining.left_out[why] += role != LOST
            continue
        is_answer = role == "assistant" and (is_asked or num_answers > 0)
        num_answers += is_answer
        is_asked = role == "user" or (is_asked and not is_answer)
        is_lost = is_lost and not is_answer
        if num_answers == turns.answers:
            why = "after the answers that are kept"
        if not made or made[-1][0] != role or role == "tool":
            made.append((role, []))
        made[-1][1].append(message["content"])
    roles = [role for role, _ in made]
    first = roles.index("user") if "user" in roles else 0
    kept = [
        {"role": role, "content": turns.separator.join(texts)}
        for at, (role, texts) in enumerate(made)
        if at >= first or role != "assistant"
    ]
    joining.left_out["before the first question"] += len(made) - len(kept)
    is_answered = "assistant" in {message["role"] for message in kept}
    while is_answered and kept[-1]["role"] != "assistant":
        kept.pop()
        joining.left_out["after the last answer"] += 1
    return kept
