"""Charts as hand-written SVG: one drawing for wide screens and paper, one for phones.

Each has a title, a description and its numbers in a table below. Colour is never the only signal:
series differ in dashes, intervals that exclude zero are filled. The same data gives the same bytes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

from ft_tools.views.axes import Scale, margin, tick_label, ticks
from ft_tools.views.html_escape import Html, escape
from ft_tools.views.markup import details, note, number, table

Point = tuple[float, float | None]
Drawing = Callable[[int], tuple[int, str]]

DASHES = ("", "7 4", "2 4", "10 4 2 4", "14 5", "4 3 1 3")
TABLE_ROWS = 60
BUCKETS = 240
WIDE, NARROW = 704, 340


def line_chart(
    series: Mapping[str, Sequence[Point]], *, title: str, x_label: str, y_label: str
) -> Html:
    """Draw lines; a value that is not finite breaks its line, long series are thinned.

    Thinning keeps each bucket's lowest and highest point, so that no spike is lost.
    """
    known = {name: [p for p in points if _finite(p[0])] for name, points in series.items()}
    drawn = {name: points for name, points in known.items() if any(_finite(y) for _, y in points)}
    if not drawn:
        return _empty(title)
    said = "; ".join(_label_of(name, points) for name, points in drawn.items())
    desc = f"{y_label} by {x_label}. {said}."
    legend = "".join(_legend(i, name, points) for i, (name, points) in enumerate(drawn.items()))
    plots = _both(lambda width: _lines(drawn, width, x_label, y_label), title, desc)
    return _figure(
        title, f'<ul class="legend">{legend}</ul>' + plots, _series_table(known, x_label)
    )


def interval_chart(
    rows: Sequence[tuple[str, float | None, float | None, float | None]],
    *,
    title: str,
    x_label: str,
    differences: bool = True,
) -> Html:
    """Draw points with their intervals, given as (label, low, mid, high).

    Differences have signs and a line at zero, and those whose interval includes it are hollow.
    """
    whole = [row for row in rows if all(_finite(value) for value in row[1:])]
    if not whole:
        return _empty(title)
    ends = [value for _, low, _, high in whole for value in (low, high) if value is not None]
    words = [_interval(low, mid, high, signed=differences) for _, low, mid, high in rows]
    desc = "; ".join(f"{row[0]}: {said}" for row, said in zip(rows, words, strict=True))

    def draw(width: int) -> tuple[int, str]:
        x, axis = _x_axis([*ends, 0.0], width, len(rows), x_label)
        zero = _across("zero", x(0), len(rows)) if differences else ""
        marks = [_interval_row(i, row, words[i], x, width) for i, row in enumerate(rows)]
        return len(rows) * 44 + 44, axis + zero + "".join(marks)

    legend = note("Filled: the interval excludes zero. Hollow: it includes zero.")
    cells = table([x_label, "low", "estimate", "high"], [list(row) for row in rows])
    return _figure(title, _both(draw, title, desc) + (legend if differences else ""), cells)


def bar_chart(rows: Sequence[tuple[str, float | None]], *, title: str, x_label: str) -> Html:
    """Draw a bar for each (label, value), from zero."""
    values = [value for _, value in rows if _finite(value)]
    if not values:
        return _empty(title)
    desc = "; ".join(f"{label}: {number(value)}" for label, value in rows)

    def draw(width: int) -> tuple[int, str]:
        x, axis = _x_axis([*values, 0.0], width, len(rows), x_label)
        bars = []
        for i, (label, value) in enumerate(rows):
            top = i * 44
            bars.append(_row_text(label, number(value), top, width))
            if _finite(value):
                left, right = sorted((x(0), x(value)))
                bars.append(
                    f'<rect class="bar" x="{left}" y="{top + 24}" height="12" rx="2" '
                    f'width="{max(1.0, round(right - left, 1))}"/>'
                )
        return len(rows) * 44 + 44, axis + "".join(bars)

    cells = table([x_label, "value"], [list(row) for row in rows])
    return _figure(title, _both(draw, title, desc), cells)


def histogram(
    bins: Sequence[tuple[float, float]], *, title: str, x_label: str, y_label: str
) -> Html:
    """Draw a column for each (start of the bin, count); bins are as wide as they are apart."""
    drawn = [(x, count) for x, count in bins if _finite(x) and _finite(count)]
    if not drawn:
        return _empty(title)
    step = drawn[1][0] - drawn[0][0] if len(drawn) > 1 else 1.0
    low, high = drawn[0][0], drawn[-1][0] + step
    tallest = max(drawn, key=lambda bar: bar[1])
    desc = f"{y_label} by {x_label}, {len(drawn)} bins; most at {number(tallest[0])}."

    def draw(width: int) -> tuple[int, str]:
        y_ticks = ticks(0.0, tallest[1], 4)
        left = margin(y_ticks)
        y = Scale(y_ticks[0], y_ticks[-1], 174, 24)
        x = Scale(low, high, left + 4, width - 12)
        parts = _y_grid(y, y_ticks, left, width)
        for at, count in drawn:
            start, end = x(at), x(at + step)
            parts.append(
                f'<rect class="bar" x="{start}" y="{y(count)}" '
                f'width="{max(0.5, round(end - start - 1, 1))}" '
                f'height="{round(y(0) - y(count), 1)}"/>'
            )
        parts += [
            f'<text class="tick" text-anchor="middle" x="{x(t)}" y="192">{tick_label(t)}</text>'
            for t in ticks(low, high, width // 110)
            if low <= t <= high
        ]
        parts.append(_axis_names(x_label, y_label, width, width // 2, 212))
        return 218, "".join(parts)

    cells = table([x_label, y_label], [list(bar) for bar in drawn])
    return _figure(title, _both(draw, title, desc), cells)


def thin(points: Sequence[Point], buckets: int = BUCKETS) -> list[Point]:
    """Keep the ends and, of each bucket, its lowest and highest point and one gap."""
    if len(points) <= 2 * buckets:
        return list(points)
    kept: set[int] = {0, len(points) - 1}
    for i in range(buckets):
        inside = range(i * len(points) // buckets, (i + 1) * len(points) // buckets)
        finite = [(y, j) for j in inside if _finite(y := points[j][1])]
        if finite:
            kept |= {min(finite)[1], max(finite)[1]}
        kept |= set([j for j in inside if not _finite(points[j][1])][:1])
    return [points[j] for j in sorted(kept)]


def _lines(
    series: Mapping[str, Sequence[Point]], width: int, x_label: str, y_label: str
) -> tuple[int, str]:
    height, top, bottom = 300, 24, 254
    points = [p for some in series.values() for p in some]
    xs = [x for x, _ in points]
    y_ticks = ticks(*_ends([y for _, y in points if _finite(y)]), 5)
    left = margin(y_ticks)
    x_ticks = ticks(min(xs), max(xs), width // 90)
    low, high = min(xs), max(xs)
    if low == high:
        low, high = x_ticks[0], x_ticks[-1]
    x, y = Scale(low, high, left + 8, width - 12), Scale(y_ticks[0], y_ticks[-1], bottom, top)
    parts = _y_grid(y, y_ticks, left, width)
    parts += [
        f'<line class="grid" x1="{x(t)}" x2="{x(t)}" y1="{bottom}" y2="{bottom + 5}"/>'
        f'<text class="tick" text-anchor="middle" x="{x(t)}" y="{bottom + 19}">'
        f"{tick_label(t)}</text>"
        for t in x_ticks
        if low <= t <= high
    ]
    middle = round((left + width) / 2)
    parts.append(_axis_names(x_label, y_label, width, middle, height - 8))
    for i, some in enumerate(series.values()):
        parts.append(_line(i, some, x, y))
    return height, "".join(parts)


def _y_grid(y: Scale, marks: Sequence[float], left: int, width: int) -> list[str]:
    return [
        f'<line class="grid" x1="{left}" x2="{width - 4}" y1="{y(t)}" y2="{y(t)}"/>'
        f'<text class="tick" text-anchor="end" x="{left - 6}" y="{round(y(t) + 4, 1)}">'
        f"{tick_label(t)}</text>"
        for t in marks
    ]


def _axis_names(x_label: str, y_label: str, width: int, middle: int, bottom: int) -> str:
    of_y = f'<text class="axis" x="4" y="12">{escape(_cut(y_label, width // 7))}</text>'
    return of_y + _x_name(x_label, width, middle, bottom)


def _x_name(label: str, width: int, middle: int, bottom: int) -> str:
    return (
        f'<text class="axis" text-anchor="middle" x="{middle}" y="{bottom}">'
        f"{escape(_cut(label, width // 7))}</text>"
    )


def _line(index: int, points: Sequence[Point], x: Scale, y: Scale) -> str:
    path, dots, pen_down = [], [], False
    few = len(points) <= 24
    thinned = thin(points)
    for i, (at, value) in enumerate(thinned):
        if not _finite(value):
            pen_down = False
            continue
        path.append(f"{'L' if pen_down else 'M'}{x(at)} {y(value)}")
        after = thinned[i + 1][1] if i + 1 < len(thinned) else None
        alone = not pen_down and not _finite(after)
        if few or alone:
            dots.append(f'<circle class="dot" cx="{x(at)}" cy="{y(value)}" r="2.6"/>')
        pen_down = True
    dash = DASHES[index % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<g class="s{index % len(DASHES)}{" dense" if len(thinned) > 150 else ""}">'
        f'<path class="line"{dashed} d="{"".join(path)}"/>'
        f"{''.join(dots)}</g>"
    )


def _x_axis(values: Sequence[float], width: int, num_rows: int, label: str) -> tuple[Scale, str]:
    marks = ticks(*_ends(values), width // 110)
    x = Scale(marks[0], marks[-1], 14, width - 18)
    bottom = num_rows * 44 + 4
    drawn = [
        f"{_across('grid', x(t), num_rows)}"
        f'<text class="tick" text-anchor="middle" x="{x(t)}" y="{bottom + 15}">'
        f"{tick_label(t)}</text>"
        for t in marks
    ]
    drawn.append(_x_name(label, width, width // 2, bottom + 34))
    return x, "".join(drawn)


def _across(kind: str, x: float, num_rows: int) -> str:
    """Draw a vertical line through the rows, but not through their texts."""
    tops = [44 * i for i in range(num_rows)]
    return "".join(
        f'<line class="{kind}" x1="{x}" x2="{x}" y1="{top + 21}" y2="{top + 44}"/>' for top in tops
    )


def _interval_row(
    index: int,
    row: tuple[str, float | None, float | None, float | None],
    said: str,
    x: Scale,
    width: int,
) -> str:
    label, low, mid, high = row
    top = index * 44
    words = _row_text(label, said, top, width)
    if not (_finite(low) and _finite(mid) and _finite(high)):
        return words
    y = top + 32
    kind = "point" if low > 0 or high < 0 else "point hollow"
    return (
        f'{words}<line class="whisker" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"/>'
        f'<line class="whisker" x1="{x(low)}" x2="{x(low)}" y1="{y - 4}" y2="{y + 4}"/>'
        f'<line class="whisker" x1="{x(high)}" x2="{x(high)}" y1="{y - 4}" y2="{y + 4}"/>'
        f'<circle class="{kind}" cx="{x(mid)}" cy="{y}" r="5"/>'
    )


def _row_text(label: str, value: str, top: int, width: int) -> str:
    # About 6.6 pixels a character at this size; the label gets what the value leaves.
    short = _cut(label, max(8, int((width - 24) / 6.6) - len(value) - 2))
    return (
        f'<text class="label" x="6" y="{top + 16}">{escape(short)}</text>'
        f'<text class="value" text-anchor="end" x="{width - 8}" y="{top + 16}">'
        f"{escape(value)}</text>"
    )


def _interval(low: float | None, mid: float | None, high: float | None, *, signed: bool) -> str:
    if not (_finite(low) and _finite(mid) and _finite(high)):
        return "no value"
    sign = "+" if signed and mid is not None and mid > 0 else ""
    return f"{sign}{number(mid, 3)} [{number(low, 3)}, {number(high, 3)}]"


def _legend(index: int, name: str, points: Sequence[Point]) -> str:
    last = next(y for _, y in reversed(points) if _finite(y))
    dash = DASHES[index % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<li class="s{index % len(DASHES)}"><svg aria-hidden="true" width="34" height="10">'
        f'<path class="line"{dashed} d="M1 5H33"/></svg> {escape(name)} '
        f'<span class="last">{number(last)}</span></li>'
    )


def _both(draw: Drawing, title: str, desc: str) -> str:
    drawings = []
    for width, kind in ((WIDE, "wide"), (NARROW, "narrow")):
        height, inside = draw(width)
        drawings.append(
            f'<svg class="plot {kind}" role="img" viewBox="0 0 {width} {height}">'
            f"<title>{escape(title)}</title><desc>{escape(desc)}</desc>{inside}</svg>"
        )
    return "".join(drawings)


def _figure(title: str, content: str, numbers: Html) -> Html:
    return Html(
        f"<figure><figcaption>{escape(title)}</figcaption>{content}"
        f"{details('The numbers', numbers)}</figure>"
    )


def _empty(title: str) -> Html:
    return Html(
        f"<figure><figcaption>{escape(title)}</figcaption>{note('No values yet.')}</figure>"
    )


def _series_table(series: Mapping[str, Sequence[Point]], x_label: str) -> Html:
    by_x = {name: dict(points) for name, points in series.items()}
    xs = sorted({x for points in by_x.values() for x in points})
    shown = xs
    if len(xs) > TABLE_ROWS:
        last = len(xs) - 1
        shown = [xs[round(i * last / (TABLE_ROWS - 1))] for i in range(TABLE_ROWS)]
    rows = [[x, *(points.get(x) for points in by_x.values())] for x in shown]
    caption = f"{len(shown)} of {len(xs):,} points" if len(shown) < len(xs) else ""
    return table([x_label, *by_x], rows, caption=caption)


def _label_of(name: str, points: Sequence[Point]) -> str:
    values = [y for _, y in points if _finite(y)]
    return (
        f"{name}: from {number(values[0])} to {number(values[-1])}, "
        f"lowest {number(min(values))}, highest {number(max(values))}"
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _cut(label: str, room: int) -> str:
    return label if len(label) <= room else label[: room - 1] + "\u2026"


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
