"""Which of TRL's formats a training example has, and what is malformed in it, by file and line."""

import json
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ft_tools.errors import BadData
from ft_tools.formats.formats import detect

Task = Literal["sft", "dpo", "kto", "grpo"]
Format = Literal[
    "messages", "prompt_completion_messages", "prompt_completion_text", "text", "pairs_messages",
    "pairs_messages_implicit", "pairs_text", "marks_messages", "marks_text", "prompts_text",
    "prompts_messages", "prompts_messages_answered",
]  # fmt: skip
Example = dict[str, Any]


class Shape(NamedTuple):
    """A row of the table of formats."""

    task: Task
    fields: tuple[str, ...]
    is_text: bool


PAIR, MARKED = ("prompt", "chosen", "rejected"), ("prompt", "completion")
FORMATS: dict[Format, Shape] = {
    "messages": Shape("sft", ("messages",), is_text=False),
    "prompt_completion_text": Shape("sft", MARKED, is_text=True),
    "prompt_completion_messages": Shape("sft", MARKED, is_text=False),
    "text": Shape("sft", ("text",), is_text=True),
    "pairs_text": Shape("dpo", PAIR, is_text=True),
    "pairs_messages": Shape("dpo", PAIR, is_text=False),
    "pairs_messages_implicit": Shape("dpo", PAIR[1:], is_text=False),
    "marks_text": Shape("kto", (*MARKED, "label"), is_text=True),
    "marks_messages": Shape("kto", (*MARKED, "label"), is_text=False),
    "prompts_text": Shape("grpo", ("prompt",), is_text=True),
    "prompts_messages": Shape("grpo", ("prompt",), is_text=False),
    "prompts_messages_answered": Shape("grpo", ("messages",), is_text=False),
}
"""Those of a task in the order in which they are looked for."""
READ: dict[Format, frozenset[str]] = {
    name: frozenset(
        shape.fields if shape.is_text or shape.task == "grpo" else (*shape.fields, "tools")
    )
    for name, shape in FORMATS.items()
}
"""What a trainer reads of each format."""
WANTED: dict[Task, str] = {
    "sft": "`messages`, `prompt` and `completion`, or `text`",
    "dpo": "`prompt`, `chosen` and `rejected`",
    "kto": "`prompt`, `completion` and `label`",
    "grpo": "`prompt`, or `messages` that end with the reference answer",
}
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
# A tuple: a role that is a list or an object is looked for in it, too, and cannot be hashed.
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
CONVERT = "audit_dataset with output_dir writes files that can be trained on"
PREPARE = "prepare_dataset proposes which columns are asked and answered, and writes such files"


def turns_in(example: Example, *names: str) -> list[dict[str, Any]]:
    """Return the turns of some fields; a text is a turn, and so is an object.

    >>> turns_in({"prompt": "Hi", "completion": [{"role": "assistant", "content": "Ho"}]}, *MARKED)
    [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Ho'}]
    """
    found: list[Any] = []
    for name in names:
        part = example.get(name)
        role = "user" if name == "prompt" else "assistant"
        found += [{"role": role, "content": part}] if isinstance(part, str) else _listed(part)
    # A field of another format may hold anything: it is not read, and not checked.
    return [turn for turn in found if isinstance(turn, dict)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def answers_in(example: Example, *names: str) -> list[dict[str, Any]]:
    """Return the turns of some fields that are answers."""
    return [turn for turn in turns_in(example, *names) if turn.get("role") == "assistant"]


def format_of(path: Path, line: int, example: Example, task: Task) -> Format:
    """Return which format an example has, and check its parts.

    Raises:
        BadData: It has none of the task's formats, or a message is malformed.
    """
    _check_tools(path, line, example.get("tools"))
    fitting = [
        (name, shape)
        for name, shape in FORMATS.items()
        if shape.task == task and example.keys() >= set(shape.fields)
    ]
    if not fitting:
        cure = PREPARE if detect(example) == "unknown" else CONVERT
        problem = f"has the fields {_names(set(example))}, not {WANTED[task]}"
        raise BadData(path, problem, cure, line)
    fields = fitting[0][1].fields
    # Of marks, TRL takes any number above 0 for good, 0.2 as well.
    if task == "kto" and example["label"] not in (True, False):
        problem = "`label` is neither true nor false"
        raise BadData(path, problem, "use true for a good answer, false for a bad one", line)
    is_text = isinstance(example[fields[min(1, len(fields) - 1)]], str)
    same = [(name, shape) for name, shape in fitting if shape.fields == fields]
    name, shape = next((one for one in same if one[1].is_text == is_text), same[0])
    for field in shape.fields:
        if field == "label":
            continue
        if shape.is_text:
            may_be_empty = task == "sft" and field == "prompt"
            _check_text(path, line, field, example[field], may_be_empty=may_be_empty)
        else:
            _check_messages(path, line, field, example[field], answered=field != "prompt")
    if task == "dpo" and example["chosen"] == example["rejected"]:
        cure = "remove it: it teaches nothing"
        raise BadData(path, "has the same answer as chosen and as rejected", cure, line)
    if name == "pairs_messages_implicit":
        chosen, rejected = example["chosen"], example["rejected"]
        if chosen[0] != rejected[0] or 1 in (len(chosen), len(rejected)):
            problem = "`chosen` and `rejected` do not begin with the same question"
            raise BadData(path, problem, "add the question as `prompt`", line)
    return name


def _check_messages(path: Path, line: int, name: str, messages: Any, *, answered: bool) -> None:
    problem = _problem_of(name, messages)
    if not problem and answered:
        last = messages[-1]
        if last["role"] != "assistant":
            problem = f"`{name}` does not end with an assistant message"
        elif not (last.get("content") or "").strip() and not last.get("tool_calls"):
            problem = f"the last answer of `{name}` is empty"
    if problem:
        raise BadData(path, problem, CONVERT, line)


def _problem_of(name: str, messages: Any) -> str:
    """Return what is malformed in a list of messages; empty if nothing is."""
    if not isinstance(messages, list) or not messages:
        return f"`{name}` is not a list of messages"
    for number, message in enumerate(messages, 1):
        where = f"message {number} of `{name}`"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return f"{where} has no `role` out of {', '.join(sorted(ROLES))}"
        content, calls = message.get("content"), message.get("tool_calls") or []
        if not isinstance(content, str) and not (content is None and calls):
            return f"{where} has no text in `content`"
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            return f"{where} has `tool_calls` that are no objects"
    return ""


def _check_tools(path: Path, line: int, tools: Any) -> None:
    """Take a list of objects, or JSON of one."""
    try:
        tools = json.loads(tools) if isinstance(tools, str) and tools else tools
    except (ValueError, RecursionError):
        tools = "(damaged)"
    if tools and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise BadData(path, "has `tools` that are no list of objects", CONVERT, line)


def _check_text(path: Path, line: int, name: str, text: Any, *, may_be_empty: bool) -> None:
    if not isinstance(text, str) or not (may_be_empty or text.strip()):
        raise BadData(path, f"`{name}` is not a text, or empty", CONVERT, line)


def _names(keys: set[str]) -> str:
    """List names that are names; what could say something is only counted."""
    plain = sorted(ascii(key) for key in keys if PLAIN_NAME.fullmatch(key))[:8]
    others = len(keys) - len(plain)
    return ", ".join([*plain, *([f"{others} others"] if others else [])]) or "(none)"
