"""A conversation as a log has it: what was said, and the signs of how it went."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ft_tools.formats.example import THOUGHTS, Message


class LogRow(NamedTuple):
    """A row of a log, and where it stands."""

    file: str
    line: int
    value: Mapping[str, Any]


class Sign(NamedTuple):
    """What a log, or its reader, says of a conversation under a name: a score or a mark."""

    name: str
    value: float | bool | str


@dataclass
class Conversation:
    """One call of a model with what came before it, or one session."""

    format: str
    row: LogRow
    messages: list[Message]
    session: str = ""
    """What else must stay in one part of a split with it."""
    trace: str = ""
    model: str = ""
    date: str = ""
    tools: list[Any] = field(default_factory=list)
    failed: str = ""
    """The technical sign of a failure; empty if there is none."""
    signs: list[Sign] = field(default_factory=list)
    ids: frozenset[str] = frozenset()
    """What scores refer to it by."""
    is_answered: bool = True
    """Whether the log has what the model answered."""
    num_calls: int = 1
    """Calls of the model whose answers it holds."""

    @property
    def group(self) -> str:
        """Return what its rows are split by."""
        return self.session or self.trace or f"{self.row.file}:{self.row.line}"


def sign_of(name: Any, value: Any) -> list[Sign]:
    """Return a sign if there is a value that can be one."""
    return [Sign(str(name), value)] if isinstance(value, bool | int | float | str) else []


def _keys(messages: Sequence[Message]) -> list[int]:
    """Return a hash of each beginning of a conversation; thoughts are not sent again."""
    keys, before = [], 0
    for message in messages:
        plain = {k: v for k, v in message.items() if k not in THOUGHTS}
        before = hash((before, json.dumps(plain, sort_keys=True)))
        keys.append(before)
    return keys


def longest(found: Iterable[Conversation], counts: "Counter[str]") -> list[Conversation]:
    """Leave calls out that a later call of the same group repeats whole; it takes their signs.

    An agent sends all that was said with each call, so its last call holds the others.
    """
    kept: list[Conversation] = []
    owners: dict[tuple[str, str, int], Conversation] = {}
    for one in sorted(found, key=lambda one: -len(one.messages)):
        # Without ids, what begins alike is one conversation of a chat that went on.
        group = one.session or one.trace
        keys = [(one.format, group, key) for key in _keys(one.messages)]
        owner = owners.get(keys[-1]) if keys and one.is_answered else None
        if owner is None:
            kept.append(one)
            if one.is_answered:
                for key in keys:
                    owners.setdefault(key, one)
            continue
        counts["contained_in_a_longer_one"] += 1
        owner.signs += [sign for sign in one.signs if sign not in owner.signs]
        owner.failed = owner.failed or one.failed
        owner.num_calls += one.num_calls
        owner.tools = owner.tools or one.tools
    return sorted(kept, key=lambda one: (one.row.file, one.row.line))
