"""Rollouts of Codex: items of the model's history between events that say how each turn ended."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, LogRow
from ft_tools.creation.traces.messages import messages_of, object_of, text_at, tools_of
from ft_tools.formats.example import Message
from ft_tools.formats.turns import as_call, first_of

NAME = "codex"
TYPES = frozenset({"session_meta", "turn_context", "response_item", "event_msg", "compacted"})
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


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is one of a rollout."""
    return text_at(row, "type") in TYPES and isinstance(row.get("payload"), Mapping)


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each rollout."""
    held: list[LogRow] = []
    for row in rows:
        is_next = row.value.get("type") == "session_meta" and any(map(_is_said, held))
        # A fork begins with the rollout that it continues, and with its `session_meta`.
        if held and (is_next or row.file != held[0].file):
            yield _rollout(held, skipped)
            held = []
        held.append(row)
    yield _rollout(held, skipped)


def _is_said(row: LogRow) -> bool:
    return row.value.get("type") == "response_item"


def _rollout(rows: list[LogRow], skipped: "Counter[str]") -> Conversation:
    made = Conversation(NAME, rows[0], [])
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
        elif kind == "event_msg" and what in STARTS:
            turns += [[]] if _is_asked(turns[at]) else []
        elif kind == "event_msg" and what in ENDS:
            ended[at] = what
        elif kind == "event_msg" and what == ROLLED_BACK:
            _roll_back(turns, ended, text_at(payload, "num_turns"))
        else:
            has_kinds = kind in {"response_item", "event_msg"}
            skipped[f"{NAME}.{kind}.{what}" if has_kinds else f"{NAME}.{kind}"] += 1
    made.messages += [message for turn in turns for message in turn]
    if ABORTED in ended.values():
        made.failed = ABORTED
    elif any(_is_asked(turn) and at not in ended for at, turn in enumerate(turns)):
        made.failed = "no_task_complete"
    return made


def _is_asked(turn: list[Message]) -> bool:
    return any(message["role"] == "user" for message in turn)


def _roll_back(turns: list[list[Message]], ended: dict[int, str], told: str) -> None:
    """Take the last turns back, so many as have a question."""
    num_left = int(told) if told.isdecimal() else 0
    while num_left > 0 and len(turns) > 1:
        num_left -= _is_asked(turns.pop())
        ended.pop(len(turns), None)


def _add_meta(made: Conversation, meta: Mapping[str, Any]) -> None:
    made.session = text_at(meta, "id")
    made.date = text_at(meta, "timestamp") or text_at(made.row.value, "timestamp")
    told = first_of(meta, "base_instructions", "instructions")
    text = text_at(told, "text") if isinstance(told, Mapping) else told
    made.messages = messages_of({"role": "system", "content": text}) if text else []
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
