"""Count how often the rows of a test set were looked at, by what they ask, not by their file.

Each evaluation that reports is a look. Whoever changes a model after each look and reports the best
one has to widen its interval for all that the looks told: k scores and k - 1 choices, so that each
interval may miss 0.05 / (2 k - 1) of the time (Bonferroni). With 0.05 / k the best of ten models,
each made from the best before it, is covered in 92 of 100 cases only.
"""

import contextlib
import json
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path

from ft_tools import workspace
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.formats.formats import normalise
from ft_tools.formats.remembered_test_sets import keys_of
from ft_tools.publish import append_line, private_folder

FILE = Path(".fine-tuning-llm") / "looks.jsonl"
SEEN = 0.5
"""Part of the rows that an earlier evaluation has to have seen to count as a look at them."""
MOST = 10
"""Looks after which the report asks for fresh rows. Judgement: the 11th interval is 1.55 times as
wide as the first."""


def asked_by(examples: Iterable[HeldOut]) -> frozenset[int]:
    """Return hashes of what rows ask, whatever their order and the names of their fields."""
    keys = (keys_of(normalise(example.line, example.row)) for example in examples)
    return frozenset(question or both for question, both in keys)


def earlier_looks(asked: frozenset[int], run_id: str = "") -> int:
    """Return how many evaluations of the workspace saw at least half of these rows.

    Args:
        asked: Of `asked_by`.
        run_id: The evaluation that asks, which is no look before itself.
    """
    path, seen = workspace.roots()[0] / FILE, set[str]()
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        # A torn line is of a process that was killed.
        with contextlib.suppress(ValueError, LookupError, TypeError):
            look = json.loads(line)
            shared = asked.intersection(array("Q", b64decode(look["asked"])))
            if look["run"] != run_id and len(shared) >= SEEN * len(asked):
                seen.add(look["run"])
    return len(seen)


def remember_look(asked: frozenset[int], run_id: str) -> None:
    """Write down that an evaluation reported on these rows."""
    path = workspace.roots()[0] / FILE
    private_folder(path.parent)
    packed = b64encode(array("Q", sorted(asked)).tobytes()).decode()
    append_line(path, json.dumps({"run": run_id, "asked": packed}))
