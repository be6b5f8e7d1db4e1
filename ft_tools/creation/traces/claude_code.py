"""Sessions of Claude Code: a tree of rows; the path to the newest leaf is what was said."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, LogRow
from ft_tools.creation.traces.messages import messages_of, parsed_parts
from ft_tools.formats.example import Message
from ft_tools.formats.turns import first_of

NAME = "claude_code"
COMMANDS = ("<command-", "<local-command-", "<bash-")
"""How what is no prompt begins: commands of the client, their output, commands of the shell."""
INTERRUPTED = "[Request interrupted by user"
SPOKEN = frozenset({"user", "assistant"})


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is one of a session."""
    return (
        "parentUuid" in row
        or ("sessionId" in row and "type" in row)
        or (row.get("type") in {"summary", "file-history-snapshot"})
    )


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each session of a file."""
    sessions: dict[tuple[str, str], list[LogRow]] = defaultdict(list)
    for row in rows:
        sessions[row.file, str(row.value.get("sessionId") or "")].append(row)
        if (why := _left_out(row.value)) or row.value.get("type") not in SPOKEN:
            skipped[f"{NAME}.{why or row.value.get('type')}"] += 1
    for (_, name), held in sessions.items():
        session = _Session(held)
        skipped[f"{NAME}.reply_on_another_branch"] += len(session.replies.keys() - session.read)
        if session.path:
            first = session.path[0]
            yield Conversation(
                NAME,
                first,
                session.messages,
                session=name,
                model=session.model,
                date=str(first.value.get("timestamp") or ""),
                failed=session.failed,
                ids=frozenset({name}),
            )


def _left_out(row: Mapping[str, Any]) -> str:
    """Return why a row is no part of what was said; empty if it is."""
    for name in ("isSidechain", "isMeta", "isCompactSummary", "isApiErrorMessage"):
        if row.get(name):
            return name
    text = _text(row) if row.get("type") == "user" else ""
    return (
        "command"
        if text.startswith(COMMANDS)
        else "interrupted"
        if text.startswith(INTERRUPTED)
        else ""
    )


def _text(row: Mapping[str, Any]) -> str:
    """Return the first text of a row."""
    parts = parsed_parts((row.get("message") or {}).get("content"))
    texts = (one if isinstance(one, str) else one.get("text") for one in parts)
    return next((text.lstrip() for text in texts if isinstance(text, str)), "")


class _Session:
    """The rows of a session, and what was said on the way to its newest leaf."""

    def __init__(self, rows: list[LogRow]) -> None:
        by_uuid = {row.value["uuid"]: row for row in rows if row.value.get("uuid")}
        spoken = [row for row in by_uuid.values() if row.value.get("type") in SPOKEN]
        self.spoken = [row for row in spoken if not row.value.get("isSidechain")]
        newest = max(
            self.spoken, key=lambda row: str(row.value.get("timestamp") or ""), default=None
        )
        self.path = _path(by_uuid, newest)
        self.replies: dict[str, list[Any]] = defaultdict(list)
        """Id of a reply -> its parts: each is a line, on a branch of its own or not."""
        self.results: dict[str, Message] = {}
        """Of calls side by side, each hangs on the line with its call."""
        for row in self.spoken:
            message = row.value.get("message") or {}
            if row.value["type"] == "user":
                said = messages_of(message)
                self.results |= {m["tool_call_id"]: m for m in said if m["role"] == "tool"}
            elif not _left_out(row.value):
                self.replies[_reply_id(row.value)] += parsed_parts(message.get("content"))
        self.messages: list[Message] = []
        self.failed = self.model = ""
        self.read: set[str] = set()
        self._answers_a_command = False
        for row in self.path:
            self._add(row.value, _left_out(row.value))

    def _add(self, row: Mapping[str, Any], why: str) -> None:
        """Add what a row of the path says, or the sign that it is."""
        result = row.get("toolUseResult")
        if why == "interrupted" or (isinstance(result, Mapping) and result.get("interrupted")):
            self.failed = "interrupted"
        elif why == "isApiErrorMessage":
            self.failed = self.failed or "api_error"
        elif why == "command":
            self._answers_a_command = True
        if why or row["type"] not in SPOKEN:
            return
        if row["type"] == "user":
            said = [m for m in messages_of(row.get("message")) if m["role"] != "tool"]
            self._answers_a_command &= not said
            self.messages += said
        elif (name := _reply_id(row)) not in self.read and not self._answers_a_command:
            self.read.add(name)
            # What follows an error of the API was asked again.
            self.failed = "" if self.failed == "api_error" else self.failed
            self.model = self.model or str(row["message"].get("model") or "")
            reply = messages_of({"role": "assistant", "content": self.replies[name]})
            calls = [call["id"] for m in reply for call in m.get("tool_calls", [])]
            self.messages += [*reply, *(self.results[c] for c in calls if c in self.results)]


def _reply_id(row: Mapping[str, Any]) -> str:
    """Return what the lines of one reply have in common."""
    return str((row.get("message") or {}).get("id") or row["uuid"])


def _path(by_uuid: Mapping[str, LogRow], leaf: LogRow | None) -> list[LogRow]:
    """Return the rows from the first to a leaf, across the boundaries of compactions."""
    path: list[LogRow] = []
    left = dict(by_uuid)
    while leaf is not None:
        path.append(left.pop(leaf.value["uuid"]))
        leaf = left.get(first_of(leaf.value, "parentUuid", "logicalParentUuid"))
    return path[::-1]
