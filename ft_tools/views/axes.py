"""The axes of a chart: values to pixels, round numbers to mark, and how they are written."""

import math
import sys
from dataclasses import dataclass

LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels; halves keep the range of two huge numbers finite."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        half = self.high / 2 - self.low / 2
        # The half of the least number there is, is zero.
        share = (value / 2 - self.low / 2) / half if half else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten) that span low to high, both inside.

    >>> ticks(0, 1, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        room = abs(low) * 0.1 or 0.5
        low, high = max(low - room, -LARGEST), min(high + room, LARGEST)
    span = high - low
    if not math.isfinite(span) or span <= abs(high) * 1e-12:
        return [low, high]
    rough = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 1e-300 else 0.0
    if power == 0.0:
        return [low, high]
    step = power * next(m for m in (1, 2, 5, 10) if rough <= m * power * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [round(i * step, 12) if step > 1e-9 else i * step for i in range(first, last + 1)]
    return [max(-LARGEST, min(LARGEST, mark)) for mark in marks]


def tick_label(value: float) -> str:
    """Write a tick shortly.

    >>> tick_label(1500), tick_label(2_000_000), tick_label(0.25), tick_label(1.5e-4)
    ('1.5k', '2M', '0.25', '1.5e-4')
    """
    if 0 < abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < size * 1000:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
