"""What every model that answers can do, whatever runs it: a writer, and what it is asked."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ft_tools.evaluation.held_out import HeldOut, Message, messages_of
from ft_tools.runs.processes.endings import is_out_of_memory


@dataclass(frozen=True)
class Output:
    """What a model wrote."""

    text: str
    num_tokens: int
    finished: bool
    """Whether the model ended it, not the limit."""


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
    ) -> list[Output]:
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


def buckets(prompts: Sequence[str], size: int) -> list[list[int]]:
    """Group prompts of similar length: indices, longest first, so memory runs out early or never.

    >>> buckets(["aaa", "a", "aa"], 2)
    [[0, 2], [1]]
    """
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    return [order[i : i + size] for i in range(0, len(order), size)]


def generate_all(
    writer: Writer,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    grammar: str | None = None,
) -> Iterator[tuple[list[int], list[Output], float]]:
    """Yield batches as they are done: indices, outputs and seconds. Equal prompts run once."""
    unique = list(dict.fromkeys(prompts))
    places: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(i)
    for batch in buckets(unique, batch_size):
        began = time.monotonic()
        outputs = _generate(writer, [unique[i] for i in batch], max_new_tokens, grammar)
        indices = [i for j in batch for i in places[unique[j]]]
        repeated = [
            output for j, output in zip(batch, outputs, strict=True) for _ in places[unique[j]]
        ]
        yield indices, repeated, time.monotonic() - began


def _generate(
    writer: Writer, prompts: Sequence[str], max_new_tokens: int, grammar: str | None
) -> list[Output]:
    """Generate a batch; where memory does not suffice, in halves."""
    try:
        return writer.generate(prompts, max_new_tokens, grammar)
    except Exception as error:
        if len(prompts) == 1 or not is_out_of_memory(error):
            raise
    # Its import takes seconds, which whoever asks an endpoint does without.
    from ft_tools.models.worker.loading import free_memory

    free_memory()
    half = len(prompts) // 2
    return [
        *_generate(writer, prompts[:half], max_new_tokens, grammar),
        *_generate(writer, prompts[half:], max_new_tokens, grammar),
    ]
