"""Find held-out examples that a model was trained on, or that another system learned or saw."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ft_tools import facts, workspace
from ft_tools.errors import FineTuningError, NotFound
from ft_tools.evaluation.held_out import HeldOut, asked_and_answered
from ft_tools.evaluation.report import Contamination
from ft_tools.evaluation.systems.asking import read_pool
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.formats.training_rows import read_examples
from ft_tools.metrics.text import normalise, words
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.state import directory

GRAM = 5
MIN_GRAMS = 4
# Words beside those with digits that make a question with other numbers the same one.
MIN_PLAIN_WORDS = 4
MAX_LINES = 5
# Word sequences that more than this part of the held-out examples have are the task's wording.
COMMON = 0.2

Pools = dict[Path, list[HeldOut]]
"""File of examples -> its rows that systems learn from or are shown."""


def training_files(source: ModelSource) -> tuple[list[Path], list[str]]:
    """Return the files that a model's run and the runs before it were trained on.

    Returns:
        Those that are there, and the names of those that are not.
    """
    there: list[Path] = []
    gone: list[str] = []
    run_id, seen = source.run_id, set[str]()
    while run_id and run_id not in seen:
        seen.add(run_id)
        try:
            run_dir = directory.find(run_id)
        except NotFound:
            gone.append(f"the data of run {run_id}")
            break
        plan = directory.read_json(run_dir / "plan.json") or {}
        dataset = plan.get("dataset")
        named = dataset.get("path") if isinstance(dataset, dict) else dataset
        if isinstance(named, str):
            try:
                there.append(workspace.existing(named))
            except FineTuningError:
                # Gone, or outside the folders that may be read now.
                gone.append(named)
        run_id = directory.read_info(run_dir).lineage.get("parent_run", "")
    return there, gone


def chose_the_checkpoint(source: ModelSource, held_out: Path, digest: str) -> bool:
    """Return whether a run selected its checkpoint on the held-out file, or a copy of it."""
    if source.run_id is None:
        return False
    plan = directory.read_json(directory.find(source.run_id) / "plan.json") or {}
    validation = plan.get("validation")
    if not isinstance(validation, dict):
        return False
    return validation.get("path") == str(held_out) or validation.get("sha256") == digest


def pools_of(
    systems: Sequence[SystemSpec], held_out_path: Path, held_out: Sequence[HeldOut]
) -> Pools:
    """Read what systems learn from or are shown, without the held-out questions themselves.

    Raises:
        BadData: A row is no example; file and line are named.
        BadInput: The file is the held-out file, or nothing is left of it.
    """
    named = {spec.examples.path: spec.examples for spec in systems if spec.examples}
    return {
        workspace.existing(shots.path): read_pool(shots, held_out_path, held_out).examples
        for shots in named.values()
    }


def find_contamination(
    held_out: Sequence[HeldOut], files: Sequence[Path], not_checked: Sequence[str], pools: Pools
) -> Contamination:
    """Compare held-out examples with training files and pools."""
    others = {path: pool for path, pool in pools.items() if path not in files}
    exact, near = learned_lines(held_out, files, others.values())
    return Contamination(
        checked_against=[str(path) for path in files],
        learned_from=[str(path) for path in others],
        not_checked=list(not_checked),
        num_exact=len(exact),
        num_near=len(near),
        lines=sorted(exact | near)[:MAX_LINES],
    )


def learned_lines(
    held_out: Sequence[HeldOut], files: Iterable[Path], pools: Iterable[Sequence[HeldOut]]
) -> tuple[set[int], set[int]]:
    """Return the lines that files or pools repeat exactly, and the others that they nearly repeat.

    Exact: the question is the same but for case and spaces. Near: numbers aside it is the same, or
    most of the word sequences of question and answer are in one training example
    (`evaluation.near_copy`).
    """
    enough = facts.number("evaluation.near_copy")
    asked: dict[str, list[int]] = {}
    numbered: dict[str, list[int]] = {}
    index: dict[tuple[str, ...], list[int]] = {}
    for example in held_out:
        asked.setdefault(normalise(example.asked), []).append(example.line)
        numbered.setdefault(numbers_aside(example.asked), []).append(example.line)
        for gram in _grams(f"{example.asked}\n{example.reference}"):
            index.setdefault(gram, []).append(example.line)
    most = max(1, int(COMMON * len(held_out)))
    index = {gram: lines for gram, lines in index.items() if len(lines) <= most}
    sizes = Counter(line for lines in index.values() for line in lines)
    exact: set[int] = set()
    near: set[int] = set()
    for question, answer in _pairs(files, pools):
        exact.update(asked.get(normalise(question), ()) if question.strip() else ())
        near.update(numbered.get(numbers_aside(question) or " ", ()))
        shared = Counter(
            line for gram in _grams(f"{question}\n{answer}") for line in index.get(gram, ())
        )
        near.update(
            line
            for line, count in shared.items()
            if sizes[line] >= MIN_GRAMS and count >= enough * sizes[line]
        )
    return exact, near - exact


def numbers_aside(question: str) -> str:
    """Return a question with # for each word with a digit; empty with few other words or none such.

    >>> numbers_aside("Where is my parcel K4711?"), numbers_aside("What is 7 + 5?")
    ('where is my parcel #', '')
    """
    words_ = [
        "#" if any(c.isdigit() for c in word) else word for word in normalise(question).split()
    ]
    num_plain = sum(word != "#" for word in words_)
    return " ".join(words_) if MIN_PLAIN_WORDS <= num_plain < len(words_) else ""


def _pairs(files: Iterable[Path], pools: Iterable[Sequence[HeldOut]]) -> Iterator[tuple[str, str]]:
    shown: Iterator[dict[str, Any]] = (one.row for pool in pools for one in pool)
    read = (row for path in files for _, row in read_examples(path))
    return (pair for row in chain(shown, read) for pair in asked_and_answered(row))


def _grams(text: str) -> set[tuple[str, ...]]:
    """Return the sequences of words, each word with a digit as #."""
    found = ["#" if any(c.isdigit() for c in word) else word for word in words(text)]
    return {tuple(found[i : i + GRAM]) for i in range(len(found) - GRAM + 1)}
