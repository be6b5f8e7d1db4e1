"""A model as a system: prompts are rendered for its writer and continued in batches."""

from collections.abc import Callable, Iterator, Sequence

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.system import Answered, Stop
from ft_tools.evaluation.worker.writer import Writer, generate_all

Render = Callable[[HeldOut], str]
"""Example -> prompt."""


class ModelSystem:
    """Answers with a model that was loaded here."""

    def __init__(
        self,
        writer: Writer,
        render: Render,
        max_new_tokens: int,
        batch_size: int,
        grammar: str | None = None,
    ) -> None:
        self._writer = writer
        self._render = render
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size
        self._grammar = grammar

    def answer(
        self, questions: Sequence[HeldOut], should_stop: Stop
    ) -> Iterator[list[tuple[int, Answered]]]:
        """Give the answers batch by batch; seconds are a batch's, divided by its size."""
        prompts = [self._render(question) for question in questions]
        batches = generate_all(
            self._writer, prompts, self._max_new_tokens, self._batch_size, self._grammar
        )
        for indices, outputs, seconds in batches:
            each = round(seconds / len(indices), 6)
            yield [
                (
                    i,
                    Answered(
                        text=output.text,
                        num_tokens=output.num_tokens,
                        finished=output.finished,
                        seconds=each,
                        prompt_tokens=len(self._writer.encode(prompts[i])),
                    ),
                )
                for i, output in zip(indices, outputs, strict=True)
            ]
            if should_stop():
                return

    def close(self) -> None:
        """Leave the writer to whoever loaded it."""
