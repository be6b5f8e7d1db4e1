"""What every model that answers can do, whatever runs it: a writer, and what it is asked."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ft_tools.evaluation.held_out import HeldOut, Message, messages_of
from ft_tools.evaluation.systems.system import Answer
from ft_tools.runs.processes.endings import is_out_of_memory

Found = TypeVar("Found")


@dataclass(frozen=True)
class Likelihood:
    """How well a model predicts a wanted answer."""

    nats: float
    """Sum over its tokens of the negative log-likelihood."""
    num_tokens: int
    num_bytes: int


class Writer(Protocol):
    """A model that continues texts."""

    @property
    def template(self) -> str | None:
        """The chat template that the model brings."""

    @property
    def end_text(self) -> str:
        """The token that ends an answer, as text; empty if there is none."""

    @property
    def vocabulary(self) -> dict[str, int] | None:
        """Token -> id, to compare models by; None where that is not known."""

    def render(self, example: HeldOut, rendering: str) -> str:
        """Write the prompt of an example."""

    def chat(
        self, messages: list[Message], tools: list[dict[str, Any]] | None, *, answer_next: bool
    ) -> str:
        """Apply the chat template."""

    def encode(self, text: str) -> list[int]:
        """Tokenize a rendered text."""

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, grammar: str | None = None
    ) -> list[Answer]:
        """Continue each prompt greedily; with a grammar, only as it allows."""

    def likelihoods(self, texts: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Measure how well each whole text is predicted after the prompt it begins with."""

    def close(self) -> None:
        """Free what it holds."""


def plain_prompt(example: HeldOut) -> str:
    """Return what is asked without any template."""
    return example.prompt or "\n\n".join(str(m.get("content") or "") for m in example.messages)


def first_counted(prompt: Sequence[int], whole: Sequence[int]) -> int:
    """Return the place of the first token that belongs to the answer; never the very first."""
    start = 0
    while start < min(len(prompt), len(whole) - 1) and prompt[start] == whole[start]:
        start += 1
    return max(1, start)


def added_bytes(prompt: str, whole: str) -> int:
    """Return the length of what follows the prompt, at least 1."""
    return max(1, len(whole.encode()) - len(prompt.encode()))


def whole_text(writer: Writer, prompt: str, example: HeldOut, rendering: str) -> str:
    """Return the prompt with the wanted answer, ended as in training."""
    if rendering == "chat" and writer.template is not None:
        answer = example.answer or {"role": "assistant", "content": example.reference}
        whole = writer.chat([*messages_of(example), answer], example.tools, answer_next=False)
        if whole.startswith(prompt):
            return whole
    return prompt + example.reference + writer.end_text


def longest_first(texts: Sequence[str]) -> list[int]:
    """Return the places of texts, so that a batch has similar lengths and memory runs out early.

    >>> longest_first(["aaa", "a", "aa"])
    [0, 2, 1]
    """
    return sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))


def in_batches(
    places: Sequence[int], size: int, ask: Callable[[list[int]], list[Found]]
) -> Iterator[tuple[list[int], list[Found], float]]:
    """Yield batches as they are done: places, what was found, and seconds.

    Where memory does not suffice, the size is halved; what fits then fits to the end.
    """
    left = list(places)
    while left:
        batch, began = left[:size], time.monotonic()
        found = None
        try:
            found = ask(batch)
        except Exception as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        if found is None:
            # Its import takes seconds, which whoever asks an endpoint does without.
            from ft_tools.models.worker.loading import free_memory

            size = len(batch) // 2
            free_memory()
            continue
        left = left[len(batch) :]
        yield batch, found, time.monotonic() - began
