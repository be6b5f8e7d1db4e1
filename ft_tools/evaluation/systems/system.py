"""What every system can do, whatever it is: answer questions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ft_tools.evaluation.held_out import HeldOut


@dataclass(frozen=True)
class Answered:
    """An example with what one system wrote."""

    text: str
    num_tokens: int
    finished: bool
    """Whether the system ended the answer, not the limit."""
    seconds: float
    prompt_tokens: int = 0
    usd: float = 0.0
    """What an endpoint's usage costs at the given price."""
    served_by: str = ""
    """Model and fingerprint that an endpoint reports."""


Stop = Callable[[], bool]
"""Whether to start nothing new; what is under way is finished and given."""


class System(Protocol):
    """Something that answers: a model, an endpoint or a simple baseline."""

    def answer(
        self, questions: Sequence[HeldOut], should_stop: Stop
    ) -> Iterator[list[tuple[int, Answered]]]:
        """Give answers as they are ready, each with the place of its question."""

    def close(self) -> None:
        """Free what it holds."""
