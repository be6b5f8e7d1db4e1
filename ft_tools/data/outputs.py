"""Write the cleaned files: the second pass over the input. Nothing of the input is changed."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from ft_tools.data.judge import privacy
from ft_tools.data.read.scan import TICK_ROWS, Scan, Tick, rows_of
from ft_tools.data.reports import AuditRequest
from ft_tools.errors import BadData
from ft_tools.examples.example import Example
from ft_tools.examples.formats import normalise
from ft_tools.examples.loss import as_prompt, up_to_the_answer
from ft_tools.publish import new_folder, require_space

QUOTED_CHARS = 500
TRAIN, VALIDATION, REMOVED = "train.jsonl", "validation.jsonl", "removed.jsonl"


def write_outputs(
    request: AuditRequest,
    scan: Scan,
    to_validation: set[int],
    folder: Path,
    last: Callable[[Path], None],
    tick: Tick,
) -> None:
    """Write train.jsonl, validation.jsonl and removed.jsonl, which partition the input.

    `last` adds the reports to the folder before it is published.

    Raises:
        BadData: The input changed since it was scanned.
        OutputExists: The folder is not empty.
        DiskFull: There is no space; nothing is published.
    """
    path, validation = scan.inputs
    needed = sum(source.size_bytes for source, _ in scan.files)
    require_space(folder.parent, 3 * needed, "the cleaned files")
    with new_folder(folder) as staging, ExitStack() as stack:
        files = {
            name: stack.enter_context((staging / name).open("w", encoding="utf-8", newline="\n"))
            for name in (TRAIN, VALIDATION, REMOVED)
        }
        index = 0
        for part, is_validation in ((validation, True), (path, False)):
            if part is None:
                continue
            for _, row, number in rows_of(part):
                if index >= len(scan.ledger) or scan.ledger.lines[index] != number:
                    raise BadData(part, "changed while it was read", "audit it again")
                target = is_validation or index in to_validation
                _write(files, request, scan, index, row.value, target)
                index += 1
                if index % TICK_ROWS == 0:
                    tick(index)
        if index != len(scan.ledger):
            raise BadData(path, "changed while it was read", "audit it again")
        for file in files.values():
            file.close()
        last(staging)


def _write(
    files: Mapping[str, IO[str]],
    request: AuditRequest,
    scan: Scan,
    index: int,
    value: Any,
    to_validation: bool,
) -> None:
    reason = scan.ledger.reason_of(index)
    if reason is not None:
        _put(files[REMOVED], _removed(scan, index, value, reason))
        return
    example = normalise(scan.ledger.lines[index], value, request.named_columns)
    if example.task == "sft":
        example.messages = up_to_the_answer(example.messages)
    if request.personal_data == "mask":
        mask_example(example)
    is_chat = example.task == "sft" and example.text is None
    cleaned = as_prompt(example) if is_chat and scan.as_prompts else example.row()
    _put(files[VALIDATION if to_validation else TRAIN], cleaned)


def _removed(scan: Scan, index: int, value: Any, reason: str) -> dict[str, Any]:
    ledger = scan.ledger
    in_validation = index < ledger.num_validation
    row: dict[str, Any] = {
        "line": ledger.lines[index],
        "file": "validation" if in_validation else "train",
        "reason": reason,
    }
    if index in ledger.twin:
        kept, score = ledger.twin_of(index)
        row |= {
            "kept_line": ledger.lines[kept],
            "kept_file": "validation" if kept < ledger.num_validation else "train",
            "score": score,
        }
    return row | {"example": privacy.mask_all(value)}


def mask_example(example: Example) -> None:
    """Replace secrets and personal data in all that an example says, its tools included."""
    for message in [*example.messages, *example.chosen, *example.rejected]:
        masked = privacy.mask_all(message)
        message.clear()
        message.update(masked)
    example.tools = privacy.mask_all(example.tools)
    example.text = privacy.mask_all(example.text)


def _put(file: IO[str], row: dict[str, Any]) -> None:
    try:
        text = json.dumps(row, ensure_ascii=False)
    except RecursionError:
        # A removed row may be as deep as could be read, and is written one level deeper.
        text = json.dumps(row | {"example": None})
    try:
        file.write(text + "\n")
    except UnicodeEncodeError:
        # Only a removed row may hold a lone surrogate; escaped, it can be written.
        file.write(json.dumps(row) + "\n")
