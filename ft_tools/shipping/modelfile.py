"""The prompt that a chat template builds, as parts that other programs can put together.

A template is a program; Ollama has another language for it. So it is asked to render a few probe
conversations, the fixed text around the messages is cut out, and the parts are put together again
for other conversations: only if every one comes out the same are they used.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from pydantic import Field

from ft_tools.contract import Report

Message = dict[str, str]
Render = Callable[[Sequence[Message], bool], str]
"""Renders messages; the flag asks for the start of the next answer."""

QUOTES = '"""'
SYSTEM, USER, ANSWER, AGAIN = "Aprobesystemz", "Bprobeuserz", "Cprobeanswerz", "Dprobeuserz"


class PromptParts(Report):
    """The fixed text around messages."""

    bos: str = Field(
        description="Token that programs put first by themselves; empty if they do not."
    )
    system: tuple[str, str] | None = Field(description="Before and after; null: not supported.")
    default_system: str = Field("", description="Used when no system message is given.")
    user: tuple[str, str]
    answer: tuple[str, str]
    generation: str = Field(description="The start of the answer that is asked for.")

    def render(self, messages: Sequence[Message], generation: bool) -> str:
        """Put a conversation together."""
        around = {"system": self.system, "user": self.user, "assistant": self.answer}
        text = self.bos
        if self.default_system and self.system and messages[0]["role"] != "system":
            text += self.default_system.join(self.system)
        for message in messages:
            before, after = around[message["role"]] or ("", "")
            text += before + message["content"] + after
        return text + (self.generation if generation else "")


def parts_of(render: Render, bos: str) -> PromptParts | None:
    """Cut a template into parts; None when its prompts are not made of fixed parts."""
    try:
        parts = _cut(render, bos)
        cases = probes(with_system=parts.system is not None)
        return parts if all(parts.render(one, True) == render(one, True) for one in cases) else None
    except Exception:
        # A template raises whatever it likes, for instance for a role that it does not know.
        return None


def probes(*, with_system: bool) -> list[list[Message]]:
    """Return conversations of one to four messages that end with a question.

    Those that end with an answer are never rendered, and thinking templates add to them.
    """
    system = {"role": "system", "content": "You answer briefly."}
    talk = [
        {"role": "user", "content": "Hello, who are you?"},
        {"role": "assistant", "content": "A model.\nA small one."},
        {"role": "user", "content": "What is 2 + 2?"},
    ]
    some = [talk[:1], talk]
    return some + [[system, *each] for each in some] if with_system else some


def ollama_template(parts: PromptParts) -> str:
    """Write the parts as an Ollama template (Go's text/template, all text as string literals).

    Source: https://github.com/ollama/ollama/blob/main/docs/template.md
    """
    head, user = "", _around(".Content", parts.user)
    answer = _around(".Content", parts.answer)
    if parts.system is not None:
        head = "{{ if .System }}" + _around(".System", parts.system) + "{{ end }}"
    return (
        head + '{{ range .Messages }}{{ if eq .Role "user" }}' + user
        + '{{ else if eq .Role "assistant" }}' + answer + "{{ end }}{{ end }}"
        + _literal(parts.generation)
    )  # fmt: skip


def modelfile(
    gguf: str,
    parts: PromptParts | None,
    stops: Sequence[str],
    system: str | None = None,
    limits: Mapping[str, int] | None = None,
) -> str:
    """Write an Ollama Modelfile.

    Source: https://github.com/ollama/ollama/blob/main/docs/modelfile.md
    """
    lines = [f"FROM ./{gguf}"]
    if parts is not None:
        lines.append(f'TEMPLATE """{ollama_template(parts)}"""')
    if system is None and parts is not None:
        system = parts.default_system
    if system and can_be_shipped(system):
        lines.append(f'SYSTEM """{system}"""')
    # Greedy, as it was measured; Ollama's defaults are 0.8 and 1.1.
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1"]
    lines += [f"PARAMETER {name} {value}" for name, value in (limits or {}).items()]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    return "\n".join(lines) + "\n"


def can_be_shipped(system: str) -> bool:
    """Return whether a Modelfile can hold a text.

    Three quotes would end the value, and what follows would be read as instructions.
    """
    return QUOTES not in system and not system.endswith('"')


def shipped_system(text: str) -> str:
    """Return the system text that a Modelfile sends; empty if it sends none.

    >>> shipped_system(modelfile("m.gguf", None, ["</s>"], "Sort the mail."))
    'Sort the mail.'
    """
    _, found, rest = text.partition(f"\nSYSTEM {QUOTES}")
    return rest.partition(QUOTES)[0] if found else ""


def as_shipped(parts: PromptParts, system: str, messages: Sequence[Message]) -> str:
    """Return the prompt that Ollama builds of a Modelfile when a user sends only the talk."""
    talk = [m for m in messages if m["role"] not in {"system", "developer"}]
    if system:
        talk = [{"role": "system", "content": system}, *talk]
    return parts.model_copy(update={"default_system": ""}).render(talk, True)


def _cut(render: Render, bos: str) -> PromptParts:
    talk = [
        {"role": role, "content": text}
        for role, text in (("user", USER), ("assistant", ANSWER), ("user", AGAIN))
    ]

    def gaps(num: int, generation: bool = False) -> list[str]:
        """Return what is around the first messages: before, between and after them."""
        return re.split(f"{USER}|{ANSWER}|{AGAIN}", render(talk[:num], generation))

    before, after_user = gaps(1)
    after_answer = gaps(2)[-1]
    _, to_answer, to_user, _ = gaps(3)
    user = to_user.removeprefix(after_answer), after_user
    bos = bos if bos and before.startswith(bos) else ""
    system, default = _system(render, bos, user[0], before.removeprefix(bos))
    return PromptParts(
        bos=bos,
        system=system,
        default_system=default,
        user=user,
        answer=(to_answer.removeprefix(after_user), after_answer),
        generation=gaps(1, True)[-1].removeprefix(after_user),
    )


def _system(
    render: Render, bos: str, user_before: str, between: str
) -> tuple[tuple[str, str] | None, str]:
    """Return what is around a system message, and the default one that `between` holds."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    try:
        before, middle, _ = re.split(f"{SYSTEM}|{USER}", render(messages, False))
    except Exception:
        return None, ""
    if not middle.endswith(user_before):
        return None, ""
    around = before.removeprefix(bos), middle.removesuffix(user_before)
    block = between.removesuffix(user_before)
    return around, block.removeprefix(around[0]).removesuffix(around[1]) if block else ""


def _around(variable: str, around: tuple[str, str]) -> str:
    return _literal(around[0]) + "{{ " + variable + " }}" + _literal(around[1])


def _literal(text: str) -> str:
    """Write a text as a Go string, so that no white space of it is trimmed."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""
