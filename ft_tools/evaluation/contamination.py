"""Find held-out examples that a model was trained on, or that another system learned or saw."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ft_tools import facts, workspace
from ft_tools.errors import FineTuningError, NotFound
from ft_tools.evaluation.held_out import HeldOut, asked_and_answered
from ft_tools.evaluation.metrics.measures import normalise, words
from ft_tools.evaluation.report import Contamination
from ft_tools.evaluation.systems.asking import read_pool
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.formats.training_rows import read_examples
from ft_tools.formats.wordings import has_few_wordings, wordings_of, words_in
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.state import directory

GRAM = 5
MIN_GRAMS = 4
# Words beside numbers and names that a masked question needs.
MIN_PLAIN_WORDS = 4
MAX_LINES = 5
# Word sequences that more than this part of the held-out examples have are left out.
COMMON = 0.2
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
MIN_SENTENCE_WORDS = 6
MAX_WORDED = 4_000
"""Training questions whose wordings are looked for."""

Pools = dict[Path, list[HeldOut]]
"""File of examples -> its rows that systems learn from or are shown."""


@dataclass(frozen=True)
class Alike:
    """Lines of held-out examples that resemble a learned one, each under one kind."""

    exact: set[int]
    near: set[int]
    twins: set[int]
    sentences: set[int]
    wordings: set[int]

    @property
    def lines(self) -> set[int]:
        """Return all of them."""
        return self.exact | self.near | self.twins | self.sentences | self.wordings


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
        lineage = directory.read_info(run_dir).lineage
        run_id = lineage.get("parent_run", "")
    return there, gone


def chose_the_checkpoint(source: ModelSource, held_out: Path, digest: str) -> bool:
    """Tell whether a run picked its checkpoint by the file it is now measured on, or a copy.

    Args:
        source: The model.
        held_out: The file.
        digest: Its sha256.
    """
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
    named = [spec.examples for spec in systems if spec.examples]
    return {
        workspace.existing(shots.path): read_pool(shots, held_out_path, held_out).examples
        for shots in {shots.path: shots for shots in named}.values()
    }


def find_contamination(
    held_out: Sequence[HeldOut],
    files: Sequence[Path],
    not_checked: Sequence[str] = (),
    pools: Mapping[Path, Sequence[HeldOut]] | None = None,
) -> Contamination:
    """Compare held-out examples with training files and pools, word for word and nearly so."""
    others = {path: pool for path, pool in (pools or {}).items() if path not in files}
    alike = find_alike(held_out, files, others.values())
    return Contamination(
        checked_against=[str(path) for path in files],
        learned_from=[str(path) for path in others],
        not_checked=list(not_checked),
        num_exact=len(alike.exact),
        num_near=len(alike.near),
        num_twins=len(alike.twins),
        num_sentence_twins=len(alike.sentences),
        num_same_wording=len(alike.wordings),
        lines=sorted(alike.lines)[:MAX_LINES],
    )


def find_alike(
    held_out: Sequence[HeldOut], files: Iterable[Path], pools: Iterable[Sequence[HeldOut]]
) -> Alike:
    """Return which held-out examples resemble one of some files or pools."""
    masked: set[str] = set()
    sentences: set[str] = set()
    asked: list[str] = []

    def pairs() -> Iterator[tuple[str, str]]:
        shown = (one.row for pool in pools for one in pool)
        for row in chain(shown, *map(_rows, files)):
            for question, answer in asked_and_answered(row):
                masked.add(mask(question))
                sentences.update(_sentences(question))
                asked.append(question)
                yield question, answer

    exact, near = overlaps(held_out, pairs())
    twins = {one.line for one in held_out if mask(one.asked) in masked - {""}} - exact
    longest = {one.line: max(_sentences(one.asked), key=len, default="") for one in held_out}
    # What many questions share is the wording of the task.
    common = {s for s, n in Counter(longest.values()).items() if n > max(1, COMMON * len(longest))}
    partly = {line for line, one in longest.items() if one in sentences - common}
    copies = exact | near | twins
    worded = _same_wording(held_out, asked) - copies - partly
    return Alike(exact, near - exact - twins, twins, partly - copies, worded)


def _same_wording(held_out: Sequence[HeldOut], asked: Sequence[str]) -> set[int]:
    """Return the lines of questions in the wording of a training question.

    Empty where neither the held-out questions nor all together follow few templates.
    """
    learned = asked[:: 1 + len(asked) // MAX_WORDED]
    questions = [one.asked for one in held_out]
    if not (has_few_wordings(questions) or has_few_wordings([*questions, *learned])):
        return set()
    found = wordings_of([words_in(question) for question in (*learned, *questions)])
    known = set(found[: len(learned)]) - {0}
    return {
        one.line for one, of in zip(held_out, found[len(learned) :], strict=True) if of in known
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return (row for _, row in read_examples(path))


def mask(question: str) -> str:
    """Return a question without case, with `#` for what has digits and `@` for names.

    A name is a capitalised word that begins no sentence. Questions with fewer than four other
    words are not masked: too much would be alike.

    >>> mask("Order K4711 of Ada Byron did not arrive.")
    'order # of @ @ did not arrive.'
    """
    found, begins = [], True
    for word in question.split():
        bare = word.strip(".,:;!?()\"'")
        if any(c.isdigit() for c in bare):
            found.append("#")
        elif not begins and bare[:1].isupper():
            found.append("@")
        else:
            found.append(normalise(word))
        begins = word.endswith((".", "!", "?", ":"))
    plain = sum(word not in {"#", "@"} for word in found)
    return " ".join(found) if plain >= MIN_PLAIN_WORDS and plain < len(found) else ""


def _sentences(question: str) -> set[str]:
    """Return the sentences of a question that are long enough to know it by, masked as by `mask`.

    >>> sorted(_sentences("Hi. The lid of order 7 does not close any more. Thanks!"))
    ['the lid of order # does not close any more.']
    """
    found = set()
    for sentence in SENTENCE_END.split(question):
        plain = mask(sentence) or normalise(sentence)
        if len(plain.split()) >= MIN_SENTENCE_WORDS:
            found.add(plain)
    return found


def overlaps(
    held_out: Sequence[HeldOut], training: Iterable[tuple[str, str]]
) -> tuple[set[int], set[int]]:
    """Return the lines that training repeats exactly, and those that it nearly repeats.

    Exact: the question is the same but for case and spaces. Near: most of the word sequences of
    question and answer are in one training example (`evaluation.near_copy`).
    """
    enough = facts.number("evaluation.near_copy")
    asked: dict[str, list[int]] = {}
    index: dict[tuple[str, ...], list[int]] = {}
    for example in held_out:
        asked.setdefault(normalise(example.asked), []).append(example.line)
        for gram in _grams(f"{example.asked}\n{example.reference}"):
            index.setdefault(gram, []).append(example.line)
    # What many examples share is the wording of the task, and says nothing of a leak.
    most = max(1, int(COMMON * len(held_out)))
    index = {gram: lines for gram, lines in index.items() if len(lines) <= most}
    sizes = Counter(line for lines in index.values() for line in lines)
    exact: set[int] = set()
    near: set[int] = set()
    for question, answer in training:
        exact.update(asked.get(normalise(question), ()) if question.strip() else ())
        shared: dict[int, int] = {}
        for gram in _grams(f"{question}\n{answer}"):
            for line in index.get(gram, ()):
                shared[line] = shared.get(line, 0) + 1
        near.update(
            line
            for line, count in shared.items()
            if sizes[line] >= MIN_GRAMS and count >= enough * sizes[line]
        )
    return exact, near


def answer_grams(files: Sequence[Path], size: int, limit: int) -> set[tuple[str, ...]]:
    """Return the word sequences of the training answers, at most about `limit` of them."""
    found: set[tuple[str, ...]] = set()
    for path in files:
        for _, row in read_examples(path):
            for _, answer in asked_and_answered(row):
                found |= _grams(answer, size)
                if len(found) >= limit:
                    return found
    return found


def _grams(text: str, size: int = GRAM) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + size]) for i in range(len(found) - size + 1)}
