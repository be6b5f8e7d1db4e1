"""The held-out examples under each change that the caller asked for."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from ft_tools.evaluation.held_out import HeldOut, question_of
from ft_tools.formats.variations import Variation, swap_in, vary

HELD_OUT = "held_out"
"""The set of the examples as they are."""


def question_sets(
    examples: Sequence[HeldOut], variations: Sequence[Variation], seed: int
) -> dict[str, list[HeldOut]]:
    """Return the examples as they are, and for each change those that it changes.

    The name of a set is that of its change, with a hash that no other change or seed has.
    """
    sets = {HELD_OUT: list(examples)}
    for one in variations:
        digest = hashlib.blake2b(f"{seed} {one.model_dump_json()}".encode(), digest_size=4)
        found = (changed(example, one, seed) for example in examples)
        sets[f"{one.name} {digest.hexdigest()}"] = [each for each in found if each is not None]
    return sets


def changed(example: HeldOut, variation: Variation, seed: int) -> HeldOut | None:
    """Return an example under a change; None where there is nothing that may be changed."""
    asked = question_of(example)
    found = vary(variation, asked, example.reference, example.row, seed)
    if found is None:
        return None
    turns, row = list(example.messages), example.row
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if (pair := found.swapped) is not None:
        for i, turn in enumerate(turns):
            if turn["role"] != "system":
                turns[i] = {**turn, "content": swap_in(turn.get("content"), *pair)}
        row = {**swap_in(row, *pair)}
    if last is not None:
        turns[last] = {**turns[last], "content": found.question}
    return replace(example, messages=turns, reference=found.answer, row=row)
