"""Write what was decided: the second pass over the input. Nothing of the input is changed."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ft_tools.data.judge import privacy
from ft_tools.data.outputs import mask_example
from ft_tools.data.prepare.build import TICK_ROWS, Decided, Part, make
from ft_tools.data.prepare.mapping import ColumnMapping
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.reuse import write_mapping
from ft_tools.errors import BadData
from ft_tools.examples.example import Example
from ft_tools.examples.loss import without_mark
from ft_tools.examples.remembered_test_sets import keys_of

NAMES = {
    Part.TRAIN: "train.jsonl",
    Part.VALIDATION: "validation.jsonl",
    Part.TEST: "test.jsonl",
    Part.UNLABELLED: "unlabelled.jsonl",
    Part.REMOVED: "removed.jsonl",
}
_ENCODE = json.JSONEncoder(ensure_ascii=False, default=str).encode
REPORT = "report.json"


@dataclass
class Written:
    """What the second pass learned."""

    test_keys: list[tuple[int, int]] = field(default_factory=list)
    masked: "Counter[str]" = field(default_factory=Counter)
    """Kind of secret or personal data -> examples in which it was replaced."""


def write_files(
    mapping: ColumnMapping,
    request: PrepareRequest,
    decided: Decided,
    rows: Iterable[tuple[int, Mapping[str, Any] | None]],
    staging: Path,
    tick: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write the parts, the mapping and the code that applies it.

    Raises:
        BadData: The input is not what it was when it was read first.
    """
    written = Written()
    wanted = set(decided.partner.values())
    held: dict[int, Example] = {}
    changed = BadData(Path(request.path), "changed while it was read", "prepare it again")
    with ExitStack() as stack:
        files = {
            part: stack.enter_context((staging / name).open("w", encoding="utf-8", newline="\n"))
            for part, name in NAMES.items()
        }
        at = -1
        for at, (number, row) in enumerate(rows):
            if at >= len(decided.ledger) or decided.ledger.lines[at] != number:
                raise changed
            part = Part(decided.parts[at])
            if at in wanted:
                held[at] = _example(mapping, request, number, row)
            if part in {Part.REMOVED, Part.UNLABELLED}:
                about = {"row": number, "reason": decided.outcomes[at] or "no_answer"}
                _put(files[part], about | {"columns": _masked(request, row)})
            else:
                example = _example(mapping, request, number, row)
                if at in decided.partner:
                    example = _pair(example, held.pop(decided.partner[at]))
                text = _text(request, example, written.masked)
                if part is Part.TEST:
                    written.test_keys.append(keys_of(example))
                files[part].write(text + "\n")
            if at % TICK_ROWS == 0:
                tick(at)
        if at + 1 != len(decided.ledger):
            raise changed
    write_mapping(mapping, staging)
    return written


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
