"""Exact variations: rows whose answer is known, changed as `evaluate` changes its questions."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from ft_tools.creation.request import CreateRequest, VariedCopies
from ft_tools.creation.rows import Made, Message, Row
from ft_tools.evaluation.held_out import HeldOut, question_of, read_held_out
from ft_tools.evaluation.stress import changed
from ft_tools.formats.origin import Origin


def varied_rows(request: CreateRequest, path: Path, digest: str) -> Made:
    """Return the rows of a file, then their copies under each change; no two are the same.

    Raises:
        BadData: A line is no example with an answer.
    """
    examples, made = read_held_out(path), dict[str, Row]()
    found = [(one, one, "") for one in examples]
    for change in request.variations:
        found += [(*pair, change.name) for pair in _copies(examples, change, request.seed)]
    for example, varied, name in found:
        where = f"{request.source}:{example.line}"
        kind = "variations" if name else "source"
        origin = Origin.model_validate(
            {"kind": kind, "source": where, "source_sha256": digest, "change": name}
        )
        messages = [*varied.messages, _answer(example, varied)]
        row = Row(origin, messages, question_of(varied), where, varied.tools)
        row.mask()
        made.setdefault(row.key, row)
    return Made([*made.values()])


def _copies(
    examples: Sequence[HeldOut], one: VariedCopies, seed: int
) -> Iterator[tuple[HeldOut, HeldOut]]:
    """Yield a share of the rows with each of their copies, in their order."""
    order = random.Random(f"{seed}\x1f{one.name}").sample(range(len(examples)), len(examples))
    for at in sorted(order[: max(1, round(one.share * len(examples)))]):
        for copy in range(one.copies):
            if (found := changed(examples[at], one, seed + copy)) is not None:
                yield examples[at], found


def _answer(example: HeldOut, varied: HeldOut) -> Message:
    """Return the answer as a message; that of a swapped value has the new one, in calls too."""
    if varied.reference == example.reference and example.answer:
        return example.answer
    if calls := example.answer.get("tool_calls"):
        changed_calls = zip(calls, json.loads(varied.reference), strict=True)
        made = [old | {"function": new} if "function" in old else new for old, new in changed_calls]
        return example.answer | {"tool_calls": made}
    return {"role": "assistant", "content": varied.reference}
