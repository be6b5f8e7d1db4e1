"""Sessions of coding agents: Claude Code's trees of rows, and Codex's rollouts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.log import Conversation, Log, LogRow
from ft_tools.creation.traces.messages import (
    items_of,
    messages_of,
    object_of,
    text_at,
    tools_of,
    value_at,
)
from ft_tools.formats.column_counts import number_of
from ft_tools.formats.example import Message
from ft_tools.formats.turns import as_call, first_of

CLAUDE, CODEX = "claude_code", "codex"
MARKS = ("isSidechain", "isMeta", "isCompactSummary", "isApiErrorMessage")
COMMANDS = ("<command-", "<local-command-", "<bash-")
"""How what is no prompt begins: commands of the client, their output, commands of the shell."""
INTERRUPTED = "[Request interrupted by user"
ABOVE = "parentUuid logicalParentUuid"
SPOKEN = frozenset({"user", "assistant"})
CONTEXT = (
    "<environment_context>", "<user_instructions>", "# AGENTS.md instructions", "<INSTRUCTIONS>",
    "<turn_aborted>", "<user_shell_command>", "<skill>", "<subagent_notification>",
    "<permissions instructions>", "<collaboration_mode>",
)  # fmt: skip
"""How a message begins that Codex and no user wrote.

Source: https://github.com/openai/codex, codex-rs/core/src/context
"""
CALLS = {"function_call": "arguments", "custom_tool_call": "input", "local_shell_call": "action"}
RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
ABORTED, ROLLED_BACK = "turn_aborted", "thread_rolled_back"
STARTS = frozenset({"task_started", "turn_started"})
ENDS = frozenset({"task_complete", "turn_complete", ABORTED})


# ------------------------------------------------------------------------------------ Claude Code


def claude_code(rows: Iterable[LogRow], log: Log) -> Iterator[Conversation]:
    """Yield a conversation for each session of a file: what was said on the way to its last row."""
    files: dict[str, list[LogRow]] = defaultdict(list)
    for row in rows:
        files[row.file].append(row)
    for held in files.values():
        for row in held:
            why, kind = _why_silent(row.value), text_at(row.value, "type")
            if why or kind not in SPOKEN:
                log.skipped[f"{CLAUDE}.{why or kind}"] += 1
        by_uuid = {uuid: row for row in held if (uuid := text_at(row.value, "uuid"))}
        spoken = [one for one in by_uuid.values() if text_at(one.value, "type") in SPOKEN]
        spoken = [one for one in spoken if not one.value.get("isSidechain")]
        spoken.sort(key=lambda row: text_at(row.value, "timestamp"))
        leaves = {text_at(row.value, "sessionId"): row for row in spoken}
        replies = _replies(by_uuid.values())
        for session, leaf in leaves.items():
            # Across the boundaries of compactions.
            left, path = dict(by_uuid), list[LogRow]()
            at: LogRow | None = leaf
            while at is not None:
                path.append(left.pop(text_at(at.value, "uuid")))
                at = left.get(text_at(at.value, ABOVE))
            yield _session(path[::-1], session, replies)


def _why_silent(row: Mapping[str, Any]) -> str:
    """Return why a row is no part of what was said; empty if it is."""
    if mark := next((name for name in MARKS if row.get(name)), ""):
        return mark
    # A reply that the client wrote.
    if text_at(row, "message.model") == "<synthetic>":
        return "synthetic"
    parts = (
        items_of(object_of(row.get("message")).get("content")) if row.get("type") == "user" else []
    )
    texts = [one if isinstance(one, str) else text_at(one, "text") for one in parts]
    if any(text.startswith(INTERRUPTED) for text in texts):
        return "interrupted"
    return "command" if texts and texts[0].lstrip().startswith(COMMANDS) else ""


def _reply_id(row: Mapping[str, Any]) -> str:
    """Return what the lines of one reply have in common."""
    return text_at(row, "message.id uuid")


def _replies(rows: Iterable[LogRow]) -> dict[str, tuple[list[Message], bool]]:
    """Return each reply by its id: all its lines with the results of its calls; if it was stopped.

    Of calls side by side, each result hangs on the line with its call.
    """
    parts: dict[str, list[Any]] = defaultdict(list)
    results, stopped, made = dict[str, Message](), set[str](), {}
    for row in (one.value for one in rows):
        said = object_of(row.get("message"))
        if row.get("type") == "assistant" and not _why_silent(row):
            parts[_reply_id(row)] += items_of(said.get("content"))
        elif row.get("type") == "user":
            found = {
                str(m.get("tool_call_id")): m for m in messages_of(said) if m["role"] == "tool"
            }
            results |= found
            stopped |= found.keys() if value_at(row, "toolUseResult.interrupted") else set()
    for name, held in parts.items():
        turns = messages_of({"role": "assistant", "content": held})
        ids = [str(call.get("id")) for turn in turns for call in turn.get("tool_calls", ())]
        said_then = [*turns, *(results[one] for one in ids if one in results)]
        made[name] = said_then, not stopped.isdisjoint(ids)
    return made


def _session(
    path: list[LogRow], session: str, replies: Mapping[str, tuple[list[Message], bool]]
) -> Conversation:
    date = text_at(path[0].value, "timestamp")
    made = Conversation(CLAUDE, path[0], session=session, date=date)
    if text_at(path[0].value, ABOVE):
        made.failed = "beginning_is_missing"
    read, is_to_command = set[str](), False
    for row in (one.value for one in path):
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
            made.model = made.model or text_at(row, "message.model")
            said, is_stopped = replies[reply]
            made.messages += said
            if is_stopped or made.failed == "api_error":
                # What failed was asked again.
                made.failed = "interrupted" if is_stopped else ""
    return made


# ------------------------------------------------------------------------------------------ Codex


def codex(rows: Iterable[LogRow], log: Log) -> Iterator[Conversation]:
    """Yield a conversation for each rollout: items of the history, and how each turn ended."""
    held: list[LogRow] = []
    for row in rows:
        # A fork begins with the rollout that it continues, and with its `session_meta`.
        is_meta = text_at(row.value, "type") == "session_meta"
        is_next = is_meta and any(one.value.get("type") == "response_item" for one in held)
        if held and (is_next or row.file != held[0].file):
            yield _rollout(held, log)
            held = []
        held.append(row)
    yield _rollout(held, log)


def _rollout(rows: list[LogRow], log: Log) -> Conversation:
    made = Conversation(CODEX, rows[0])
    # What was said between a question and the next, and the event that ended it.
    turns, ended = [list[Message]()], dict[int, str]()
    for row in rows:
        kind, payload = text_at(row.value, "type"), object_of(row.value.get("payload"))
        what, at = text_at(payload, "type"), len(turns) - 1
        if kind == "session_meta" and not made.session:
            _add_meta(made, payload)
        elif kind == "turn_context":
            made.model = made.model or text_at(payload, "model")
        elif kind == "response_item" and (said := _item(payload)):
            is_next = said[0]["role"] == "user" and (at in ended or not _is_asked(turns[at]))
            turns += [[]] if is_next else []
            turns[-1] += said
        elif what in STARTS:
            turns += [[]] if _is_asked(turns[at]) else []
        elif what in ENDS:
            ended[at] = what
        elif what == ROLLED_BACK:
            _roll_back(turns, ended, int(number_of(payload.get("num_turns")) or 0))
        else:
            log.skipped[".".join(filter(None, (CODEX, kind, what)))] += 1
    made.messages += [message for turn in turns for message in turn]
    if ABORTED in ended.values():
        made.failed = ABORTED
    elif any(_is_asked(turn) and at not in ended for at, turn in enumerate(turns)):
        made.failed = "no_task_complete"
    return made


def _roll_back(turns: list[list[Message]], ended: dict[int, str], num_left: int) -> None:
    """Take the last turns back, so many as have a question."""
    while num_left > 0 and len(turns) > 1:
        num_left -= _is_asked(turns.pop())
        ended.pop(len(turns), None)


def _is_asked(turn: list[Message]) -> bool:
    return any(message["role"] == "user" for message in turn)


def _add_meta(made: Conversation, meta: Mapping[str, Any]) -> None:
    made.session = text_at(meta, "id")
    made.date = text_at(meta, "timestamp") or text_at(made.row.value, "timestamp")
    told = text_at(meta, "base_instructions.text base_instructions instructions")
    made.messages = messages_of({"role": "system", "content": told}) if told else []
    made.tools = tools_of(meta.get("dynamic_tools"))


def _item(item: Mapping[str, Any]) -> list[Message]:
    """Read an item of the history; empty if it says nothing in words."""
    kind = text_at(item, "type")
    if kind == "message":
        said = messages_of(item)
        is_context = said[0]["content"].lstrip().startswith(CONTEXT)
        return [] if is_context and said[0]["role"] != "assistant" else said
    if kind in CALLS:
        held = first_of(item, CALLS[kind], "arguments")
        arguments = {"input": held} if isinstance(item.get("input"), str) else held
        name = text_at(item, "name") or "local_shell"
        call_id = first_of(item, "call_id", "id")
        made = as_call({"id": call_id, "name": name, "arguments": arguments})
        return [{"role": "assistant", "content": "", "tool_calls": [made]}]
    if kind in RESULTS:
        held = item.get("output")
        content = object_of(held).get("content", held)
        return messages_of(
            {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
        )
    thought = item.get("content") if kind == "reasoning" else None
    return messages_of({"role": "assistant", "content": thought}) if thought else []
