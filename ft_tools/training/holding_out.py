"""Rows held out for validation where the caller names no file of them.

A run that is not watched may not repeat its rows, and keeps its last model whether or not it is the
best. The parts are files of the workspace, named by the dataset's hash, so that the run, a resumed
run and an exported script all read the same ones.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.errors import BadData, OutputExists
from ft_tools.examples.training_rows import DatasetFacts, read_examples, survey
from ft_tools.examples.trl_formats import Task
from ft_tools.publish import new_folder, verify, write_file

FOLDER = "held_out"
TRAIN, VALIDATION = "train.jsonl", "validation.jsonl"
MOST_BYTES = 64 * 2**20
"""Larger files have rows enough for one epoch, which needs no validation."""
HELD_OUT_LEAST = 20
"""Rows from which on some are held out for validation."""
PREFERENCES_LEAST = 100
"""The same of preferences, which are seen once anyway."""
HELD_OUT_FRACTION, HELD_OUT_FEWEST, HELD_OUT_MOST = 0.1, 20, 500
FEW_FRACTION = 0.2
"""At most this part, so that few rows are left to train on; they are repeated then."""
SCHEDULE = ("num_train_epochs", "max_steps", "eval_strategy")


def least_rows(task: Task) -> int:
    """Return the rows from which on some are held out."""
    return HELD_OUT_LEAST if task == "sft" else PREFERENCES_LEAST


def held_out_rows(num_examples: int, task: Task = "sft") -> int:
    """Return how many of so many rows are held out where no validation file is given.

    >>> [held_out_rows(rows) for rows in (19, 20, 60, 100, 300, 10**6)]
    [0, 4, 12, 20, 30, 500]
    >>> held_out_rows(99, "dpo"), held_out_rows(100, "dpo")
    (0, 20)
    """
    if num_examples < least_rows(task):
        return 0
    least = min(HELD_OUT_FEWEST, round(FEW_FRACTION * num_examples))
    return min(max(round(HELD_OUT_FRACTION * num_examples), least), HELD_OUT_MOST)


def hold_out(
    dataset: DatasetFacts, task: Task, given: Mapping[str, Any]
) -> tuple[DatasetFacts, DatasetFacts] | None:
    """Hold rows out of a file, if its schedule is left open and it has rows enough.

    Rows with the same prompt go to the same part.

    Returns:
        The rows to train on and the others; None if all are trained on, as where too many have
        the same prompt.

    Raises:
        BadData: The parts were changed.
    """
    if any(name in given for name in SCHEDULE) or not held_out_rows(dataset.num_examples, task):
        return None
    folder = workspace.runs_dir() / FOLDER / dataset.sha256[:16]
    if not folder.exists():
        lines, held = _parts(dataset, task)
        if not held:
            return None
        # Another call for the same file may have written the same parts meanwhile.
        with contextlib.suppress(OutputExists):
            _write(lines, held, folder)
    elif verify(folder):
        raise BadData(folder, "was changed", "remove the folder; it is written again")
    return survey(folder / TRAIN, task), survey(folder / VALIDATION, task)


def num_held_out(dataset: DatasetFacts, task: Task) -> int:
    """Return how many rows a launch holds out of a file whose schedule is left open."""
    lines, held = _parts(dataset, task)
    return sum(len(lines[group]) for group in held)


def validation_beside(dataset: Path) -> Path | None:
    """Return the validation file beside the training file of an audit or a preparation."""
    beside = dataset.with_name(VALIDATION)
    return beside if dataset.name == TRAIN and beside.is_file() else None


def _parts(dataset: DatasetFacts, task: Task) -> tuple[dict[str, list[bytes]], set[str]]:
    """Return a file's rows by prompt, and the prompts that are held out; none in large files."""
    number, source = held_out_rows(dataset.num_examples, task), Path(dataset.path)
    if not number or source.stat().st_size > MOST_BYTES:
        return {}, set()
    lines = _by_prompt(source)
    return lines, _chosen(lines, number)


def _by_prompt(source: Path) -> dict[str, list[bytes]]:
    lines: dict[str, list[bytes]] = {}
    for _, example in read_examples(source):
        text = json.dumps(example).encode()
        lines.setdefault(_group(example), []).append(text)
    return lines


def _chosen(lines: Mapping[str, list[bytes]], number: int) -> set[str]:
    """Choose prompts with at most so many rows together."""
    held: set[str] = set()
    count = 0
    for group in sorted(lines):
        # The largest group may be the whole file.
        if count + len(lines[group]) <= number:
            held.add(group)
            count += len(lines[group])
    return held


def _write(lines: Mapping[str, list[bytes]], held: set[str], folder: Path) -> None:
    with new_folder(folder) as staging:
        for name, is_held in ((TRAIN, False), (VALIDATION, True)):
            parts = [rows for group, rows in lines.items() if (group in held) is is_held]
            write_file(staging / name, b"".join(line + b"\n" for rows in parts for line in rows))


def _group(example: Mapping[str, Any]) -> str:
    """Name the prompt of an example by a hash, which also shuffles."""
    prompt = example.get("prompt", example.get("text"))
    if prompt is None:
        turns = example.get("messages") or example.get("chosen") or []
        prompt = turns[:-1] if isinstance(turns, list) else turns
    text = json.dumps(prompt, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
