"""Write what was decided: the second pass over the input. Nothing of the input is changed."""

import json
from collections import Counter
from collections.abc import Sequence, Set
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from typing import Any

from ft_tools.data.judge import privacy
from ft_tools.data.map.masking import mask_example
from ft_tools.data.read.scan import TICK_ROWS, Scan, Tick
from ft_tools.data.report import Outputs
from ft_tools.formats.example import Example
from ft_tools.formats.loss_marks import as_prompt, up_to_the_answer
from ft_tools.formats.test_sets import keys_of


class Part(IntEnum):
    """Where a row goes."""

    REMOVED = 0
    TRAIN = 1
    VALIDATION = 2
    TEST = 3
    UNLABELLED = 4


NAMES = {part: f"{part.name.lower()}.jsonl" for part in Part}
CLEANED = (Part.TRAIN, Part.VALIDATION, Part.REMOVED)
"""The files of an audit."""
_ENCODE = json.JSONEncoder(ensure_ascii=False, default=str).encode


def write_rows(
    scan: Scan,
    parts: Sequence[int],
    staging: Path,
    tick: Tick,
    *,
    files: Sequence[Part] = tuple(Part),
    to_mask: Set[int] = frozenset(),
) -> list[tuple[int, int]]:
    """Write each row into the file of its part; together the files hold all rows of the input.

    In the examples `to_mask` personal data is masked, beside what was masked in all. Returns what
    the rows of the test part are known by.

    Raises:
        BadData: The input changed since it was scanned.
    """
    test_keys = []
    with ExitStack() as stack:
        opened = {
            part: stack.enter_context(
                (staging / NAMES[part]).open("w", encoding="utf-8", newline="\n")
            )
            for part in files
        }
        for index, row in scan.read_again():
            part = Part(parts[index])
            part = part if part in opened else Part.REMOVED
            if part is Part.REMOVED:
                made = _left_out(scan, index)
            elif part is Part.UNLABELLED:
                value = row.value if scan.mapping.mask == [] else privacy.mask_all(row.value, {})
                made = _left_out(scan, index) | {"example": value}
            else:
                example = scan.example_of(scan.ledger.lines[index], row.value)
                if part is Part.TEST:
                    test_keys.append(keys_of(example))
                made = _cleaned(scan, example, is_masked=index in to_mask)
            try:
                opened[part].write(_ENCODE(made) + "\n")
            except RecursionError:
                # A row without an answer may be as deep as could be read: here it is one deeper.
                opened[part].write(json.dumps(made | {"example": None}) + "\n")
            if index % TICK_ROWS == 0:
                tick(index)
    return test_keys


def outputs_in(
    folder: Path, parts: Sequence[int], files: Sequence[Part] = tuple(Part), **others: str | None
) -> Outputs:
    """Name the files of a folder, with their rows."""
    counts = Counter(part if part in files else Part.REMOVED for part in map(Part, parts))
    named = {part.name.lower(): str(folder / NAMES[part]) for part in files}
    return Outputs(
        folder=str(folder),
        **named,
        **others,
        num_train=counts[Part.TRAIN],
        num_validation=counts[Part.VALIDATION],
        num_test=counts[Part.TEST],
        num_removed=counts[Part.REMOVED],
    )


def _cleaned(scan: Scan, example: Example, *, is_masked: bool) -> dict[str, Any]:
    if example.task == "sft":
        example.messages = up_to_the_answer(example.messages)
    if is_masked:
        mask_example(example)
    is_chat = example.task == "sft" and example.text is None
    return as_prompt(example) if is_chat and scan.as_prompts else example.row()


def _left_out(scan: Scan, index: int) -> dict[str, Any]:
    """Return which row is left out and why; what it says stays in the input alone."""
    ledger = scan.ledger
    files = ("train", "validation")
    row: dict[str, Any] = {
        "row": ledger.lines[index],
        "file": files[index < ledger.num_validation],
        "reason": ledger.reason_of(index),
    }
    if index in ledger.original:
        kept, score = ledger.original_of(index)
        kept_file = files[kept < ledger.num_validation]
        row |= {"kept_row": ledger.lines[kept], "kept_file": kept_file, "score": score}
    return row
