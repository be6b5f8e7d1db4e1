"""A model that continues texts, whatever runs it, and how many prompts it is given at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.answers import Answer
from ft_tools.runs.processes.endings import is_out_of_memory

Found = TypeVar("Found")


class Writer(Protocol):
    """A model that continues texts."""

    template: str | None
    """The chat template that the model brings."""

    def render(self, example: HeldOut, rendering: str) -> str:
        """Write the prompt of an example, up to where the answer begins."""

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
    return example.prompt or "\n\n".join(str(m.get("content") or "") for m in example.messages)


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
