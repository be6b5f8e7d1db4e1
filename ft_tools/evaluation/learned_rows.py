"""Held-out examples that a model was trained on, or that another system learned or saw."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from ft_tools import facts, workspace
from ft_tools.errors import FineTuningError, NotFound
from ft_tools.evaluation.held_out import HeldOut, asked_and_answered
from ft_tools.evaluation.report import Contamination
from ft_tools.evaluation.systems.asking import read_pool
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.formats.training_rows import read_examples
from ft_tools.metrics.text import normalise
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.state import directory
from ft_tools.similarity.ngrams import ContainmentIndex, without_numbers

GRAM = 5
MIN_GRAMS = 4
# Words beside those with digits that make a question with other numbers the same one.
MIN_PLAIN_WORDS = 4
MAX_LINES = 5
# Word sequences that more than this part of the held-out examples have are the task's wording.
COMMON = 0.2


def training_files(source: ModelSource) -> tuple[list[Path], list[str]]:
    """Return the files of a model's run and the runs before it, and the names of those gone."""
    there, gone = list[Path](), list[str]()
    run_id = source.run_id
    while run_id:
        try:
            run_dir = directory.find(run_id)
        except NotFound:
            gone.append(f"the data of run {run_id}")
            break
        dataset = directory.whole_json(run_dir / "plan.json").get("dataset")
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
    validation = directory.plan_of(source.run_id).get("validation")
    known = validation if isinstance(validation, dict) else {}
    return known.get("path") == str(held_out) or known.get("sha256") == digest


def find_contamination(
    held_out: Sequence[HeldOut],
    path: Path,
    sources: Iterable[ModelSource],
    systems: Sequence[SystemSpec],
) -> Contamination:
    """Compare held-out examples with what models were trained on and systems learn from.

    Raises:
        BadData: A row is no example; file and line are named.
        BadInput: What a system learns from is the held-out file, or nothing is left of it.
    """
    found = [training_files(source) for source in sources if source.run_id]
    files = list(dict.fromkeys(file for there, _ in found for file in there))
    gone = list(dict.fromkeys(name for _, missing in found for name in missing))
    named = {workspace.existing(spec.examples.path): None for spec in systems if spec.examples}
    others = [other for other in named if other not in files]
    exact, near = learned_lines(held_out, path, files, systems)
    return Contamination(
        checked_against=[str(file) for file in files],
        learned_from=[str(file) for file in others],
        not_checked=gone,
        num_exact=len(exact),
        num_near=len(near),
        lines=sorted(exact | near)[:MAX_LINES],
    )


def learned_lines(
    held_out: Sequence[HeldOut], path: Path, files: Sequence[Path], systems: Sequence[SystemSpec]
) -> tuple[set[int], set[int]]:
    """Return the lines that were learned exactly, and the others that nearly were.

    Exact: the question is the same but for case and spaces. Near: numbers aside it is the same, or
    most of the word sequences of question and answer are in one training example
    (`evaluation.near_copy`). Of what systems learn from or are shown, held-out questions are not
    used.
    """
    shots = {spec.examples.path: spec.examples for spec in systems if spec.examples}
    pools = [
        read_pool(one, path, held_out).examples
        for one in shots.values()
        if workspace.existing(one.path) not in files
    ]
    rows = [one.row for pool in pools for one in pool]
    enough = facts.number("evaluation.near_copy")
    asked: dict[str, list[int]] = {}
    for example in held_out:
        for key in {normalise(example.asked), numbers_aside(example.asked)} - {""}:
            asked.setdefault(key, []).append(example.line)
    texts = ((one.line, f"{one.asked}\n{one.reference}") for one in held_out)
    known = ContainmentIndex(texts, GRAM, COMMON)
    exact, near = set[int](), set[int]()
    trained = (row for file in files for _, row in read_examples(file))
    for row in chain(rows, trained):
        for question, answer in asked_and_answered(row):
            exact.update(asked.get(normalise(question), ()))
            near.update(asked.get(numbers_aside(question), ()))
            near |= known.contained_in(f"{question}\n{answer}", enough, MIN_GRAMS)
    return exact, near - exact


def numbers_aside(question: str) -> str:
    """Return a question with # for each word with a digit; empty with few other words or none such.

    >>> numbers_aside("Where is my parcel K4711?"), numbers_aside("What is 7 + 5?")
    ('where is my parcel #', '')
    """
    found = without_numbers(normalise(question).split())
    num_plain = sum(word != "#" for word in found)
    return " ".join(found) if MIN_PLAIN_WORDS <= num_plain < len(found) else ""
