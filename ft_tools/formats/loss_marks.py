"""Keep answers out of the loss that a row asks not to train.

OpenAI marks them `weight: 0`, Axolotl `train: false`; and of a prompt of several turns only the
completion is trained. `messages` cannot say so, a prompt and a completion can: where every row that
stays allows it, the cleaned files have that form.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from ft_tools.formats.example import Example, Message


class TrainedAnswers(IntEnum):
    """Which answers of a row are trained."""

    ONLY_ANSWER = 0
    ALL_OF_SEVERAL = 1
    LAST_OF_SEVERAL = 2
    SOME_BETWEEN = 3


def is_trained(turn: Mapping[str, Any]) -> bool:
    """Return whether a turn is an answer that may be trained."""
    return turn.get("role") == "assistant" and turn.get("weight") != 0


def trained_answers(example: Example) -> TrainedAnswers:
    """Return which answers of an example are trained."""
    if example.task != "sft" or example.text is not None:
        return TrainedAnswers.ONLY_ANSWER
    turns = up_to_the_answer(example.messages)
    answers = [is_trained(turn) for turn in turns if turn["role"] == "assistant"]
    if all(answers):
        return TrainedAnswers.ONLY_ANSWER if len(answers) < 2 else TrainedAnswers.ALL_OF_SEVERAL
    behind = turns[first_trained(turns) :]
    is_last = all(map(is_trained, (t for t in behind if t["role"] == "assistant")))
    is_last = is_last and all(turn["role"] != "user" for turn in behind)
    return TrainedAnswers.LAST_OF_SEVERAL if is_last else TrainedAnswers.SOME_BETWEEN


def has_marked_answer(example: Example) -> bool:
    """Return whether a conversation marks an answer as one that is not to be trained."""
    if example.task != "sft" or example.text is not None or example.format == "prompt_completion":
        return False
    return any(t["role"] == "assistant" and not is_trained(t) for t in example.messages)


def up_to_the_answer(turns: list[Message]) -> list[Message]:
    """Return the turns without those behind the last trained answer, which train nothing."""
    answers = [at for at, turn in enumerate(turns, 1) if is_trained(turn)]
    return turns[: answers[-1]] if answers else turns


def as_prompt(example: Example) -> dict[str, Any]:
    """Return a conversation as a prompt, and what of it is trained as its completion."""
    at = first_trained(example.messages)
    row = {"prompt": example.messages[:at], "completion": example.messages[at:]}
    plain = {name: [without_mark(turn) for turn in turns] for name, turns in row.items()}
    return plain | ({"tools": example.tools} if example.tools else {})


def without_mark(turn: Any) -> Any:
    """Return a turn without its weight."""
    return {k: v for k, v in turn.items() if k != "weight"} if isinstance(turn, dict) else turn


def first_trained(turns: list[Message]) -> int:
    """Return the index of the first answer that is trained."""
    return next((at for at, turn in enumerate(turns) if is_trained(turn)), len(turns))
