"""An example: a row of any format in one form, as TRL takes it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""What an answer was thought out with, as the templates of reasoning models name it."""
_THOUGHTS = frozenset(THOUGHTS)


@dataclass(slots=True)
class Example:
    """A row in one form: a conversation, or a prompt with two answers, or a marked answer."""

    line: int
    format: str
    task: str
    """sft, dpo or kto."""
    messages: list[Message] = field(default_factory=list)
    """sft: the conversation; dpo: the prompt; kto: the prompt."""
    chosen: list[Message] = field(default_factory=list)
    rejected: list[Message] = field(default_factory=list)
    label: bool | None = None
    text: str | None = None
    tools: list[Any] | None = None
    problems: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return the example as TRL takes it."""
        if self.text is not None:
            return {"text": self.text}
        if self.task == "dpo":
            row: dict[str, Any] = {
                "prompt": self.messages,
                "chosen": self.chosen,
                "rejected": self.rejected,
            }
        elif self.task == "kto":
            row = {"prompt": self.messages, "completion": self.chosen, "label": self.label}
        else:
            row = {"messages": self.messages}
        return row | ({"tools": self.tools} if self.tools else {})

    def texts(self) -> tuple[list[str], list[str]]:
        """Return every string of the example: those of all that is answered, and the others."""
        if self.text is not None:
            return [self.text], []
        answered = [m for m in self.messages if m["role"] == "assistant"]
        other = [m for m in self.messages if m["role"] != "assistant"]
        return (
            list(strings_of([*answered, *self.chosen, *self.rejected])),
            list(strings_of([*other, *(self.tools or [])])),
        )

    def prompt_and_answer(self) -> tuple[list[Message], list[Message]]:
        """Split into what is asked and what is trained on last."""
        if self.task != "sft":
            return self.messages, self.chosen
        if self.text is not None:
            return [], [{"role": "assistant", "content": self.text}]
        for at in range(len(self.messages) - 1, -1, -1):
            if self.messages[at]["role"] == "assistant":
                return self.messages[:at], self.messages[at : at + 1]
        return self.messages, []


def strings_of(value: Any) -> Iterator[str]:
    """Yield every string and whole number inside a JSON value, keys included, however deep it is.

    >>> list(strings_of({"to": ["a", 5]}))
    ['to', 'a', '5']
    """
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, int):
            yield str(item)
        elif isinstance(item, list):
            left += reversed(item)
        elif isinstance(item, dict):
            parts = [part for pair in item.items() for part in pair]
            if {*map(type, parts)} == {str}:
                yield from parts
            else:
                left += reversed(parts)


def content_of(message: Message) -> str:
    """Return what a turn says: its text and, if there are any, its tool calls."""
    text = str(message.get("content") or "")
    calls = message.get("tool_calls")
    return f"{text}{json.dumps(calls, ensure_ascii=False, sort_keys=True)}" if calls else text


def thoughts_of(message: Message) -> str:
    """Return what a turn thinks before it says something; empty if that is not told apart."""
    if _THOUGHTS.isdisjoint(message):
        return ""
    return "\n".join(str(message[name]) for name in THOUGHTS if name in message)
