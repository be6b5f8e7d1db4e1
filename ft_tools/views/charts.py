"""Charts as SVG, drawn in percent of their width: one drawing fits screens, phones and paper.

Each has a description and its numbers in a table below. Colour is never the only signal: series
differ in dashes, intervals that exclude zero are filled. The same data gives the same bytes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

from ft_tools.views.axes import Scale, tick_label, ticks
from ft_tools.views.page import Cell, Html, Part, details, escape, joined, note, number, table

Point = tuple[float, float | None]
Interval = tuple[str, float | None, float | None, float | None]
Axis = tuple[Scale, Sequence[float], str]
"""The scale, its marks and what they measure."""

DASHES = ("", "7 4", "2 4", "10 4 2 4", "14 5", "4 3 1 3")
TABLE_ROWS = 60
BUCKETS = 240
HEIGHT, ROW = 220, 22


def line_chart(
    series: Mapping[str, Sequence[Point]], *, title: str, x_label: str, y_label: str
) -> Html:
    """Draw lines; a value that is not finite breaks its line, long series are thinned.

    Thinning keeps each bucket's lowest and highest point, so that no spike is lost.
    """
    known = {name: [p for p in points if _finite(p[0])] for name, points in series.items()}
    drawn = {name: points for name, points in known.items() if any(_finite(y) for _, y in points)}
    if not drawn:
        return _figure(title, note("No values yet."))
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points if _finite(y)]
    y_marks = ticks(min(ys), max(ys), 5)
    x_marks = ticks(min(xs), max(xs), 6)
    low, high = (min(xs), max(xs)) if min(xs) < max(xs) else (x_marks[0], x_marks[-1])
    x, y = Scale(low, high, 0, 100), Scale(y_marks[0], y_marks[-1], HEIGHT, 0)
    lines = "".join(_line(i, points, x, y) for i, points in enumerate(drawn.values()))
    legend = "".join(_legend(i, name, points) for i, (name, points) in enumerate(drawn.items()))
    desc = f"{y_label} by {x_label}. {'; '.join(_in_words(*item) for item in drawn.items())}."
    plot = _plot(lines, (x, x_marks, x_label), (y, y_marks, y_label), title, desc)
    numbers = _series_table(known, x_label)
    return _figure(title, Html(f'<ul class="legend">{legend}</ul>{plot}'), numbers)


def interval_chart(
    rows: Sequence[Interval], *, title: str, x_label: str, differences: bool = True
) -> Html:
    """Draw points with their intervals, given as (label, low, mid, high).

    Differences have signs and a line at zero, and those whose interval includes it are hollow.
    Nothing where there is no row.
    """
    if not rows:
        return Html("")
    ends = [
        end
        for _, low, mid, high in rows
        if _finite(low) and _finite(mid) and _finite(high)
        for end in (low, high)
    ]
    middle = ROW // 2

    def draw(row: Interval, x: Scale) -> str:
        _, low, mid, high = row
        if not (_finite(low) and _finite(mid) and _finite(high)):
            return ""
        kind = "point" if low > 0 or high < 0 else "point hollow"
        caps = "".join(
            f'<line class="whisker" x1="{x(at)}%" x2="{x(at)}%" y1="{middle - 4}" '
            f'y2="{middle + 4}"/>'
            for at in (low, high)
        )
        return (
            f'<line class="whisker" x1="{x(low)}%" x2="{x(high)}%" y1="{middle}" y2="{middle}"/>'
            f'{caps}<circle class="{kind}" cx="{x(mid)}%" cy="{middle}" r="5"/>'
        )

    labels = [(row[0], _interval(*row[1:], signed=differences)) for row in rows]
    chart: Part = _rows(labels, ends, x_label, differences,
                        lambda i, x: draw(rows[i], x))  # fmt: skip
    if differences:
        chart = [chart, note("Filled: the interval excludes zero. Hollow: it includes zero.")]
    return _figure(title, chart, table([x_label, "low", "estimate", "high"], rows))


def bar_chart(rows: Sequence[tuple[str, float | None]], *, title: str, x_label: str) -> Html:
    """Draw a bar for each (label, value), from zero; nothing where there is none."""
    if not rows:
        return Html("")

    def draw(index: int, x: Scale) -> str:
        value = rows[index][1]
        if not _finite(value):
            return ""
        left, right = sorted((x(0), x(value)))
        width = max(0.2, right - left)
        return f'<rect class="bar" x="{left}%" width="{width:.1f}%" y="5" height="12" rx="2"/>'

    values = [value for _, value in rows if _finite(value)]
    labels = [(label, number(value)) for label, value in rows]
    chart = _rows(labels, values, x_label, False, draw)
    return _figure(title, chart, table([x_label, "value"], rows))


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


def _plot(inside: str, x_axis: Axis, y_axis: Axis, title: str, desc: str) -> Html:
    """Return the area of lines or columns, with its axes."""
    (x, x_marks, x_label), (y, y_marks, y_label) = x_axis, y_axis
    grid = "".join(
        f'<line class="grid" x1="0" x2="100%" y1="{y(t)}" y2="{y(t)}"/>'
        f'<text text-anchor="end" x="-8" y="{y(t) + 4}">{tick_label(t)}</text>'
        for t in y_marks
    )
    below = "".join(
        f'<text text-anchor="middle" x="{x(t)}%" y="{HEIGHT + 18}">{tick_label(t)}</text>'
        for t in x_marks
        if x.low <= t <= x.high
    )
    return Html(
        f'<p class="note">{escape(y_label)}</p><div class="plot">'
        f'<svg role="img" width="100%" height="{HEIGHT + 24}"><title>{escape(title)}</title>'
        f"<desc>{escape(desc)}</desc>{grid}{below}{inside}</svg>"
        f'<div class="axis">{escape(x_label)}</div></div>'
    )


def _line(index: int, points: Sequence[Point], x: Scale, y: Scale) -> str:
    path, dots, pen_down = [], [], False
    few = len(points) <= 24
    thinned = thin(points)
    for i, (at, value) in enumerate(thinned):
        if not _finite(value):
            pen_down = False
            continue
        # The path's box is 1000 wide, and stretched to the width of the page.
        path.append(f"{'L' if pen_down else 'M'}{round(x(at) * 10)} {y(value)}")
        after = thinned[i + 1][1] if i + 1 < len(thinned) else None
        if few or (not pen_down and not _finite(after)):
            dots.append(f'<circle class="dot" cx="{x(at)}%" cy="{y(value)}" r="2.6"/>')
        pen_down = True
    return (
        f'<g class="s{index % len(DASHES)}{" dense" if len(thinned) > 150 else ""}">'
        f'<svg width="100%" height="{HEIGHT}" viewBox="0 0 1000 {HEIGHT}" '
        f'preserveAspectRatio="none"><path class="line"{_dash(index)} d="{"".join(path)}"/></svg>'
        f"{''.join(dots)}</g>"
    )


def _dash(index: int) -> str:
    dash = DASHES[index % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _legend(index: int, name: str, points: Sequence[Point]) -> str:
    last = next(y for _, y in reversed(points) if _finite(y))
    return (
        f'<li class="s{index % len(DASHES)}"><svg aria-hidden="true" width="34" height="10">'
        f'<path class="line"{_dash(index)} d="M1 5H33"/></svg> {escape(name)} '
        f'<span class="last">{number(last)}</span></li>'
    )


def _rows(
    labels: Sequence[tuple[str, str]],
    values: Sequence[float],
    x_label: str,
    zero_line: bool,
    draw: Callable[[int, Scale], str],
) -> Html:
    """Return a row for each label and its value in words, drawn over one scale from zero."""
    if not values:
        return note("No values yet.")
    marks = ticks(min(0.0, *values), max(0.0, *values), 6)
    x = Scale(marks[0], marks[-1], 0, 100)
    grid = "".join(_upright("grid", x(t)) for t in marks)
    grid += _upright("zero", x(0)) if zero_line else ""
    rows = "".join(
        f'<div class="row"><b>{escape(label)}</b><span>{escape(value)}</span></div>'
        f'<svg aria-hidden="true" width="100%" height="{ROW}">{grid}{draw(i, x)}</svg>'
        for i, (label, value) in enumerate(labels)
    )
    below = "".join(
        f'<text text-anchor="middle" x="{x(t)}%" y="12">{tick_label(t)}</text>' for t in marks
    )
    return Html(
        f'<div class="rows">{rows}<svg aria-hidden="true" width="100%" height="18">{below}</svg>'
        f'<div class="axis">{escape(x_label)}</div></div>'
    )


def _upright(kind: str, at: float) -> str:
    return f'<line class="{kind}" x1="{at}%" x2="{at}%" y1="0" y2="{ROW}"/>'


def _interval(low: float | None, mid: float | None, high: float | None, *, signed: bool) -> str:
    if not (_finite(low) and _finite(mid) and _finite(high)):
        return "no value"
    sign = "+" if signed and mid > 0 else ""
    return f"{sign}{number(mid, 3)} [{number(low, 3)}, {number(high, 3)}]"


def _figure(title: str, content: Part, numbers: Html | None = None) -> Html:
    below = details("The numbers", numbers) if numbers else ""
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return Html(f"<figure>{caption}{joined(content)}{below}</figure>")


def _series_table(series: Mapping[str, Sequence[Point]], x_label: str) -> Html:
    by_x = {name: dict(points) for name, points in series.items()}
    xs = sorted({x for points in by_x.values() for x in points})
    shown = xs
    if len(xs) > TABLE_ROWS:
        last = len(xs) - 1
        shown = [xs[round(i * last / (TABLE_ROWS - 1))] for i in range(TABLE_ROWS)]
    rows: list[list[Cell]] = [[x, *(points.get(x) for points in by_x.values())] for x in shown]
    caption = f"{len(shown)} of {len(xs):,} points" if len(shown) < len(xs) else ""
    return table([x_label, *by_x], rows, caption=caption)


def _in_words(name: str, points: Sequence[Point]) -> str:
    values = [y for _, y in points if _finite(y)]
    return (
        f"{name}: from {number(values[0])} to {number(values[-1])}, "
        f"lowest {number(min(values))}, highest {number(max(values))}"
    )


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
