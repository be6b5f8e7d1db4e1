"""What answers: the interface of every system, and an endpoint as one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ft_tools.endpoints.client import Client
from ft_tools.evaluation.held_out import HeldOut, messages_of


@dataclass(frozen=True)
class Answer:
    """An example with what one system wrote."""

    text: str
    num_tokens: int
    finished: bool
    """Whether the system ended the answer, not the limit."""
    seconds: float = 0.0
    prompt_tokens: int = 0
    usd: float = 0.0
    """What an endpoint's usage costs at the given price."""
    served_by: str = ""
    """Model and fingerprint that an endpoint reports."""


Batch = list[tuple[int, Answer]]
"""Places of questions with their answers."""
Stop = Callable[[], bool]
"""Whether to start nothing new; what is in flight is finished and yielded."""


class System(Protocol):
    """Something that answers: a model, an endpoint or a simple baseline."""

    def answer(self, questions: Sequence[HeldOut], should_stop: Stop) -> Iterator[Batch]:
        """Yield answers as they are ready, each with the place of its question."""

    def close(self) -> None:
        """Free what it holds."""


class EndpointSystem:
    """Answers by asking an endpoint, several questions at a time."""

    def __init__(self, client: Client, max_new_tokens: int, options: dict[str, Any]) -> None:
        self._client = client
        self._max_new_tokens = max_new_tokens
        self._options = options

    def answer(self, questions: Sequence[HeldOut], should_stop: Stop) -> Iterator[Batch]:
        """Yield each answer as it arrives; raises what `Client.ask_all` raises."""
        asked = [messages_of(question) for question in questions]
        for replies in self._client.ask_all(
            asked, self._max_new_tokens, should_stop, **self._options
        ):
            yield [
                (
                    i,
                    Answer(
                        text=reply.text.strip(),
                        num_tokens=reply.completion_tokens,
                        finished=reply.finished,
                        seconds=reply.seconds,
                        prompt_tokens=reply.prompt_tokens,
                        usd=self._client.usd_of(reply),
                        served_by=reply.served_by,
                    ),
                )
                for i, reply in replies
            ]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
