"""Write what was decided: the second pass over the input. Nothing of the input is changed."""

import json
import multiprocessing
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, NamedTuple

from ft_tools.data.cleaned_files import mask_example
from ft_tools.data.judge import privacy
from ft_tools.data.prepare.column_mapping import ColumnMapping
from ft_tools.data.prepare.decided import Decided, Part
from ft_tools.data.prepare.mapping_for_inference import write_mapping
from ft_tools.data.prepare.open_table import Reader
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.row_as_example import make
from ft_tools.data.prepare.row_decisions import TICK_ROWS
from ft_tools.data.prepare.turns import as_told
from ft_tools.errors import BadData
from ft_tools.formats.example import Example
from ft_tools.formats.loss_marks import without_mark
from ft_tools.formats.remembered_test_sets import keys_of

NAMES = {
    Part.TRAIN: "train.jsonl",
    Part.VALIDATION: "validation.jsonl",
    Part.TEST: "test.jsonl",
    Part.UNLABELLED: "unlabelled.jsonl",
    Part.REMOVED: "removed.jsonl",
}
_ENCODE = json.JSONEncoder(ensure_ascii=False, default=str).encode
REPORT = "report.json"
PARTS = tuple(Part)
HALVED_ROWS = 100_000
"""Rows from which a second process pays. Source: benchmarks/prepare.py"""
EARLIER = 0.53
"""Share of the rows that this process writes: the other one has to read past them first. Ours."""


class Fates(NamedTuple):
    """What becomes of each row, as far as it is written."""

    parts: bytearray
    outcomes: list[str]
    lines: "array[int]"
    partner: dict[int, int]


@dataclass
class Written:
    """What the second pass learned."""

    test_keys: list[tuple[int, int]] = field(default_factory=list)
    masked: "Counter[str]" = field(default_factory=Counter)
    """Kind of secret or personal data -> examples in which it was replaced."""


def write_files(
    reader: Reader,
    request: PrepareRequest,
    decided: Decided,
    staging: Path,
    tick: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write the parts, the mapping and the code that applies it.

    Of many rows another process writes the later half.

    Raises:
        BadData: The input is not what it was when it was read first.
    """
    fates = Fates(decided.parts, decided.outcomes, decided.ledger.lines, decided.partner)
    num_rows = len(fates.lines)
    if num_rows < HALVED_ROWS or fates.partner or (os.cpu_count() or 1) < 2:
        written = write_rows(reader, request, fates, range(num_rows), staging, tick)
    else:
        written = _in_halves(reader, request, fates, staging, tick)
    write_mapping(reader.mapping, staging)
    return written


def _in_halves(
    reader: Reader,
    request: PrepareRequest,
    fates: Fates,
    staging: Path,
    tick: Callable[[int], None],
) -> Written:
    """Write the later half of the rows in another process, and put it behind the earlier one."""
    middle = round(EARLIER * len(fates.lines))
    later = range(middle, len(fates.lines))
    spawned = multiprocessing.get_context("spawn")
    with TemporaryDirectory(dir=staging, prefix=".later-") as name:
        folder = Path(name)
        answer, told = spawned.Pipe(duplex=False)
        other = spawned.Process(
            target=_write_later, args=(told, reader, request, fates, later, folder), daemon=True
        )
        other.start()
        told.close()
        try:
            written = write_rows(reader, request, fates, range(middle), staging, tick)
            end = _answer(answer) or write_rows(reader, request, fates, later, folder, tick)
        finally:
            other.kill()
            other.join()
        for part in NAMES.values():
            with (staging / part).open("ab") as file, (folder / part).open("rb") as more:
                shutil.copyfileobj(more, file, 2**20)
    return Written(written.test_keys + end.test_keys, written.masked + end.masked)


def _answer(answer: Connection) -> Written | None:
    """Return what the other process learned; None if it ended before it had said all of it."""
    try:
        end: Written = answer.recv()
    except (EOFError, OSError):
        return None
    return end


def _write_later(
    told: Connection,
    reader: Reader,
    request: PrepareRequest,
    fates: Fates,
    later: range,
    folder: Path,
) -> None:
    """Write rows in a process of its own; if that fails, the first one does it and says why."""
    with suppress(Exception):
        told.send(write_rows(reader, request, fates, later, folder))


def write_rows(
    reader: Reader,
    request: PrepareRequest,
    fates: Fates,
    wanted_rows: range,
    staging: Path,
    tick: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write some rows of the input into the files of their parts.

    Raises:
        BadData: The input is not what it was when it was read first.
    """
    written, mapping = Written(), reader.mapping
    wanted = set(fates.partner.values())
    held: dict[int, Example] = {}
    with ExitStack() as stack:
        files = {
            part: stack.enter_context((staging / name).open("w", encoding="utf-8", newline="\n"))
            for part, name in NAMES.items()
        }
        for at, number, row in _rows(reader, request, fates, wanted_rows):
            part = PARTS[fates.parts[at]]
            if at in wanted:
                held[at] = _example(mapping, request, number, row)
            if part in {Part.REMOVED, Part.UNLABELLED}:
                about = {"row": number, "reason": fates.outcomes[at] or "no_answer"}
                _put(files[part], about | {"columns": _masked(request, as_told(row))})
            else:
                example = _example(mapping, request, number, row)
                if at in fates.partner:
                    example = _pair(example, held.pop(fates.partner[at]))
                text = _text(request, example, written.masked)
                if part is Part.TEST:
                    written.test_keys.append(keys_of(example))
                files[part].write(text + "\n")
            if at % TICK_ROWS == 0:
                tick(at)
    return written


def _rows(
    reader: Reader, request: PrepareRequest, fates: Fates, wanted: range
) -> Iterator[tuple[int, int, Mapping[str, Any] | None]]:
    """Yield (index, number, row) of some rows of the input, which must be what it was."""
    changed = BadData(Path(request.path), "changed while it was read", "prepare it again")
    at, num_rows = -1, len(fates.lines)
    for at, (number, row) in enumerate(reader.rows()):
        if at >= num_rows or fates.lines[at] != number:
            raise changed
        if at >= wanted.stop:
            return
        if at >= wanted.start:
            yield at, number, row
    if at + 1 != num_rows:
        raise changed


def _example(mapping: ColumnMapping, request: PrepareRequest, number: int, row: Any) -> Example:
    example = make(mapping, number, row).example
    if example is None:
        raise BadData(Path(request.path), "changed while it was read", "prepare it again", number)
    return example


def _pair(one: Example, other: Example) -> Example:
    """Return a preference pair of a good and a bad answer to the same prompt."""
    good, bad = (one, other) if one.label else (other, one)
    return Example(one.line, "preference_explicit", "dpo", good.messages, good.chosen, bad.chosen)


def _text(request: PrepareRequest, example: Example, masked: "Counter[str]") -> str:
    """Return an example as a line of JSON, its personal data masked if so asked."""
    example.messages = [without_mark(turn) for turn in example.messages]
    text = _ENCODE(example.row())
    if request.personal_data == "mask" and privacy.may_hold(text):
        masked.update({*privacy.secrets_in(text), *privacy.personal_data_in(text)})
        mask_example(example)
        text = _ENCODE(example.row())
    return text


def _masked(request: PrepareRequest, row: Any) -> Any:
    return privacy.mask_all(row) if request.personal_data == "mask" else row


def _put(file: IO[str], row: dict[str, Any]) -> None:
    try:
        file.write(_ENCODE(row) + "\n")
    except UnicodeEncodeError:
        file.write(json.dumps(row, default=str) + "\n")
