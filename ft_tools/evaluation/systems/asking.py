"""How a system is asked: system text, document, few-shot examples, passage, template."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ft_tools import workspace
from ft_tools.errors import BadData
from ft_tools.evaluation.findings import refusal
from ft_tools.evaluation.held_out import HeldOut, Message, question_of, read_held_out
from ft_tools.evaluation.systems.spec import PASSAGE, QUESTION, FewShot, SystemSpec
from ft_tools.metrics.text import normalise

MAX_DOCUMENT_BYTES = 4 * 2**20

Nearest = Callable[[Sequence[str], Sequence[str], int], list[list[int]]]
"""Questions, pool, count -> for each question the places in the pool, the nearest first."""


class Pool(NamedTuple):
    """Training examples that may be shown, and how many held-out questions were left out."""

    examples: list[HeldOut]
    num_removed: int


def read_pool(shots: FewShot, held_out_path: Path, held_out: Sequence[HeldOut]) -> Pool:
    """Read the examples of a file that are not held-out questions.

    Raises:
        BadInput: The file is the held-out file, or nothing is left of it.
    """
    path = workspace.existing(shots.path)
    if path == held_out_path or path.read_bytes() == held_out_path.read_bytes():
        raise refusal("examples_held_out", path=shots.path)
    asked = {normalise(example.asked) for example in held_out}
    found = read_held_out(path)
    kept = [example for example in found if normalise(example.asked) not in asked]
    if not kept:
        raise refusal("no_examples_left", path=shots.path)
    return Pool(kept, len(found) - len(kept))


def read_document(spec: SystemSpec) -> str:
    """Return the text of the system's document; empty without one.

    Raises:
        BadInput: It is not UTF-8 text, or too large.
    """
    if spec.document is None:
        return ""
    path = workspace.existing(spec.document)
    if (size := path.stat().st_size) > MAX_DOCUMENT_BYTES:
        raise refusal("document_too_large", path=path, size=size, most=MAX_DOCUMENT_BYTES)
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise refusal("document_not_text", path=path) from error


def choose_shots(
    shots: FewShot, pool: Sequence[HeldOut], held_out: Sequence[HeldOut], nearest: Nearest
) -> list[list[HeldOut]]:
    """Return the few-shot examples of each held-out example, in the order they are shown.

    The nearest example is shown last, directly before the question.
    """
    if shots.choose == "first":
        return [list(pool[: shots.num])] * len(held_out)
    if shots.choose == "random":
        chosen = random.Random(shots.seed).sample(range(len(pool)), min(shots.num, len(pool)))
        return [[pool[i] for i in chosen]] * len(held_out)
    asked = [question_of(example) for example in held_out]
    places = nearest(asked, [question_of(example) for example in pool], shots.num)
    return [[pool[i] for i in reversed(row)] for row in places]


def asked_as(
    spec: SystemSpec, example: HeldOut, shots: Sequence[HeldOut] = (), document: str = ""
) -> HeldOut:
    """Return a held-out example as this system is asked it.

    Raises:
        BadData: The passage field is missing.
    """
    if not (spec.system is not None or spec.template or shots or spec.passages or document):
        return example
    turns = example.messages
    own = [m for m in turns if m["role"] in {"system", "developer"}]
    rest = [m for m in turns if m["role"] not in {"system", "developer"}]
    text = spec.system if spec.system is not None else "\n\n".join(str(m["content"]) for m in own)
    text = "\n\n".join(filter(None, [text, document]))
    messages: list[Message] = [{"role": "system", "content": text}] if text else []
    for shot in shots:
        messages += [_user(spec, shot), {"role": "assistant", "content": shot.reference}]
    last = max((i for i, m in enumerate(rest) if m["role"] == "user"), default=None)
    messages += [_user(spec, example) if i == last else m for i, m in enumerate(rest)]
    return replace(example, messages=messages, is_text=False)


def user_turn(spec: SystemSpec, question: str, passage: str) -> str:
    """Return the user's turn, made from the question and, if there is one, the passage."""
    template = spec.template
    if template is None:
        template = f"{PASSAGE}\n\n{QUESTION}" if spec.passages else QUESTION
    elif spec.passages and PASSAGE not in template:
        template = f"{PASSAGE}\n\n{template}"
    return filled(template, question, passage)


def filled(template: str, question: str, passage: str) -> str:
    """Return a template with its question and passage."""
    # One pass: what a text brings in braces is not replaced again.
    before, _, after = template.partition(QUESTION)
    before, after = (piece.replace(PASSAGE, passage) for piece in (before, after))
    return f"{before}{question}{after}"


def _user(spec: SystemSpec, example: HeldOut) -> Message:
    passage = example.row.get(spec.passages) if spec.passages else ""
    if isinstance(passage, list):
        passage = "\n\n".join(map(str, passage))
    if spec.passages and not (isinstance(passage, str) and passage.strip()):
        problem = f"has no text in the passage field {spec.passages!r}"
        raise BadData("the dataset", problem, "set passages to a field of every row", example.line)
    return {"role": "user", "content": user_turn(spec, question_of(example), str(passage))}
