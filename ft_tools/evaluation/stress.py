"""The held-out examples under each change that the caller asked for."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ft_tools.evaluation.held_out import HeldOut, question_of
from ft_tools.formats.variations import Variation, swap_in, vary

HELD_OUT = "held_out"
"""The set of the examples as they are."""


def set_id(variation: Variation, seed: int) -> str:
    """Return a name of a set of changed questions that no other change or seed has."""
    text = f"{seed} {variation.model_dump_json()}".encode()
    return f"{variation.name} {hashlib.blake2b(text, digest_size=4).hexdigest()}"


def question_sets(
    examples: Sequence[HeldOut], variations: Sequence[Variation], seed: int
) -> dict[str, list[HeldOut]]:
    """Return the examples as they are, and for each change those that it changes."""
    sets = {HELD_OUT: list(examples)}
    for one in variations:
        found = (changed(example, one, seed) for example in examples)
        sets[set_id(one, seed)] = [example for example in found if example is not None]
    return sets


def changed(example: HeldOut, variation: Variation, seed: int) -> HeldOut | None:
    """Return an example under a change; None where there is nothing that may be changed."""
    asked = question_of(example)
    found = vary(variation, asked, example.reference, example.row, seed)
    if found is None:
        return None
    turns, row = list(example.messages), example.row
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if found.swapped is not None:
        turns = [turn if turn["role"] == "system" else _swapped(turn, found) for turn in turns]
        row = {**swap_in(row, *found.swapped)}
    if last is not None:
        turns[last] = {**turns[last], "content": found.question}
    prompt = "" if turns else found.question
    return replace(example, messages=turns, prompt=prompt, reference=found.answer, row=row)


def _swapped(turn: dict[str, Any], found: Any) -> dict[str, Any]:
    return {**turn, "content": swap_in(turn.get("content"), *found.swapped)}
