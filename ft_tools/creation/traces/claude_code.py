"""Sessions of Claude Code: a tree of rows; the path to the newest leaf is what was said."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, LogRow
from ft_tools.creation.traces.messages import items_of, messages_of, object_of, text_at
from ft_tools.formats.example import Message

NAME = "claude_code"
MARKS = ("isSidechain", "isMeta", "isCompactSummary", "isApiErrorMessage")
COMMANDS = ("<command-", "<local-command-", "<bash-")
"""How what is no prompt begins: commands of the client, their output, commands of the shell."""
SYNTHETIC = "<synthetic>"
"""The model of replies that the client wrote."""
INTERRUPTED = "[Request interrupted by user"
ABOVE = ("parentUuid", "logicalParentUuid")
SPOKEN = frozenset({"user", "assistant"})


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is one of a session."""
    return "parentUuid" in row or ("sessionId" in row and "type" in row)


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each session of a file."""
    files: dict[str, list[LogRow]] = defaultdict(list)
    for row in rows:
        files[row.file].append(row)
        if (why := _why_silent(row.value)) or text_at(row.value, "type") not in SPOKEN:
            skipped[f"{NAME}.{why or text_at(row.value, 'type')}"] += 1
    for held in files.values():
        file = _File(held)
        # The last row of each session, by its time.
        leaves = {text_at(row.value, "sessionId"): row for row in file.spoken}
        yield from (file.conversation(leaf, session) for session, leaf in leaves.items())


def _why_silent(row: Mapping[str, Any]) -> str:
    """Return why a row is no part of what was said; empty if it is."""
    if mark := next((name for name in MARKS if row.get(name)), ""):
        return mark
    if _message(row).get("model") == SYNTHETIC:
        return "synthetic"
    parts = items_of(_message(row).get("content")) if row.get("type") == "user" else []
    texts = [one if isinstance(one, str) else text_at(one, "text") for one in parts]
    if any(text.startswith(INTERRUPTED) for text in texts):
        return "interrupted"
    return "command" if texts and texts[0].lstrip().startswith(COMMANDS) else ""


def _message(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return object_of(row.get("message"))


def _reply_id(row: Mapping[str, Any]) -> str:
    """Return what the lines of one reply have in common."""
    return text_at(_message(row), "id") or text_at(row, "uuid")


class _File:
    """The rows of a file by what they belong to."""

    def __init__(self, rows: list[LogRow]) -> None:
        self.by_uuid = {uuid: row for row in rows if (uuid := text_at(row.value, "uuid"))}
        spoken = [row for row in self.by_uuid.values() if text_at(row.value, "type") in SPOKEN]
        spoken = [row for row in spoken if not row.value.get("isSidechain")]
        self.spoken = sorted(spoken, key=lambda row: text_at(row.value, "timestamp"))
        self.replies: dict[str, list[Any]] = defaultdict(list)
        """Id of a reply -> its parts, each a line."""
        self.results: dict[str, Message] = {}
        """Of calls side by side, each hangs on the line with its call."""
        self.interrupted: set[str] = set()
        for row in self.by_uuid.values():
            if row.value.get("type") == "assistant" and not _why_silent(row.value):
                self.replies[_reply_id(row.value)] += items_of(_message(row.value).get("content"))
            elif row.value.get("type") == "user":
                said = messages_of(row.value.get("message"))
                found = {str(m.get("tool_call_id")): m for m in said if m["role"] == "tool"}
                self.results |= found
                result = row.value.get("toolUseResult")
                if isinstance(result, Mapping) and result.get("interrupted"):
                    self.interrupted |= found.keys()

    def path_to(self, leaf: LogRow) -> list[LogRow]:
        """Return a leaf and all above it."""
        left, path = dict(self.by_uuid), list[LogRow]()
        at: LogRow | None = leaf
        while at is not None:
            path.append(left.pop(text_at(at.value, "uuid")))
            at = left.get(text_at(at.value, *ABOVE))
        return path

    def conversation(self, leaf: LogRow, session: str) -> Conversation:
        """Return what was said on the way to a leaf, across the boundaries of compactions."""
        path = self.path_to(leaf)
        first = path[-1]
        made = Conversation(NAME, first, [], session, date=text_at(first.value, "timestamp"))
        if text_at(first.value, *ABOVE):
            made.failed = "beginning_is_missing"
        read, is_to_command = set[str](), False
        for row in (one.value for one in reversed(path)):
            why, kind, reply = _why_silent(row), row.get("type"), _reply_id(row)
            if why == "interrupted":
                made.failed = why
            elif why == "isApiErrorMessage":
                made.failed = made.failed or "api_error"
            elif why == "command":
                is_to_command = True
            elif kind == "user" and not why:
                said = [m for m in messages_of(row.get("message")) if m["role"] != "tool"]
                is_to_command &= not said
                made.messages += said
            elif kind == "assistant" and not why and not is_to_command and reply not in read:
                read.add(reply)
                made.model = made.model or text_at(_message(row), "model")
                self._add_reply(made, self.replies[reply])
        return made

    def _add_reply(self, made: Conversation, parts: list[Any]) -> None:
        reply = messages_of({"role": "assistant", "content": parts})
        calls = [call.get("id") for one in reply for call in one.get("tool_calls", [])]
        made.messages += [*reply, *(self.results[call] for call in calls if call in self.results)]
        if self.interrupted.intersection(calls):
            made.failed = "interrupted"
        elif made.failed == "api_error":
            # It was asked again.
            made.failed = ""
