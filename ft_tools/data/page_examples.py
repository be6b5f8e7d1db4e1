"""Examples that show what was found, for the page: chosen, read again, masked.

At most `MOST` of bounded length: a page for people quotes data, and never holds the whole file.
"""

from collections import defaultdict

from ft_tools.data.judge.findings import RULES, SEVERITIES
from ft_tools.data.map.masking import mask_example
from ft_tools.data.read.ledger import KEPT
from ft_tools.data.read.scanned import Scan
from ft_tools.formats.example import Example, content_of
from ft_tools.views.page import Part, note, turn

MOST = 60
EACH = 3
"""Examples a finding."""
SOUND = "nothing found"
NUM_SOUND = 8
"""Examples without any finding, spread over the file."""
TURN_CHARS, MOST_TURNS, PREVIEW_CHARS = 1200, 12, 90
Quoted = tuple[str, Part]
"""A line about an example, and its text."""


def quoted_examples(scanned: Scan) -> dict[tuple[str, bool], list[Quoted]]:
    """Return some examples: (finding, whether of the validation file) -> quoted examples.

    Each stands with the gravest finding that it has; those without any are under `SOUND`.
    """
    chosen = _chosen(scanned)
    made: dict[tuple[str, bool], list[Quoted]] = defaultdict(list)
    for index, row, example in scanned.examples_at(chosen):
        names = chosen[index]
        mask_example(example)
        turns = [] if row.problem is not None else _turns(example)
        asked = next((text for role, text in turns if role != "system"), "could not be read")
        peek = " ".join(asked.split())[:PREVIEW_CHARS]
        in_validation = index < scanned.ledger.num_validation
        where = f"{'Validation row' if in_validation else 'Row'} {scanned.ledger.lines[index]}"
        summary = f"{where} {' '.join(f'[{name}]' for name in names)} {peek}"
        content = [_why(scanned, index), *_shown(turns)]
        made[names[0] if names else SOUND, in_validation].append((summary, content))
    return made


def _chosen(scanned: Scan) -> dict[int, list[str]]:
    """Return index -> findings, the gravest first: the first examples of each, and sound ones."""
    ledger = scanned.ledger
    ordered = sorted(
        scanned.found,
        key=lambda name: (SEVERITIES.index(RULES[name].severity), -len(scanned.found[name])),
    )
    chosen: dict[int, list[str]] = {}
    for name in ordered:
        chosen |= {at: [] for at in sorted(set(scanned.found[name]))[:EACH]}
    chosen = dict(list(chosen.items())[: MOST - NUM_SOUND])
    flawed = {index for indices in scanned.found.values() for index in indices}
    sound = [at for at in ledger.kept(validation=False) if at not in flawed]
    chosen |= {at: [] for at in sound[:: max(1, len(sound) // NUM_SOUND)][:NUM_SOUND]}
    for name in ordered:
        for index in dict.fromkeys(scanned.found[name]):
            if index in chosen:
                chosen[index].append(name)
    return chosen


def _turns(example: Example) -> list[tuple[str, str]]:
    """Return who says what."""
    if example.text is not None:
        return [("text", example.text)]
    turns = [(str(m["role"]), content_of(m)) for m in example.messages]
    sides = {"chosen": example.chosen, "rejected": example.rejected}
    if example.task == "kto":
        sides = {"liked" if example.label else "disliked": example.chosen}
    return [*turns, *((name, content_of(m)) for name, side in sides.items() for m in side)]


def _why(scanned: Scan, index: int) -> Part:
    """Return why an example is left out, if it is."""
    ledger = scanned.ledger
    if not (why := ledger.reason_of(index)):
        return ""
    original = ""
    if index in ledger.original and ledger.removal[index] != KEPT:
        kept, score = ledger.original_of(index)
        other = "validation row" if kept < ledger.num_validation else "row"
        original = f", like {other} {ledger.lines[kept]}, which is kept (score {score:.2f})"
    return note(f"Left out: {why.replace('_', ' ')}{original}.")


def _shown(turns: list[tuple[str, str]]) -> list[Part]:
    parts: list[Part] = []
    for role, text in turns[:MOST_TURNS]:
        more = len(text) - TURN_CHARS
        parts.append(
            turn(role, text[:TURN_CHARS], note(f"{more:,} more characters.") if more > 0 else "")
        )
    if (left_out := len(turns) - MOST_TURNS) > 0:
        parts.append(note(f"{left_out} more turns are not shown."))
    return parts
