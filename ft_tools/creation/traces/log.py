"""What a log holds: conversations, the signs of how each went, and which are kept."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from ft_tools.creation.traces.messages import joined
from ft_tools.data.map.conditions import ByColumn, is_bound, is_one_of
from ft_tools.errors import UnknownName
from ft_tools.formats.column_counts import ColumnCounts, number_of, shown
from ft_tools.formats.example import THOUGHTS, Message

CUT = {
    "length": "length", "max_tokens": "length", "MAX_TOKENS": "length", "error": "error",
    "content_filter": "content_filter", "SAFETY": "content_filter", "refusal": "refusal",
}  # fmt: skip
"""Reason for which an answer ended that is not whole, as providers spell it -> ours."""
NO_ANSWER, NOT_FINISHED = "no_answer", "not_finished"

Keep = Literal["not_failed"] | Annotated[ByColumn, Field(min_length=1, max_length=20)]
"""All that did not fail; or sign -> what is wanted of its values, as in a mapping."""


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


@dataclass
class Conversation:
    """A call of a model with what came before it, a session, or what such calls are part of."""

    format: str
    row: LogRow
    messages: list[Message] = field(default_factory=list)
    kind: str = ""
    """Of what is no call; else empty."""
    id: str = ""
    parent: str = ""
    response: str = ""
    session: str = ""
    trace: str = ""
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


class Log:
    """What is read of a log beside its conversations."""

    def __init__(self) -> None:
        self.skipped, self.notes = Counter[str](), Counter[str]()
        self.signs = defaultdict[str, list[Sign]](list)
        """Id of a call, of what it is part of, of a response, a session or a trace -> signs."""

    def sign(self, about: str, name: Any, *values: Any, source: Any = None) -> None:
        """Add values that can be signs."""
        found = [v for v in values if isinstance(v, bool | int | float | str)]
        self.signs[about] += [Sign(str(name), value, str(source or "")) for value in found]


Reader = Callable[[list[LogRow], Log], Iterator[Conversation]]


def conversations_of(found: Iterable[Conversation], log: Log) -> list[Conversation]:
    """Return the calls and sessions with their signs; none is the beginning of another.

    What is said of something, and that it failed, holds for the calls in it. An agent sends all
    that was said with each call, so its last call holds the others and takes their signs. Without
    ids, what begins alike is one chat that went on.
    """
    listed = list(found)
    by_id = {one.id: one for one in listed if one.id}
    # What is exported twice counts as it was last; a span of another trace may have its id.
    names = [(one.trace, one.id) if one.id else at for at, one in enumerate(listed)]
    listed = list(dict(zip(names, listed, strict=True)).values())
    calls, kept = [one for one in listed if not one.kind], list[Conversation]()
    log.skipped.update(f"{one.format}.{one.kind}" for one in listed if one.kind)
    for one in calls:
        one.messages = joined(one.messages)
        _inherit(one, by_id, log)
    owners: dict[tuple[str, str, int], Conversation] = {}
    for one in sorted(calls, key=lambda one: -len(one.messages)):
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
            log.notes["contained_in_a_longer_one"] += 1
            owner.signs += [sign for sign in one.signs if sign not in owner.signs]
            owner.failed = owner.failed or one.failed
            owner.tools = owner.tools or one.tools
    return sorted(kept, key=lambda one: (one.row.file, one.row.line))


def _inherit(one: Conversation, by_id: Mapping[str, Conversation], log: Log) -> None:
    """Give a call the signs, and the failure, of what it is part of."""
    above, at = {one.id: one}, by_id.get(one.parent)
    while at is not None and at.id not in above:
        above[at.id] = at
        at = by_id.get(at.parent)
    names = dict.fromkeys([*above, one.response, one.session, one.trace])
    one.signs += [sign for name in names if name in log.signs and name for sign in log.signs[name]]
    if one.failed in {"", NO_ANSWER}:
        failures = sorted(each.failed for each in above.values() if each.failed)
        one.failed = next(iter(failures), one.failed)


def unmet(one: Conversation, keep: Keep) -> str:
    """Return why a conversation that did not fail is not kept; empty if it is.

    Every value of a sign has to be wanted, of the kind that is asked for: a score may have a
    label, too.
    """
    if keep == "not_failed":
        return ""
    for name, wanted in keep.items():
        values = [sign.value for sign in one.signs if name in {sign.name, sign.label}]
        are_numbers = {is_bound(each) or number_of(each) is not None for each in wanted}
        values = [value for value in values if (number_of(value) is not None) in are_numbers]
        if not values:
            return "unknown"
        if not all(is_one_of(value, wanted) for value in values):
            return "condition_not_met"
    return ""


def require_signs(keep: Keep | None, found: Iterable[Conversation]) -> dict[str, str]:
    """Return each sign, by its source, with its values.

    Raises:
        UnknownName: The condition is on a sign that no conversation has.
    """
    columns: dict[str, ColumnCounts] = {}
    known = set[str]()
    for at, one in enumerate(found):
        for sign in one.signs:
            columns.setdefault(sign.label, ColumnCounts(sign.label)).add(sign.value, at)
            known |= {sign.name, sign.label}
    names = keep if keep and keep != "not_failed" else {}
    if other := next((name for name in names if name not in known), ""):
        cure = "or keep='not_failed', which needs no sign"
        raise UnknownName("sign", other, sorted(map(shown, known)), cure)
    return {shown(name): column.description for name, column in sorted(columns.items())}
