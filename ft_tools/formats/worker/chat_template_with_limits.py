"""Render and tokenize in a process of its own, with bounds: a chat template is somebody's code.

The sandbox of transformers stops a template from reaching files, not from looping for ever or
filling the memory (`{{ 10**10**10 }}` is one operation that nothing interrupts). So the worker asks
this process, line by line, and it has a limit on its memory and, for each example, on its time.

Protocol: JSON lines on stdin and stdout. The first line out says what was loaded.
"""

import contextlib
import json
import resource
import time
from collections.abc import Iterator
from typing import Any, TextIO

from transformers import AutoTokenizer

from ft_tools.formats.example import content_of, thoughts_of
from ft_tools.formats.loss_marks import first_trained, is_trained
from ft_tools.formats.masking import (
    IGNORED,
    MeasuredExample,
    Messages,
    Render,
    TokenizedSequence,
    ends_its_answer,
    tokenize_chat,
    tokenize_text,
    truncate,
)
from ft_tools.formats.worker import today

# A rendered example that is far longer than what it says comes from a hostile template.
MAX_EXPANSION = 20
MIN_TOKENS = 20_000
MEMORY_BYTES = 2 * 2**30
"""What rendering may take beyond what loading took."""
PAIR_SIDES = ("chosen", "rejected")


class TemplateError(Exception):
    """The template refuses an example, or makes too much of it."""


def serve(
    load_from: str, max_length: int, cpu_seconds: int, lines: TextIO, channel: TextIO
) -> None:
    """Load the tokenizer, say so, and answer each line until there are no more."""
    # As a run that is created now: see today.
    today.hold(time.time())
    try:
        tokenizer = AutoTokenizer.from_pretrained(load_from, trust_remote_code=False)
    except Exception:
        # A hostile folder may raise anything, in words of its own.
        _write_line(channel, {"error": "no tokenizer"})
        return
    asked = Tokenizer(tokenizer, max_length)
    _write_line(channel, {"method": asked.method})
    _limit_memory()
    for line in lines:
        question = json.loads(line)
        _limit_time(question.get("cpu_seconds", cpu_seconds))
        answer: dict[str, Any]
        try:
            answer = {"measured": asked.measure(question["example"])}
        except Exception:
            # So may a template; RecursionError and MemoryError are its doing too.
            answer = {"refused": True}
        _write_line(channel, answer)


class Tokenizer:
    """A tokenizer and its chat template, used as the training workers use them."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._template = str(getattr(tokenizer, "chat_template", None) or "")
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        start = {tokenizer.bos_token_id} - {tokenizer.eos_token_id}
        self._ends = (special | set(tokenizer.all_special_ids)) - start
        by = " and chat template" if self._template else "; it has no chat template"
        self.method = f"counted with the model's tokenizer{by}"

    def measure(self, example: dict[str, Any]) -> MeasuredExample:
        """Count the tokens of an example and look at its mask."""
        sequences = [one for _, one in self.sequences(example)]
        longest = max(sequences, key=lambda one: len(one.input_ids))
        whole = len(longest.input_ids)
        limit = self._max_length
        trained = sum(truncate(one, limit).num_trained for one in sequences)
        complete = [one for one in sequences if len(one.input_ids) <= limit]
        findings = []
        if complete and not any(ends_its_answer(one, self._ends) for one in complete):
            findings.append("end_not_trained")
        if self._template and self._leaves_tools_out(example, sequences):
            findings.append("tools_not_rendered")
        return MeasuredExample(whole, whole - _last_answer(longest), tuple(findings), trained)

    def _leaves_tools_out(
        self, example: dict[str, Any], sequences: list[TokenizedSequence]
    ) -> bool:
        """Return whether a tool or a call is nowhere in what the template makes of an example."""
        names = set(_tool_names(example))
        if not names:
            return False
        text = "\n".join(str(self._tokenizer.decode(one.input_ids)) for one in sequences)
        return any(name not in text for name in names)

    def sequences(self, example: dict[str, Any]) -> list[tuple[str, TokenizedSequence]]:
        """Return what would be trained on, named by side if it is a pair."""
        end = self._tokenizer.eos_token or ""
        if example["text"] is not None:
            made = [("", tokenize_text(self._encode, "", example["text"], end))]
        elif not self._template:
            made = [(name, self._plain(*part, end)) for name, part in _sides(example)]
        else:
            render = self._renderer(example["tools"])
            made = [
                (name, one)
                for name, (asked, answered) in _sides(example)
                for one in tokenize_chat(
                    render, [*asked, *answered], len(asked) if name else first_trained(asked)
                )
            ]
        said = sum(map(len, _texts(example)))
        if any(len(one.input_ids) > max(MIN_TOKENS, MAX_EXPANSION * said) for _, one in made):
            raise TemplateError
        return made

    def _renderer(self, tools: Any) -> Render:
        def render(messages: Messages, opens: bool) -> list[int]:
            return list(
                self._tokenizer.apply_chat_template(
                    messages, tools=tools, add_generation_prompt=opens, return_dict=False
                )
            )

        return render

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    def _plain(self, asked: Messages, answered: Messages, end: str) -> TokenizedSequence:
        prompt = "".join(f"{content_of(message)}\n" for message in asked)
        return tokenize_text(self._encode, prompt, "\n".join(map(content_of, answered)), end)


def _sides(example: dict[str, Any]) -> list[tuple[str, tuple[Messages, Messages]]]:
    """Return (name, (what is asked, what is answered)); one, or two of a pair."""
    messages = example["messages"]
    if example["task"] == "sft":
        last = max((i for i, m in enumerate(messages) if is_trained(m)), default=0)
        return [("", (messages[:last], messages[last : last + 1]))]
    return [(name, (messages, example[name])) for name in PAIR_SIDES if example[name]]


def _tool_names(example: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the tools of an example and of those it calls, but what JSON escapes."""
    turns = [*example["messages"], *example["chosen"], *example["rejected"]]
    calls = [call for turn in turns for call in turn.get("tool_calls") or []]
    for item in [*(example["tools"] or []), *calls]:
        described = item.get("function") or item
        name = described.get("name") if isinstance(described, dict) else None
        if isinstance(name, str) and name.isascii():
            yield name


def _texts(example: dict[str, Any]) -> list[str]:
    turns = [*example["messages"], *example["chosen"], *example["rejected"]]
    said = [*map(content_of, turns), *map(thoughts_of, turns)]
    return [example["text"] or "", json.dumps(example["tools"] or []), *said]


def _last_answer(one: TokenizedSequence) -> int:
    """Return where the last stretch that is trained on begins."""
    at = max((at for at, label in enumerate(one.labels, 1) if label != IGNORED), default=0)
    while at and one.labels[at - 1] != IGNORED:
        at -= 1
    return at


def _limit_memory() -> None:
    """Cap the address space at what it is now and some."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as stream:
            pages = int(stream.read().split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_time(cpu_seconds: int) -> None:
    """Let the kernel end this process when the next example takes too long."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + cpu_seconds + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _write_line(channel: TextIO, value: dict[str, Any]) -> None:
    channel.write(json.dumps(value) + "\n")
    channel.flush()
