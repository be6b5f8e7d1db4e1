"""Which of TRL's formats a training example has, and what is malformed in it, by file and line."""

import json
import re
from pathlib import Path
from typing import Any, Literal

from ft_tools.errors import BadData
from ft_tools.formats.detect_format import detect

Task = Literal["sft", "dpo", "kto"]
Format = Literal[
    "messages", "prompt_completion_messages", "prompt_completion_text", "text", "pairs_messages",
    "pairs_messages_implicit", "pairs_text", "marks_messages", "marks_text",
]  # fmt: skip
Example = dict[str, Any]

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
# A tuple: a role that is a list or an object is looked for in it, too, and cannot be hashed.
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
READ: dict[Format, frozenset[str]] = {
    "messages": frozenset({"messages", "tools"}),
    "prompt_completion_messages": frozenset({"prompt", "completion", "tools"}),
    "prompt_completion_text": frozenset({"prompt", "completion"}),
    "text": frozenset({"text"}),
    "pairs_messages": frozenset({"prompt", "chosen", "rejected", "tools"}),
    "pairs_messages_implicit": frozenset({"chosen", "rejected", "tools"}),
    "pairs_text": frozenset({"prompt", "chosen", "rejected"}),
    "marks_messages": frozenset({"prompt", "completion", "label", "tools"}),
    "marks_text": frozenset({"prompt", "completion", "label"}),
}
"""What a trainer reads of each format."""
CONVERT = "audit_dataset with output_dir writes files that can be trained on"
PREPARE = "prepare_dataset proposes which columns are asked and answered, and writes such files"


def format_of(path: Path, line: int, example: Example, task: Task) -> Format:
    """Return which format an example has, and check its parts.

    Raises:
        BadData: It has none of the task's formats, or a message is malformed.
    """
    keys = set(example)
    _check_tools(path, line, example.get("tools"))
    if task == "dpo":
        return _pair_format(path, line, example)
    if task == "kto":
        return _mark_format(path, line, example)
    if "messages" in keys:
        _check_messages(path, line, "messages", example["messages"], answered=True)
        return "messages"
    if {"prompt", "completion"} <= keys:
        if isinstance(example["prompt"], str) and isinstance(example["completion"], str):
            _check_text(path, line, "completion", example["completion"])
            return "prompt_completion_text"
        _check_messages(path, line, "prompt", example["prompt"])
        _check_messages(path, line, "completion", example["completion"], answered=True)
        return "prompt_completion_messages"
    if "text" in keys:
        _check_text(path, line, "text", example["text"])
        return "text"
    wanted = "`messages`, `prompt` and `completion`, or `text`"
    raise BadData(path, f"has the fields {_names(keys)}, not {wanted}", _cure(example), line)


def _mark_format(path: Path, line: int, example: Example) -> Format:
    if not {"prompt", "completion", "label"} <= set(example):
        problem = f"has the fields {_names(set(example))}, not `prompt`, `completion` and `label`"
        raise BadData(path, problem, _cure(example), line)
    # TRL takes any number above 0 for good, 0.2 as well.
    if example["label"] not in (True, False):
        problem = "`label` is neither true nor false"
        raise BadData(path, problem, "use true for a good answer, false for a bad one", line)
    if isinstance(example["prompt"], str) and isinstance(example["completion"], str):
        _check_text(path, line, "prompt", example["prompt"])
        _check_text(path, line, "completion", example["completion"])
        return "marks_text"
    _check_messages(path, line, "prompt", example["prompt"])
    _check_messages(path, line, "completion", example["completion"], answered=True)
    return "marks_messages"


def _pair_format(path: Path, line: int, example: Example) -> Format:
    if not {"chosen", "rejected"} <= set(example):
        problem = f"has the fields {_names(set(example))}, not `prompt`, `chosen` and `rejected`"
        raise BadData(path, problem, _cure(example), line)
    if isinstance(example["chosen"], str):
        for name in ("prompt", "chosen", "rejected"):
            _check_text(path, line, name, example.get(name))
        form: Format = "pairs_text"
    else:
        _check_messages(path, line, "chosen", example["chosen"], answered=True)
        _check_messages(path, line, "rejected", example["rejected"], answered=True)
        form = "pairs_messages" if "prompt" in example else "pairs_messages_implicit"
        if "prompt" in example:
            _check_messages(path, line, "prompt", example["prompt"])
    if example["chosen"] == example["rejected"]:
        cure = "remove it: it teaches nothing"
        raise BadData(path, "has the same answer as chosen and as rejected", cure, line)
    return form


def _cure(example: Example) -> str:
    """Return which tool reads a row: one that is an example of some format, or of none."""
    return PREPARE if detect(example) == "unknown" else CONVERT


def _check_messages(
    path: Path, line: int, name: str, messages: Any, *, answered: bool = False
) -> None:
    if not isinstance(messages, list) or not messages:
        raise BadData(path, f"`{name}` is not a list of messages", CONVERT, line)
    for number, message in enumerate(messages, 1):
        where = f"message {number} of `{name}`"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            problem = f"{where} has no `role` out of {', '.join(sorted(ROLES))}"
            raise BadData(path, problem, CONVERT, line)
        content = message.get("content")
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            raise BadData(path, f"{where} has no text in `content`", CONVERT, line)
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            raise BadData(path, f"{where} has `tool_calls` that are no objects", CONVERT, line)
    last = messages[-1]
    if answered and last["role"] != "assistant":
        raise BadData(path, f"`{name}` does not end with an assistant message", CONVERT, line)
    if answered and not (last.get("content") or "").strip() and not last.get("tool_calls"):
        raise BadData(path, f"the last answer of `{name}` is empty", CONVERT, line)


def _check_tools(path: Path, line: int, tools: Any) -> None:
    """Take a list of objects, or JSON of one."""
    try:
        tools = json.loads(tools) if isinstance(tools, str) and tools else tools
    except (ValueError, RecursionError):
        tools = "(damaged)"
    if tools and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise BadData(path, "has `tools` that are no list of objects", CONVERT, line)


def _check_text(path: Path, line: int, name: str, text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        raise BadData(path, f"`{name}` is not a text, or empty", CONVERT, line)


def _names(keys: set[str]) -> str:
    """List names that are names; what could say something is only counted."""
    plain = sorted(ascii(key) for key in keys if PLAIN_NAME.fullmatch(key))[:8]
    others = len(keys) - len(plain)
    return ", ".join([*plain, *([f"{others} others"] if others else [])]) or "(none)"
