"""Choose some examples that show what was found, and read them again for the page.

At most `MOST` examples of bounded length, with secrets and personal data masked: a page for people
holds quoted data, and never the whole file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ft_tools.data.judge.findings import RULES, SEVERITIES
from ft_tools.data.map.masking import mask_example
from ft_tools.data.read.ledger import KEPT
from ft_tools.data.read.scanned import Scan
from ft_tools.formats.example import Example, content_of
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.trained_pieces import Masked

MOST = 60
EACH = 3
"""Examples a finding."""
FINE = 8
"""Examples without any finding, spread over the file."""
MOST_MASKS = 16
TURN_CHARS = 1200
MOST_TURNS = 12
TEMPLATE = {"template_refuses", "template_too_slow"}


@dataclass(frozen=True)
class Turn:
    """What one turn says, cut to a bound."""

    role: str
    text: str
    num_left_out: int
    """Characters that are not shown."""


@dataclass(frozen=True)
class Shown:
    """An example of the page."""

    line: int
    in_validation: bool
    findings: tuple[str, ...]
    removed_for: str | None
    """Why the cleaned files leave it out."""
    original: str
    """Of a removed duplicate: which line is kept, and how alike they are."""
    turns: tuple[Turn, ...]
    num_turns: int
    masks: tuple[Masked, ...]


def gallery(scanned: Scan, masks: Callable[[Example], list[Masked]]) -> list[Shown]:
    """Return the examples to show, in the order of the file."""
    wanted = choose(scanned)
    left = MOST_MASKS
    shown = []
    for index, row in _read(scanned, wanted):
        example = scanned.example_of(scanned.ledger.lines[index], row.value)
        mask_example(example)
        made: tuple[Masked, ...] = ()
        if left and row.problem is None and not TEMPLATE.intersection(wanted[index]):
            made = tuple(masks(example))
            left -= bool(made)
        shown.append(_shown(scanned, index, wanted[index], row, example, made))
    return shown


def choose(scanned: Scan) -> dict[int, list[str]]:
    """Return index -> findings of the examples to show: the first of each finding, and fine ones.

    The gravest findings come first, so that they are there if there is no room for all.
    """
    ledger = scanned.ledger
    ordered = sorted(
        scanned.found,
        key=lambda name: (SEVERITIES.index(RULES[name].severity), -len(scanned.found[name])),
    )
    chosen: dict[int, list[str]] = {}
    for name in ordered:
        for index in sorted(set(scanned.found[name]))[:EACH]:
            chosen.setdefault(index, [])
            if index in ledger.original:
                chosen.setdefault(ledger.original_of(index)[0], [])
    chosen = dict(list(chosen.items())[: MOST - FINE])
    flawed = {index for indices in scanned.found.values() for index in indices}
    fine = [at for at in ledger.kept(validation=False) if at not in flawed and at not in chosen]
    step = max(1, len(fine) // FINE)
    chosen |= {index: [] for index in fine[::step][:FINE]}
    for name in ordered:
        for index in dict.fromkeys(scanned.found[name]):
            if index in chosen:
                chosen[index].append(name)
    return chosen


def _read(scanned: Scan, wanted: Mapping[int, object]) -> list[tuple[int, Row]]:
    """Read the wanted rows again; reading stops behind the last one."""
    found: list[tuple[int, Row]] = []
    if not wanted:
        return found
    last = max(wanted)
    for index, row in scanned.read_again():
        if index in wanted:
            found.append((index, row))
        if index == last:
            break
    return found


def _shown(
    scanned: Scan,
    index: int,
    findings: list[str],
    row: Row,
    example: Example,
    masks: tuple[Masked, ...],
) -> Shown:
    ledger = scanned.ledger
    turns = _turns(example) if row.problem is None else []
    original = ""
    if index in ledger.original and ledger.removal[index] != KEPT:
        kept, score = ledger.original_of(index)
        where = "validation line" if kept < ledger.num_validation else "line"
        original = f"like {where} {ledger.lines[kept]}, which is kept (score {score:.2f})"
    return Shown(
        line=ledger.lines[index],
        in_validation=index < ledger.num_validation,
        findings=tuple(findings),
        removed_for=ledger.reason_of(index),
        original=original,
        turns=tuple(_cut(role, text) for role, text in turns[:MOST_TURNS]),
        num_turns=len(turns),
        masks=masks,
    )


def _turns(example: Example) -> list[tuple[str, str]]:
    if example.text is not None:
        return [("text", example.text)]
    turns = [(str(m["role"]), content_of(m)) for m in example.messages]
    if example.task == "kto":
        mark = "liked" if example.label else "disliked"
        return [*turns, *((mark, content_of(m)) for m in example.chosen)]
    sides = (("chosen", example.chosen), ("rejected", example.rejected))
    return [*turns, *((name, content_of(m)) for name, side in sides for m in side)]


def _cut(role: str, text: str) -> Turn:
    return Turn(role, text[:TURN_CHARS], max(0, len(text) - TURN_CHARS))
