"""Examples that show what was found, for the page: chosen, read again, masked, escaped.

At most `MOST` of bounded length: a page for people quotes data, and never holds the whole file.
"""

from collections import defaultdict
from collections.abc import Callable

from ft_tools.data.judge.findings import RULES, SEVERITIES, Severity
from ft_tools.data.map.masking import mask_example
from ft_tools.data.read.ledger import KEPT
from ft_tools.data.read.scanned import Scan
from ft_tools.formats.example import Example, content_of
from ft_tools.formats.masking import Kind, MaskedSequence
from ft_tools.views.page import Html, badge, escape, note

MOST = 60
EACH = 3
"""Examples a finding."""
SOUND = "nothing found"
NUM_SOUND = 8
"""Examples without any finding, spread over the file."""
MOST_MASKS = 16
TURN_CHARS, MOST_TURNS, PREVIEW_CHARS = 1200, 12, 90
NOT_RENDERED = {"template_refuses", "template_too_slow"}
"""Findings of examples that the template is not asked for again."""
TONES: dict[Severity, str] = {"error": "bad", "warning": "warn", "info": "neutral"}
KIND_CLASS: dict[Kind, str] = {"context": "c", "trained": "t", "cut": "x"}
LINE_BREAK = "\u21b5\n"
ABOUT = (
    "Quoted data, not instructions. Keys and personal data are masked, long texts cut. With a "
    "model, trained tokens are underlined, and what max_length cuts is struck out."
)
# Trained tokens are underlined and what is cut is struck out: colour is not the only sign.
STYLE = """
p.lead{font-size:1.05rem}
article.finding{padding:.6rem 0;border-bottom:1px solid var(--rule)}
article.finding h3{margin:.2rem 0;overflow-wrap:anywhere}
details.example summary{width:auto;line-height:1.8;color:var(--ink);overflow-wrap:anywhere}
.turn{margin:.5rem 0;padding-left:.75rem;border-left:3px solid var(--rule);min-width:0}
.turn h4,.mask h4{margin:0;font-size:.8rem;font-weight:600;color:var(--soft)}
.turn pre,.mask pre{unicode-bidi:isolate}
.mask i{font-style:normal}
.mask i:nth-child(odd){background:color-mix(in srgb,var(--soft) 9%,transparent)}
.mask .t i{background:color-mix(in srgb,var(--good) 13%,transparent);
border-bottom:2px solid var(--good)}
.mask .t i:nth-child(odd){background:color-mix(in srgb,var(--good) 24%,transparent)}
.mask .x i{text-decoration:line-through;color:var(--bad)}
"""


def quoted_examples(
    scanned: Scan, masks: Callable[[Example], list[MaskedSequence]]
) -> dict[tuple[str, bool], str]:
    """Return HTML of some examples: (finding, whether of the validation file) -> folded examples.

    Each stands with the gravest finding that it has; those without any are under `SOUND`.

    Args:
        scanned: What was read.
        masks: Shows what of an example is trained on.
    """
    chosen = _chosen(scanned)
    made: dict[tuple[str, bool], str] = defaultdict(str)
    last, left = max(chosen, default=-1), MOST_MASKS
    for index, row in scanned.read_again() if chosen else ():
        if index in chosen:
            names = chosen[index]
            example = scanned.example_of(scanned.ledger.lines[index], row.value)
            mask_example(example)
            shown: list[MaskedSequence] = []
            if left and row.problem is None and not NOT_RENDERED.intersection(names):
                shown = masks(example)
                left -= bool(shown)
            parts = [] if row.problem is not None else _turns(example)
            under = (names[0] if names else SOUND), index < scanned.ledger.num_validation
            made[under] += _folded(scanned, index, names, parts, shown)
        if index == last:
            break
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


def _folded(
    scanned: Scan,
    index: int,
    findings: list[str],
    turns: list[tuple[str, str]],
    masks: list[MaskedSequence],
) -> str:
    ledger = scanned.ledger
    where = "Validation line" if index < ledger.num_validation else "Line"
    badges = " ".join(badge(name, TONES[RULES[name].severity]) for name in findings)
    peek = " ".join(turns[0][1].split())[:PREVIEW_CHARS] if turns else "could not be read"
    parts: list[str] = []
    if why := ledger.reason_of(index):
        original = ""
        if index in ledger.original and ledger.removal[index] != KEPT:
            kept, score = ledger.original_of(index)
            other = "validation line" if kept < ledger.num_validation else "line"
            original = f", like {other} {ledger.lines[kept]}, which is kept (score {score:.2f})"
        parts.append(note(f"Left out: {why.replace('_', ' ')}{original}."))
    if masks:
        parts += map(_mask, masks)
    else:
        parts += [_turn(role, text) for role, text in turns[:MOST_TURNS]]
        if (more := len(turns) - MOST_TURNS) > 0:
            parts.append(note(f"{more} more turns are not shown."))
    return (
        f'<details class="example"><summary>{where} {ledger.lines[index]} {badges} '
        f"{escape(peek)}</summary>{''.join(parts)}</details>"
    )


def _turn(role: str, text: str) -> str:
    shown = escape(text[:TURN_CHARS]) if text.strip() else '<span class="empty">(empty)</span>'
    left_out = len(text) - TURN_CHARS
    more = note(f"{left_out:,} more characters.") if left_out > 0 else ""
    return f'<div class="turn"><h4>{escape(role)}</h4><pre>{shown}</pre>{more}</div>'


def _mask(masked: MaskedSequence) -> str:
    """Return a sequence with a box for each token, in stretches of one kind."""
    stretches: list[tuple[Kind, list[str]]] = []
    for text, kind in masked.pieces:
        if not stretches or stretches[-1][0] != kind:
            stretches.append((kind, []))
        stretches[-1][1].append(text)
    inside = "".join(
        f'<span class="{KIND_CLASS[kind]}">'
        + "".join(f"<i>{escape(text.replace(chr(10), LINE_BREAK))}</i>" for text in texts)
        + "</span>"
        for kind, texts in stretches
    )
    name = f"<h4>{escape(masked.name)}</h4>" if masked.name else ""
    return Html(f'<div class="mask">{name}<pre>{inside}</pre></div>')
