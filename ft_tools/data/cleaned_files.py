"""Write the cleaned files: the second pass over the input. Nothing of the input is changed."""

import json
from collections.abc import Callable, Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from ft_tools import workspace
from ft_tools.data.judge import privacy
from ft_tools.data.prepare.mapping_for_inference import keep_mapping
from ft_tools.data.read.both_passes import read_again
from ft_tools.data.read.examples import example_of
from ft_tools.data.read.scan import TICK_ROWS, Tick
from ft_tools.data.read.scanned import Scan
from ft_tools.data.request import AuditRequest
from ft_tools.formats.example import Example
from ft_tools.formats.loss_marks import as_prompt, up_to_the_answer
from ft_tools.publish import new_folder, require_space

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
    needed = sum(source.size_bytes for source, _ in scan.files)
    require_space(folder.parent, 3 * needed, "the cleaned files")
    with new_folder(folder) as staging, ExitStack() as stack:
        files = {
            name: stack.enter_context((staging / name).open("w", encoding="utf-8", newline="\n"))
            for name in (TRAIN, VALIDATION, REMOVED)
        }
        to_mask = _personal(request, scan)
        for index, row in read_again(scan):
            target = index < scan.ledger.num_validation or index in to_validation
            _write(files, request, scan, index, row.value, target, to_mask)
            if index % TICK_ROWS == 0:
                tick(index)
        for file in files.values():
            file.close()
        keep_mapping(workspace.existing(request.path), staging)
        last(staging)


def _personal(request: AuditRequest, scan: Scan) -> Set[int]:
    """Return the examples whose personal data is masked: prompts, and answers if so asked."""
    if request.personal_data == "keep":
        return frozenset()
    names = ("personal_data_in_prompt", "personal_data_in_answer")
    return {at for name in names for at in scan.found.get(name, ())}


def _write(
    files: Mapping[str, IO[str]],
    request: AuditRequest,
    scan: Scan,
    index: int,
    value: Any,
    to_validation: bool,
    to_mask: Set[int],
) -> None:
    reason = scan.ledger.reason_of(index)
    if reason is not None:
        _put(files[REMOVED], _removed(scan, index, value, reason))
        return
    example = example_of(request, scan.ledger.lines[index], value)
    if example.task == "sft":
        example.messages = up_to_the_answer(example.messages)
    if index in to_mask:
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
    if index in ledger.original:
        kept, score = ledger.original_of(index)
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
