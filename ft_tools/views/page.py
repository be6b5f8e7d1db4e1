"""One self-contained HTML page: no network, no script, light and dark, phone and paper.

A page is a sentence, a picture, an example, and sections of tables and texts. Tools pass plain
data; only this package writes HTML: any other string becomes a paragraph with its markup escaped.
The same input gives the same bytes.
"""

import difflib
import html
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TypeAlias

Cell = str | int | float | bool | None
Part: TypeAlias = "str | Sequence[Part]"
"""What stands on a page: a text, pieces made here, or several."""

MISSING = "\u2013"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
# Control characters, bidirectional overrides, invisible characters and lone surrogates: they can
# make a text look like another one, and a surrogate cannot be written as UTF-8 at all.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_PIECES = re.compile(r"\s+|\w+|[^\w\s]")
MOST_GROUPS = 12
"""Buttons of `one_group`, which page.css knows by number."""
ALIKE = 0.3
"""Below this similarity nearly every word would be underlined, which shows nothing."""


class Html(str):
    """A string that is HTML already; `escape` leaves it as it is."""

    __slots__ = ()


def page(
    title: str,
    sections: Mapping[str, Part],
    *,
    lead: Part = "",
    picture: Part = "",
    example: Part = "",
    subtitle: str = "",
    refresh_seconds: int | None = None,
) -> str:
    """Return a whole HTML document: one sentence, one picture, one example, then the sections.

    Args:
        title: The heading.
        sections: By heading; an empty one is left out.
        lead: The result in a sentence.
        picture: The chart that shows it.
        example: An example of it.
        subtitle: A line below the title.
        refresh_seconds: Reload interval of the page of a run that is still going.
    """
    refresh = f'<meta http-equiv="refresh" content="{refresh_seconds}">' if refresh_seconds else ""
    under = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    filled = {heading: content for heading, part in sections.items() if (content := joined(part))}
    body = "".join(
        f'<section id="part-{i}"><h2>{escape(heading)}</h2>{content}</section>'
        for i, (heading, content) in enumerate(filled.items(), 1)
    )
    contents = ""
    if len(filled) > 3:
        addresses = {heading: f"#part-{i}" for i, heading in enumerate(filled, 1)}
        contents = f'<nav aria-label="Contents">{links(addresses)}</nav>'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="referrer" content="no-referrer">'
        f"{refresh}<title>{escape(title)}</title><style>{style()}</style></head>\n"
        f"<body><main><header><h1>{escape(title)}</h1>{under}</header>"
        f'<div class="lead">{joined(lead)}</div>{joined(picture)}{joined(example)}'
        f"{contents}{body}</main></body></html>\n"
    )


@cache
def style() -> str:
    """Return the style sheet of all pages."""
    return files("ft_tools.views").joinpath("page.css").read_text(encoding="utf-8")


def joined(part: Part) -> Html:
    """Return HTML; of a text its paragraphs, which empty lines separate."""
    if isinstance(part, Html):
        return part
    if isinstance(part, str):
        paragraphs = [one for one in re.split(r"\n\s*\n", part.strip()) if one]
        return Html("".join(f"<p>{escape(one)}</p>" for one in paragraphs))
    return Html("".join(map(joined, part)))


def escape(value: object) -> str:
    r"""Return HTML that shows exactly these characters; unsafe ones are spelled out.

    >>> escape("<b>\u202e")
    '&lt;b&gt;\\u202e'
    """
    if isinstance(value, Html):
        return str(value)
    spelled = _UNSAFE.sub(_spell, str(value).replace("\r\n", "\n"))
    return html.escape(spelled, quote=True)


def number(value: Cell, digits: int = 4) -> str:
    """Write a number for people: grouped thousands, `digits` significant digits.

    >>> number(1234567), number(0.123456), number(float("nan")), number(None)
    ('1,234,567', '0.1235', 'nan', '\u2013')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        return f"{value:.{digits - 1}e}"
    shown = f"{value:,.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def note(value: object) -> Html:
    """Return a paragraph that is less important than the others."""
    return Html(f'<p class="note">{escape(value)}</p>')


def badge(label: str, tone: str = "neutral") -> Html:
    """Return a word in a box; `tone` is good, bad, warn or neutral, and the word says it too."""
    return Html(f'<span class="badge {tone}">{escape(label.replace("_", " "))}</span>')


def link(label: str, address: str) -> Html:
    """Return a link; an address that is no web page, file or part of this page is only text."""
    if re.match(r"https://|#|[\w./-]+$", address) is None:
        return Html(escape(label))
    return Html(f'<a href="{escape(address)}" rel="noreferrer">{escape(label)}</a>')


def links(addresses: Mapping[str, str]) -> Html:
    """Return a list of links: label -> address."""
    rows = (f"<li>{link(label, address)}</li>" for label, address in addresses.items())
    return Html(f"<ul>{''.join(rows)}</ul>")


def table(
    headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str = "", about: str = ""
) -> Html:
    """Return a table with a note below it; nothing where there is no row.

    Columns of numbers are aligned right, and a wide table scrolls by itself.
    """
    if not rows:
        return Html("")
    numeric = [_is_numeric([row[i] for row in rows if i < len(row)]) for i in range(len(headers))]
    mark = [' class="num"' if is_number else "" for is_number in numeric]
    head = "".join(
        f'<th scope="col"{mark[i]}>{escape(header)}</th>' for i, header in enumerate(headers)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{mark[i]}>{_cell(cell)}</td>" for i, cell in enumerate(row[: len(headers)]))
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    label = escape(caption or "table")
    return Html(
        f'<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table>{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"{note(about) if about else ''}"
    )


def by_column(columns: Mapping[str, Mapping[str, Cell]], *, caption: str = "") -> Html:
    """Return a table of columns, each row name -> value."""
    names = dict.fromkeys(name for values in columns.values() for name in values)
    rows = [[name, *(values.get(name) for values in columns.values())] for name in names]
    return table(["", *columns], rows, caption=caption)


def key_values(pairs: Mapping[str, Cell]) -> Html:
    """Return a list of names and values."""
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{_cell(pairs[key])}</dd>" for key in pairs)
    return Html(f"<dl>{rows}</dl>" if rows else "")


def side_by_side(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """Return texts next to each other, line breaks kept; on a phone one below the other."""
    # Four narrow columns are hard to read; two by two are not.
    shape = "sides square" if len(headers) == 4 else "sides"
    articles = (
        "".join(
            f'<div class="side">{quote(header, cell)}</div>'
            for header, cell in zip(headers, row, strict=False)
        )
        for row in rows
    )
    return Html("".join(f'<article class="{shape}">{cells}</article>' for cells in articles))


def quote(header: str, value: object) -> Html:
    """Return a quoted text below its heading, line breaks kept."""
    shown = escape("" if value is None else value)
    shown = shown if shown.strip() else '<span class="empty">(empty)</span>'
    return Html((f"<h4>{escape(header)}</h4>" if header else "") + f"<pre>{shown}</pre>")


def turn(role: str, text: object, after: Part = "") -> Html:
    """Return a turn of a conversation."""
    return Html(f'<div class="turn">{quote(role, text)}{joined(after)}</div>')


def changed_words(before: str, after: str) -> Html:
    """Return a text with the words that are not in the other one underlined."""
    old, new = _PIECES.findall(before), _PIECES.findall(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if matcher.ratio() < ALIKE:
        return Html(escape(after))
    parts = []
    for tag, _, _, start, end in matcher.get_opcodes():
        piece = escape("".join(new[start:end]))
        parts.append(piece if tag == "equal" or not piece.strip() else f"<mark>{piece}</mark>")
    return Html("".join(parts))


def card(title: str, mark: Html, content: Part) -> Html:
    """Return something with a heading of its own inside a section."""
    heading = f"<h3>{mark} {escape(title)}</h3>"
    return Html(f'<article class="card">{heading}{joined(content)}</article>')


def one_group(groups: Mapping[str, Sequence[Part]]) -> Html:
    """Return pieces below buttons that show all of them, or those of one group; no script.

    Args:
        groups: Group -> its pieces; of more than `MOST_GROUPS` the rest has one button.
    """
    names = list(groups)
    first = names[: MOST_GROUPS - 1] if len(names) > MOST_GROUPS else names
    shown = {name: groups[name] for name in first}
    if rest := [piece for name in names[len(first) :] for piece in groups[name]]:
        shown["others"] = rest
    total = sum(map(len, shown.values()))
    buttons = [_button(0, f"all {total:,}", is_on=True)] + [
        _button(i, f"{name} {len(pieces):,}") for i, (name, pieces) in enumerate(shown.items(), 1)
    ]
    pieces = "".join(
        f'<article class="card g{i}">{badge(name)}{joined(piece)}</article>'
        for i, (name, group) in enumerate(shown.items(), 1)
        for piece in group
    )
    return Html(f'<div class="groups">{"".join(buttons)}{pieces}</div>')


def _button(i: int, label: str, *, is_on: bool = False) -> str:
    on = " checked" if is_on else ""
    return (
        f'<input type="radio" name="group" id="show-{i}"{on}>'
        f'<label for="show-{i}">{escape(label.replace("_", " "))}</label>'
    )


def details(summary: str, content: Part, *, kind: str = "") -> Html:
    """Return something that is folded until it is asked for."""
    mark = f' class="{kind}"' if kind else ""
    return Html(f"<details{mark}><summary>{escape(summary)}</summary>{joined(content)}</details>")


def _is_numeric(cells: Sequence[Cell]) -> bool:
    known = [cell for cell in cells if cell is not None]
    return bool(known) and all(
        isinstance(cell, int | float) and not isinstance(cell, bool) for cell in known
    )


def _cell(cell: Cell) -> str:
    return escape(cell if isinstance(cell, Html) else number(cell))


def _spell(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
