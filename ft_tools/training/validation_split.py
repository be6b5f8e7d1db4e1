"""Rows held out for validation where the caller names no file of them.

A run that is not watched may not repeat its rows, and keeps its last model whether or not it is the
best. The parts are files of the workspace, named by the dataset's hash, so that the run, a resumed
run and an exported script all read the same ones.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.data.read.example_texts import text_of
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.read.spread import Spread
from ft_tools.data.request import AuditRequest
from ft_tools.data.split.parts import Shares, split
from ft_tools.errors import BadData, OutputExists
from ft_tools.formats.example import Example
from ft_tools.formats.formats import normalise
from ft_tools.formats.training_rows import DatasetFacts, read_examples, survey
from ft_tools.formats.trl_formats import Task
from ft_tools.publish import new_folder, verify, write_file
from ft_tools.similarity.word_hashes import tokens_in
from ft_tools.similarity.wordings import MOST_DRAWN, num_templated
from ft_tools.similarity.words import NUM_PARTS

FOLDER = "held_out"
BY_WORDING = "-by-wording"
"""Parts without it are of earlier versions, for runs that are resumed."""
TRAIN, VALIDATION = "train.jsonl", "validation.jsonl"
MOST_BYTES = 64 * 2**20
"""Larger files have rows enough for one epoch, which needs no validation."""
HELD_OUT_LEAST = 20
"""Rows from which on some are held out for validation."""
PREFERENCES_LEAST = 100
"""The same of preferences, which are seen once anyway."""
HELD_OUT_FRACTION, HELD_OUT_FEWEST, HELD_OUT_MOST = 0.1, 20, 500
PROMPTS_MOST = 64
"""Held-out prompts: each evaluation of a reinforcement run writes several answers to each."""
FEW_FRACTION = 0.2
"""At most this part, so that few rows are left to train on; they are repeated then."""
READ_AT_ONCE = 250
"""Rows of which the words are read together."""
SCHEDULE = ("num_train_epochs", "max_steps", "eval_strategy")


def least_rows(task: Task) -> int:
    """Return the rows from which on some are held out."""
    return HELD_OUT_LEAST if task in {"sft", "grpo"} else PREFERENCES_LEAST


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
    most = PROMPTS_MOST if task == "grpo" else HELD_OUT_MOST
    return min(max(round(HELD_OUT_FRACTION * num_examples), least), most)


def hold_out(
    dataset: DatasetFacts, task: Task, given: Mapping[str, Any]
) -> tuple[DatasetFacts, DatasetFacts] | None:
    """Hold rows out of a file, if its schedule is left open and it has rows enough.

    They are chosen as an audit chooses its validation part: rows with the same first question go to
    the same part, and of prompts that follow few templates whole wordings, where two fit.

    Returns:
        The rows to train on and the others; None if all are trained on, as where too many have
        the same prompt.
    """
    if any(name in given for name in SCHEDULE) or not held_out_rows(dataset.num_examples, task):
        return None
    kind = BY_WORDING + ("-prompts" if task == "grpo" else "")
    folder = workspace.runs_dir() / FOLDER / f"{dataset.sha256[:16]}{kind}"
    if not folder.exists():
        held = _held(dataset, task)
        if not held:
            return None
        # Another call for the same file may have written the same parts meanwhile.
        with contextlib.suppress(OutputExists):
            _write(Path(dataset.path), held, folder)
    elif verify(folder):
        raise BadData(folder, "was changed", "remove the folder; it is written again")
    # What reads a column, and what was decided of it, holds for the parts.
    same = {"undecided_columns": dataset.undecided_columns, "unread": dataset.unread}
    train, validation = (survey(folder / name, task) for name in (TRAIN, VALIDATION))
    return train.model_copy(update=same), validation.model_copy(update=same)


def num_held_out(dataset: DatasetFacts, task: Task) -> int:
    """Return how many rows a launch holds out of a file whose schedule is left open."""
    return len(_held(dataset, task))


def validation_beside(dataset: Path) -> Path | None:
    """Return the validation file beside the training file of an audit or a preparation."""
    beside = dataset.with_name(VALIDATION)
    return beside if dataset.name == TRAIN and beside.is_file() else None


def _held(dataset: DatasetFacts, task: Task) -> set[int]:
    """Choose the rows that are held out of a file; none of a large one."""
    number, source = held_out_rows(dataset.num_examples, task), Path(dataset.path)
    if not number or source.stat().st_size > MOST_BYTES:
        return set()
    return _chosen((normalise(line, row) for line, row in read_examples(source)), number)


def _chosen(examples: Iterable[Example], num_rows: int) -> set[int]:
    """Choose about so many rows, of which nothing, and nothing similar, is trained.

    Rows that ask the same first, or nearly so, stay together; where prompts follow few templates,
    whole templates are held out.
    """
    # numpy comes with it, which tools that compare nothing do without.
    from ft_tools.similarity.by_words import Lexical

    ledger, prompts = Ledger(with_pairs=True), Spread[str](MOST_DRAWN)
    rows = iter(examples)
    while batch := list(islice(rows, READ_AT_ONCE)):
        said = []
        for example in batch:
            asked, answered = example.prompt_and_answer()
            prompt, answer = text_of(asked), text_of(answered)
            is_marked = example.task == "kto"
            key = f"kto {example.label}" if is_marked else str(len(answer).bit_length())
            ledger.add(example, (0, 0), key)
            prompts.add(partial(str, prompt))
            said += [prompt, *[""] * (NUM_PARTS - 1)]
        ledger.add_words(tokens_in(said))
    Lexical(ledger).link_near_prompts()
    kept = range(len(ledger))
    seed = AuditRequest.model_fields["seed"].default
    few = num_templated(prompts.items, prompts.num_seen) > 0
    shares = Shares(num_rows / max(1, len(kept)), seed=seed)
    return split(ledger, kept, shares, few_wordings=few).validation


def _write(source: Path, held: set[int], folder: Path) -> None:
    def lines(*, is_held: bool) -> Iterator[bytes]:
        for at, (_, example) in enumerate(read_examples(source)):
            if (at in held) is is_held:
                yield json.dumps(example).encode() + b"\n"

    with new_folder(folder) as staging:
        write_file(staging / TRAIN, b"".join(lines(is_held=False)))
        write_file(staging / VALIDATION, b"".join(lines(is_held=True)))
