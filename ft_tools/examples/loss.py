"""Keep answers out of the loss that a row asks not to train.

OpenAI marks them `weight: 0`, Axolotl `train: false`; and of a prompt of several turns only the
completion is trained. `messages` cannot say so, a prompt and a completion can: where every row that
stays allows it, the cleaned files have that form.
"""

from collections.abc import Mapping
from typing import Any

from ft_tools.examples.example import Example, Message

# What of a row is trained: its only answer, all of several, the last of several, some between.
ONE, ALL, LAST, SOME = range(4)
HELD = 4
"""Added if an answer of a conversation is marked."""


def is_trained(turn: Mapping[str, Any]) -> bool:
    """Tell whether a turn is an answer that may be trained."""
    return turn.get("role") == "assistant" and turn.get("weight") != 0


def loss_of(example: Example) -> int:
    """Tell which answers of an example are trained, and if some are marked not to be."""
    if example.task != "sft" or example.text is not None:
        return ONE
    turns = example.messages
    held = [t for t in turns if t["role"] == "assistant" and not is_trained(t)]
    is_held = bool(held) and example.format != "prompt_completion"
    return _kind(up_to_the_answer(turns)) + HELD * is_held


def _kind(turns: list[Message]) -> int:
    answers = [is_trained(turn) for turn in turns if turn["role"] == "assistant"]
    if all(answers):
        return ONE if len(answers) < 2 else ALL
    behind = turns[first_trained(turns) :]
    is_last = all(map(is_trained, (t for t in behind if t["role"] == "assistant")))
    return LAST if is_last and all(turn["role"] != "user" for turn in behind) else SOME


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
