"""What a teacher is sent, and what its reply is read with: one table of kinds."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import Message
from ft_tools.evaluation.held_out import HeldOut, read_held_out
from ft_tools.evaluation.systems.asking import read_pool
from ft_tools.metrics.text import json_object_in


@dataclass(frozen=True)
class Prompt:
    """One request to the teacher."""

    source: str
    """File and line, or passage."""
    messages: list[Message]
    """As sent."""
    asked: str = ""
    """What the user's own prompt asks, compared with test rows before anything is sent."""
    trained: list[Message] = field(default_factory=list)
    """Of answers: what stands before the answer in the training row."""
    passage: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)
    """What the checks read."""
    shown: frozenset[str] = frozenset()
    """Inputs that it shows as examples, normalised."""
    num_rows: int = 1
    """Rows that its reply should have."""


@dataclass(frozen=True)
class Candidate:
    """A row that a reply holds, before it is checked."""

    messages: list[Message]
    question: str
    answer: str
    row: Mapping[str, Any]
    problem: str = ""
    """Reason for which it is dropped; empty if there is none."""
    quotes: tuple[str, ...] = ()


class Malformed(Exception):
    """A reply is not what was asked for."""


Read = Callable[[CreateRequest, Prompt, str], list[Candidate]]


@dataclass(frozen=True)
class Asking:
    """How rows of a kind are asked for."""

    prompts: Callable[[CreateRequest, Path], Iterator[Prompt]]
    read: Read
    """Return the rows of a reply; raises Malformed."""
    schema: Callable[[CreateRequest], dict[str, Any] | None] = lambda _: None
    """What the endpoint constrains its reply to."""


def chosen_prompts(prompts: Sequence[Prompt], num_rows: int | None, seed: int) -> list[Prompt]:
    """Return the prompts in a random order, at most so many: the first ones are a fair sample."""
    order = random.Random(f"{seed}\x1fprompts").sample(range(len(prompts)), len(prompts))
    return [prompts[at] for at in order[:num_rows]]


def shots_of(request: CreateRequest) -> list[HeldOut]:
    """Return the examples that every prompt shows, without those that are test rows.

    Raises:
        BadInput: None is left.
    """
    shots = request.teacher.examples if request.teacher else None
    if shots is None:
        return []
    pool = read_held_out(workspace.existing(shots.path))
    if request.test is not None:
        test = workspace.existing(request.test)
        pool = read_pool(shots, test, read_held_out(test)).examples
    if shots.choose == "first":
        return pool[: shots.num]
    return random.Random(shots.seed).sample(pool, min(shots.num, len(pool)))


def with_system(request: CreateRequest, text: str) -> list[Message]:
    """Return what is sent: the caller's system text, if there is one, and a text."""
    own = request.teacher.system if request.teacher else None
    before = [{"role": "system", "content": own}] if own else []
    return [*before, {"role": "user", "content": text}]


def read_object(text: str, keys: Mapping[str, type]) -> dict[str, Any]:
    """Return the JSON object of a reply, in a fence or not.

    Raises:
        Malformed: It is none, or has not these keys.
    """
    value = json_object_in(text)
    if value is None or not all(isinstance(value.get(key), kind) for key, kind in keys.items()):
        raise Malformed
    return value
