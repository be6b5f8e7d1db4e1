"""Which of TRL's formats a training example has, and what is malformed in it, by file and line."""

import contextlib
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ft_tools.errors import BadData
from ft_tools.formats.formats import detect
from ft_tools.formats.json_text import parse_json

Task = Literal["sft", "dpo", "kto", "grpo"]
Format = Literal[
    "messages", "prompt_completion_messages", "prompt_completion_text", "text", "pairs_messages",
    "pairs_messages_implicit", "pairs_text", "marks_messages", "marks_text", "prompts_text",
    "prompts_messages", "prompts_messages_answered",
]  # fmt: skip
Example = dict[str, Any]


class Shape(NamedTuple):
    """A row of the table of formats; those whose name ends in text have no turns."""

    task: Task
    fields: tuple[str, ...]


PAIR, MARKED = ("prompt", "chosen", "rejected"), ("prompt", "completion")
FORMATS: dict[Format, Shape] = {
    "messages": Shape("sft", ("messages",)),
    "prompt_completion_text": Shape("sft", MARKED),
    "prompt_completion_messages": Shape("sft", MARKED),
    "text": Shape("sft", ("text",)),
    "pairs_text": Shape("dpo", PAIR),
    "pairs_messages": Shape("dpo", PAIR),
    "pairs_messages_implicit": Shape("dpo", PAIR[1:]),
    "marks_text": Shape("kto", (*MARKED, "label")),
    "marks_messages": Shape("kto", (*MARKED, "label")),
    "prompts_text": Shape("grpo", ("prompt",)),
    "prompts_messages": Shape("grpo", ("prompt",)),
    "prompts_messages_answered": Shape("grpo", ("messages",)),
}
"""Those of a task in the order in which they are looked for."""
READ: dict[Format, frozenset[str]] = {
    name: frozenset(fields if task == "grpo" or name.endswith("text") else (*fields, "tools"))
    for name, (task, fields) in FORMATS.items()
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
PREPARE = "prepare_dataset writes such files by a mapping of your columns"


def turns_in(example: Example, *names: str) -> list[dict[str, Any]]:
    """Return the turns of some fields; a text is a turn, and so is an object.

    >>> turns_in({"prompt": "Hi", "completion": [{"role": "assistant", "content": "Ho"}]}, *MARKED)
    [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Ho'}]
    """
    found: list[Any] = []
    for name in names:
        part, role = example.get(name), "user" if name == "prompt" else "assistant"
        part = {"role": role, "content": part} if isinstance(part, str) else part
        found += part if isinstance(part, list) else [part]
    # A field of another format may hold anything: it is not read, and not checked.
    return [turn for turn in found if isinstance(turn, dict)]


def answers_in(example: Example, *names: str) -> list[dict[str, Any]]:
    """Return the turns of some fields that are answers."""
    return [turn for turn in turns_in(example, *names) if turn.get("role") == "assistant"]


def format_of(path: Path, line: int, example: Example, task: Task) -> Format:
    """Return which format an example has, and check its parts.

    Raises:
        BadData: It has none of the task's formats, or a message is malformed.
    """
    fitting = [
        name for name, (of, fields) in FORMATS.items() if of == task and example.keys() >= {*fields}
    ]
    if not fitting:
        cure = PREPARE if detect(example) == "unknown" else CONVERT
        problem = f"has the fields {_names(set(example))}, not {WANTED[task]}"
        raise BadData(path, problem, cure, line)
    fields = FORMATS[fitting[0]].fields
    is_text = isinstance(example[fields[min(1, len(fields) - 1)]], str)
    same = [name for name in fitting if FORMATS[name].fields == fields]
    form = next((name for name in same if name.endswith("text") == is_text), same[0])
    problem, cure = _problem_in(example, form) or _problem_of_task(example, form) or ("", "")
    if problem:
        raise BadData(path, problem, cure, line)
    return form


def is_trained_as_it_is(line: int, row: Any) -> bool:
    """Return whether a trainer takes a row as it is."""
    tasks: tuple[Task, ...] = ("sft", "dpo", "kto")
    for task in tasks if isinstance(row, dict) else ():
        with contextlib.suppress(BadData):
            return bool(format_of(Path(), line, row, task))
    return False


def _problem_in(example: Example, form: Format) -> tuple[str, str] | None:
    """Return what is malformed in the fields that are read, and the cure."""
    if not _is_tools(example.get("tools")):
        return "has `tools` that are no list of objects", CONVERT
    for name in FORMATS[form].fields:
        value, is_answered = example[name], name != "prompt"
        if name == "label":
            continue
        if form.endswith("text"):
            may_be_empty = form == "prompt_completion_text" and not is_answered
            if not isinstance(value, str) or not (may_be_empty or value.strip()):
                return f"`{name}` is not a text, or empty", CONVERT
        elif problem := _problem_of(name, value) or (is_answered and _unanswered(name, value[-1])):
            return problem, CONVERT
    return None


def _problem_of_task(example: Example, form: Format) -> tuple[str, str] | None:
    """Return why a task cannot train a well-formed example, and the cure."""
    task = FORMATS[form].task
    # Of marks, TRL takes any number above 0 for good, 0.2 as well.
    if task == "kto" and example["label"] not in (True, False):
        cure = "use true for a good answer, false for a bad one"
        return "`label` is neither true nor false", cure
    if task == "dpo" and example["chosen"] == example["rejected"]:
        cure = "remove it: it teaches nothing"
        return "has the same answer as chosen and as rejected", cure
    if form == "pairs_messages_implicit":
        chosen, rejected = example["chosen"], example["rejected"]
        if chosen[0] != rejected[0] or 1 in (len(chosen), len(rejected)):
            problem = "`chosen` and `rejected` do not begin with the same question"
            return problem, "add the question as `prompt`"
    return None


def _unanswered(name: str, last: dict[str, Any]) -> str:
    """Return why the last message of a field is no answer; empty if it is one."""
    if last["role"] != "assistant":
        return f"`{name}` does not end with an assistant message"
    is_empty = not (last.get("content") or "").strip() and not last.get("tool_calls")
    return f"the last answer of `{name}` is empty" if is_empty else ""


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


def _is_tools(tools: Any) -> bool:
    """Return whether a value is a list of objects, JSON of one, or nothing."""
    tools = parse_json(tools) if isinstance(tools, str) and tools else tools or []
    return isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)


def _names(keys: set[str]) -> str:
    """List names that are names; what could say something is only counted."""
    plain = sorted(ascii(key) for key in keys if PLAIN_NAME.fullmatch(key))[:8]
    others = len(keys) - len(plain)
    return ", ".join([*plain, *([f"{others} others"] if others else [])]) or "(none)"
