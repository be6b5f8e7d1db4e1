"""A conversation as a log has it: what was said, and the signs of how it went."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ft_tools.formats.example import THOUGHTS, Message

CUT = {
    "length": "length", "max_tokens": "length", "MAX_TOKENS": "length", "error": "error",
    "content_filter": "content_filter", "SAFETY": "content_filter", "refusal": "refusal",
}  # fmt: skip
"""Reason for which an answer ended that is not whole, as providers spell it -> ours."""
NO_ANSWER, NOT_FINISHED = "no_answer", "not_finished"


class LogRow(NamedTuple):
    """A row of a log, and where it stands."""

    file: str
    line: int
    value: Mapping[str, Any]


class Sign(NamedTuple):
    """What a log, or its reader, says of a conversation under a name: a score or a mark."""

    name: str
    value: float | bool | str
    source: str = ""
    """Who said so, as the log names it: a person, a judge, a program."""

    @property
    def label(self) -> str:
        """Return its name with its source."""
        return f"{self.name} [{self.source}]" if self.source else self.name


class Signs(defaultdict[str, list[Sign]]):
    """Id of a call, of what it is part of, of a trace or a session -> what is said of it."""

    def __init__(self) -> None:
        super().__init__(list)

    def add(self, about: str, name: Any, *values: Any, source: Any = None) -> None:
        """Add values that can be signs."""
        found = [v for v in values if isinstance(v, bool | int | float | str)]
        self[about] += [Sign(str(name), value, str(source or "")) for value in found]


@dataclass
class Conversation:
    """One call of a model with what came before it, or one session."""

    format: str
    row: LogRow
    messages: list[Message]
    session: str = ""
    trace: str = ""
    id: str = ""
    model: str = ""
    date: str = ""
    tools: list[Any] = field(default_factory=list)
    failed: str = ""
    """The technical sign of a failure; empty if there is none."""
    signs: list[Sign] = field(default_factory=list)
    is_answered: bool = True

    @property
    def group(self) -> str:
        """Return what its rows are split by."""
        return self.session or self.trace or f"{self.row.file}:{self.row.line}"

    def add_signs(self, signs: Signs, names: Iterable[str] = ()) -> None:
        """Add what is said of it under its ids or other names."""
        own = dict.fromkeys((*names, *filter(None, (self.id, self.session, self.trace))))
        self.signs += [sign for name in own if name in signs for sign in signs[name]]


def call_of(
    format_name: str,
    row: LogRow,
    asked: list[Message],
    answer: list[Message],
    *,
    failed: str = "",
    reasons: Iterable[Any] = (),
    **more: Any,
) -> Conversation:
    """Return a call of a model; it failed if it says so, was cut off, or has no answer."""
    cut = next((CUT[name] for name in map(str, reasons) if name in CUT), "")
    failed = failed or cut or ("" if answer else NO_ANSWER)
    turns = [*asked, *answer]
    return Conversation(format_name, row, turns, failed=failed, is_answered=bool(answer), **more)


class Node(NamedTuple):
    """A span, run or observation: a call of a model, or what such calls are part of."""

    id: str
    parent: str
    failed: str
    """The sign that it failed, or has not ended; empty if there is none."""
    kind: str
    call: Conversation | None


def calls_in(
    nodes: Iterable[Node], signs: Signs, skipped: "Counter[str]"
) -> Iterator[Conversation]:
    """Yield the calls; what is said of a node, and that it failed, holds for the calls in it."""
    by_id = {node.id: node for node in nodes}
    for node in by_id.values():
        if node.call is None:
            skipped[node.kind] += 1
            continue
        above, at = {node.id: node}, by_id.get(node.parent)
        while at is not None and at.id not in above:
            above[at.id] = at
            at = by_id.get(at.parent)
        node.call.add_signs(signs, above)
        if node.call.failed in {"", NO_ANSWER}:
            failures = sorted(one.failed for one in above.values() if one.failed)
            node.call.failed = next(iter(failures), node.call.failed)
        yield node.call


def longest(found: Iterable[Conversation], notes: "Counter[str]") -> list[Conversation]:
    """Leave calls out that a later call of the same group repeats whole; it takes their signs.

    An agent sends all that was said with each call, so its last call holds the others. Without
    ids, what begins alike is one chat that went on.
    """
    kept: list[Conversation] = []
    owners: dict[tuple[str, str, int], Conversation] = {}
    for one in sorted(found, key=lambda one: -len(one.messages)):
        keys, before = list[tuple[str, str, int]](), 0
        for message in one.messages if one.is_answered else ():
            # Thoughts are not sent again.
            plain = {name: value for name, value in message.items() if name not in THOUGHTS}
            before = hash((before, json.dumps(plain, sort_keys=True)))
            keys.append((one.format, one.session or one.trace, before))
        owner = owners.get(keys[-1]) if keys else None
        if owner is None:
            kept.append(one)
            owners |= {key: one for key in keys if key not in owners}
        else:
            notes["contained_in_a_longer_one"] += 1
            owner.signs += [sign for sign in one.signs if sign not in owner.signs]
            owner.failed = owner.failed or one.failed
            owner.tools = owner.tools or one.tools
    return sorted(kept, key=lambda one: (one.row.file, one.row.line))
