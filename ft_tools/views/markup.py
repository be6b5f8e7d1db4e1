"""Pieces of HTML: text, tables, texts side by side. Whatever comes from data is escaped here."""

import math
import re
from collections.abc import Mapping, Sequence

from ft_tools.views.html_escape import Html, escape

Cell = str | int | float | bool | None

MISSING = "\u2013"


def number(value: Cell, digits: int = 4) -> str:
    """Write a number for people: grouped thousands, `digits` significant digits.

    >>> number(1234567), number(0.123456), number(float("nan")), number(None)
    ('1,234,567', '0.1235', 'nan', '\u2013')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    shown = f"{value:,.{decimals}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def text(value: object) -> Html:
    """Return paragraphs; an empty line separates two."""
    parts = [part for part in re.split(r"\n\s*\n", str(value).strip()) if part]
    return Html("".join(f"<p>{escape(part)}</p>" for part in parts))


def note(value: object) -> Html:
    """Return a paragraph that is less important than the others."""
    return Html(f'<p class="note">{escape(value)}</p>')


def badge(label: str, tone: str = "neutral") -> Html:
    """Return a word in a box; `tone` is good, bad, warn or neutral, and the word says it too."""
    kind = tone if tone in {"good", "bad", "warn"} else "neutral"
    return Html(f'<span class="badge {kind}">{escape(label)}</span>')


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str = "") -> Html:
    """Return a table; columns of numbers are set right, and a wide table scrolls by itself."""
    if not rows:
        return note(f"{caption}: nothing to show." if caption else "Nothing to show.")
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
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    label = escape(caption or "table")
    return Html(
        f'<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table>{said}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def key_values(pairs: Mapping[str, Cell]) -> Html:
    """Return a list of names and values."""
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{_cell(pairs[key])}</dd>" for key in pairs)
    return Html(f'<dl class="facts">{rows}</dl>')


def side_by_side(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """Return texts next to each other, line breaks kept; on a phone one below the other."""
    if not rows:
        return note("Nothing to show.")
    articles = []
    for row in rows:
        cells = "".join(
            f'<div class="side"><h4>{escape(header)}</h4><pre>{_shown(cell)}</pre></div>'
            for header, cell in zip(headers, row, strict=False)
        )
        # Four narrow columns are hard to read; two by two are not.
        shape = "sides square" if len(headers) == 4 else "sides"
        articles.append(f'<article class="{shape}">{cells}</article>')
    return Html("".join(articles))


def details(summary: str, content: Html) -> Html:
    """Return something that is folded until it is asked for."""
    return Html(f"<details><summary>{escape(summary)}</summary>{content}</details>")


def _is_numeric(cells: Sequence[Cell]) -> bool:
    kinds = [cell for cell in cells if cell is not None]
    return bool(kinds) and all(
        isinstance(cell, int | float) and not isinstance(cell, bool) for cell in kinds
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return escape(cell if isinstance(cell, Html) else number(cell))


def _shown(cell: object) -> str:
    shown = escape("" if cell is None else cell)
    return shown if shown.strip() else '<span class="empty">(empty)</span>'
