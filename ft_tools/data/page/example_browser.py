"""The example browser of the page: quoted examples, picked by finding without any script.

What examples say is escaped; ids, classes and rules of style are made of our own constants only.
"""

from collections.abc import Mapping, Sequence

from ft_tools.data.judge.findings import RULES, SEVERITIES, Severity
from ft_tools.data.page.page_examples import Shown, Turn
from ft_tools.formats.trained_pieces import Kind, Masked
from ft_tools.views.page import Html, badge, escape, note

TONES: dict[Severity, str] = {"error": "bad", "warning": "warn", "info": "neutral"}
FINE = "fine"
"""Class of examples in which nothing was found."""
PREVIEW_CHARS = 90
KIND_CLASS: dict[Kind, str] = {"context": "c", "trained": "t", "cut": "x"}
COLOURED = {"assistant", "chosen", "liked", "rejected", "disliked"}
LINE_BREAK = "\u21b5\n"

# Trained tokens are underlined and what is cut is struck out: colour is not the only sign.
_LOOK = """
p.lead{font-size:1.05rem}
article.finding{padding:.6rem 0;border-bottom:1px solid var(--rule)}
article.finding h3{margin:.2rem 0;overflow-wrap:anywhere}
p.lines{font-variant-numeric:tabular-nums;font-size:.9rem}
.pick{border:1px solid var(--rule);border-radius:8px;padding:.4rem .75rem .6rem;margin:.75rem 0;
display:flex;flex-wrap:wrap;gap:.15rem 1rem;font-size:.9rem}
.pick legend{color:var(--soft);padding:0 .3rem}
.pick label{padding:.3rem 0;cursor:pointer}
.browser details{border-bottom:1px solid var(--rule);margin:0;padding:.35rem 0}
.browser summary{width:auto;padding:.25rem 0;line-height:1.8}
.browser summary .peek{color:var(--ink);overflow-wrap:anywhere}
.turn{margin:.5rem 0;padding-left:.75rem;border-left:3px solid var(--rule);min-width:0}
.turn.assistant,.turn.chosen,.turn.liked{border-left-color:var(--good)}
.turn.rejected,.turn.disliked{border-left-color:var(--bad)}
.turn h4,.mask h4{margin:0;font-size:.8rem;font-weight:600;color:var(--soft)}
.turn pre,.mask pre{unicode-bidi:isolate}
.mask pre{line-height:1.9}
.mask i{font-style:normal;border-radius:2px}
.mask i:nth-child(odd){background:color-mix(in srgb,var(--soft) 9%,transparent)}
.mask .t i,i.t{background:color-mix(in srgb,var(--good) 13%,transparent);
border-bottom:2px solid var(--good)}
.mask .t i:nth-child(odd){background:color-mix(in srgb,var(--good) 24%,transparent)}
.mask .x i,i.x{text-decoration:line-through;color:var(--bad)}
.key i{font-style:normal;padding:0 .2rem}
"""


def _filters() -> str:
    names = [*RULES, FINE]
    return "".join(
        f".browser:has(#pick-{name}:checked) details:not(.f-{name}){{display:none}}"
        for name in names
    )


STYLE = _LOOK + _filters()


def anchor(line: int, in_validation: bool) -> str:
    """Return the id of an example on the page."""
    return f"validation-line-{line}" if in_validation else f"line-{line}"


def example_browser(shown: Sequence[Shown], counts: Mapping[str, int]) -> str:
    """Return some examples, each folded, and a choice of findings; empty if there is none.

    Args:
        shown: Examples in the order of the file.
        counts: Finding -> how many examples of the whole file have it.
    """
    if not shown:
        return ""
    named = {name for one in shown for name in one.findings}
    choices = [("all", f"all {len(shown)} shown")]
    choices += [
        (name, f"{name} ({sum(name in one.findings for one in shown)} of {counts.get(name, '?')})")
        for name in sorted(RULES, key=lambda name: SEVERITIES.index(RULES[name].severity))
        if name in named
    ]
    if any(not one.findings for one in shown):
        choices.append((FINE, "nothing found"))
    picks = "".join(
        f'<label><input type="radio" name="pick" id="pick-{name}"'
        f"{' checked' if name == 'all' else ''}> {escape(said)}</label>"
        for name, said in choices
    )
    masked = any(one.masks for one in shown)
    key = (
        '<p class="note key">Token by token: <i class="t">trained on</i> underlined; the rest is '
        'read only; <i class="x">cut off</i> at max_length.</p>'
        if masked
        else note("With a model, the tokens that are trained on are marked.")
    )
    return (
        note("Quoted data, not instructions. Keys and personal data are masked, long texts cut.")
        + '<div class="browser"><fieldset class="pick"><legend>Show examples with</legend>'
        + f"{picks}</fieldset>{key}"
        + "".join(map(_card, shown))
        + "</div>"
    )


def _card(one: Shown) -> str:
    classes = " ".join(f"f-{name}" for name in one.findings or (FINE,))
    where = "Validation line" if one.in_validation else "Line"
    badges = " ".join(badge(name, TONES[RULES[name].severity]) for name in one.findings)
    peek = " ".join(one.turns[0].text.split())[:PREVIEW_CHARS] if one.turns else ""
    parts: list[str] = []
    if one.removed_for:
        original = f", {one.original}" if one.original else ""
        parts.append(note(f"Left out: {one.removed_for.replace('_', ' ')}{original}."))
    if not one.turns:
        parts.append(note("This row could not be read."))
    parts += map(_mask, one.masks) if one.masks else map(_turn, one.turns)
    left = one.num_turns - len(one.turns)
    if left > 0 and not one.masks:
        parts.append(note(f"{left} more turns are not shown."))
    return (
        f'<details class="{classes}"><summary>{where} {one.line} {badges} '
        f'<span class="peek">{escape(peek)}</span></summary>'
        f'<div id="{anchor(one.line, one.in_validation)}">{"".join(parts)}</div></details>'
    )


def _turn(turn: Turn) -> str:
    kind = turn.role if turn.role in COLOURED else "other"
    shown = escape(turn.text) if turn.text.strip() else '<span class="empty">(empty)</span>'
    more = note(f"{turn.num_left_out:,} more characters.") if turn.num_left_out else ""
    return f'<div class="turn {kind}"><h4>{escape(turn.role)}</h4><pre>{shown}</pre>{more}</div>'


def _mask(masked: Masked) -> str:
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
