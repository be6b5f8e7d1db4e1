"""A model that continues texts, whatever runs it, and how it is asked."""

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from jinja2 import TemplateError

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.answers import Answer, Batch
from ft_tools.runs.processes.endings import is_out_of_memory


class Writer(Protocol):
    """A model that continues texts."""

    template: str | None
    """The chat template that the model brings."""

    def render(self, example: HeldOut, rendering: str, *, thinks: bool = True) -> str:
        """Write the prompt of an example, up to where the answer begins, or the thought before."""

    def encode(self, text: str) -> list[int]:
        """Tokenize a rendered text."""

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, grammar: str | None = None
    ) -> list[Answer]:
        """Continue each prompt greedily; with a grammar, only as it allows."""

    def close(self) -> None:
        """Free what it holds."""


def plain_prompt(example: HeldOut) -> str:
    """Return what is asked without any template."""
    return "\n\n".join(str(m.get("content") or "") for m in example.messages)


def thought_switch(write: Callable[..., Any]) -> dict[str, bool]:
    """Return the template's switch where it opens an answer as one is trained: no thought."""
    off, talk = {"enable_thinking": False}, [{"role": "user", "content": "?"}]
    # A template that does not take so short a talk says nothing of thoughts; llama.cpp's
    # formatter raises a ValueError for it.
    with contextlib.suppress(TemplateError, ValueError):
        whole = str(write([*talk, {"role": "assistant", "content": "!"}]))
        return off if whole.startswith(write(talk, add_generation_prompt=True, **off)) else {}
    return {}


def ask_model(
    writer: Writer,
    render: Callable[[HeldOut], str],
    max_new_tokens: int,
    batch_size: int,
    questions: Sequence[HeldOut],
    *,
    should_stop: Callable[[], bool],
    grammar: str | None = None,
) -> Generator[Batch]:
    """Yield the answers of a model that is loaded here; equal prompts are answered once.

    The longest prompts come first, so that a batch has similar lengths and memory runs out early.
    Where it does not suffice, the size is halved. The seconds of an answer are its batch's, divided
    by its size.
    """
    places: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        places.setdefault(render(question), []).append(i)
    left, size = sorted(places, key=len, reverse=True), batch_size
    while left:
        prompts, began, answers = left[:size], time.monotonic(), None
        try:
            answers = writer.generate(prompts, max_new_tokens, grammar)
        except Exception as error:
            if len(prompts) == 1 or not is_out_of_memory(error):
                raise
        if answers is None:
            # Its import takes seconds, which whoever asks an endpoint does without.
            from ft_tools.models.worker.loading import free_memory

            size = len(prompts) // 2
            free_memory()
            continue
        left = left[len(prompts) :]
        num = sum(len(places[prompt]) for prompt in prompts)
        seconds = round((time.monotonic() - began) / num, 6)
        found = []
        for prompt, answer in zip(prompts, answers, strict=True):
            whole = replace(answer, seconds=seconds, prompt_tokens=len(writer.encode(prompt)))
            found += [(place, whole) for place in places[prompt]]
        yield found
        if should_stop():
            return
