"""Rows that a run of this workspace was trained on, by content: they never become test rows."""

import contextlib
import json
from functools import lru_cache
from pathlib import Path

from ft_tools import workspace
from ft_tools.errors import FineTuningError
from ft_tools.formats.formats import normalise
from ft_tools.formats.remembered_test_sets import TestRows, keys_of
from ft_tools.formats.training_rows import read_examples

PLANS = ("sft-*/plan.json", "dpo-*/plan.json")
MOST_BYTES = 256 * 2**20
"""Of training files that are read; the newest runs come first."""


def trained_rows() -> TestRows:
    """Return the rows of the training files of runs, as far as the files are still there."""
    plans = [plan for pattern in PLANS for plan in workspace.runs_dir().glob(pattern)]
    files: dict[Path, str] = {}
    for plan in sorted(plans, key=lambda one: -one.stat().st_mtime):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            path = Path(json.loads(plan.read_text(encoding="utf-8"))["dataset"]["path"])
            if path.is_file():
                files.setdefault(path, plan.parent.name)
    known: dict[int, str] = {}
    left = MOST_BYTES
    for path, run in files.items():
        status = path.stat()
        left -= status.st_size
        if left >= 0:
            known |= dict.fromkeys(_asked_in(path, status.st_mtime_ns), run)
    return TestRows(known)


@lru_cache(maxsize=8)
def _asked_in(path: Path, changed_ns: int) -> frozenset[int]:
    """Return hashes of what the rows of a training file ask; `changed_ns` has it read again."""
    with contextlib.suppress(FineTuningError):
        keys = [keys_of(normalise(line, row)) for line, row in read_examples(path)]
        return frozenset(question or both for question, both in keys)
    return frozenset()
