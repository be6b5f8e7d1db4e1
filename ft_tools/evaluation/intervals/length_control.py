"""What a judge would prefer if both answers were equally long.

A regression predicts the verdicts from the difference of lengths, and is then read where that
difference is zero:

    P(tuned preferred) = s(a + b x),  x = tanh(d / r),  s(z) = 1 / (1 + exp(-z))

with d the tuned answer's length minus the baseline's, in characters, and r the root mean square of
d. The length-controlled preference is s(a).

Source: Y. Dubois et al., Length-Controlled AlpacaEval, https://arxiv.org/abs/2404.04475 (the idea
and the tanh; the difficulty of each instruction, which takes many models to know, is left out)
"""

import math
from collections.abc import Sequence

import numpy as np

from ft_tools.evaluation.intervals.comparison_verdict import ALPHA, POWER, Paired, by_cluster
from ft_tools.evaluation.intervals.means import sign_change_test, t_quantile

# With fewer verdicts that are no ties a regression on two numbers says nothing.
FEWEST_DECISIVE = 10
# A win and a loss, half each, at equal length and at both ends: they keep the fit finite.
# Source: A. Gelman et al., Annals of Applied Statistics 2 (2008), 1360-1383 (weak priors for it)
PRIOR = [(x, y, 0.125) for x in (-1.0, 0.0, 0.0, 1.0) for y in (0.0, 1.0)]
STEPS = 30

Row = tuple[float, float, float]
"""(x, verdict between 0 and 1, weight)."""


def preference_at_equal_length(
    wins: Sequence[float],
    longer: Sequence[float],
    seed: int = 0,
    resamples: int = 4000,
    clusters: Sequence[str] | None = None,
) -> Paired | None:
    """Compare two models by a judge's verdicts with the effect of length taken out.

    The p value flips the signs of the score contributions at a = 0; the interval is a's, with a
    variance that holds for ties too.

    Args:
        wins: 1 where the tuned answer was preferred, 0 where the baseline's was, 0.5 for a tie.
        longer: Characters of the tuned answer minus those of the baseline's.
        seed: Of the random signs.
        resamples: Random sign changes.
        clusters: Group of each example, when examples of a group resemble each other.

    Returns:
        `difference` is tuned minus baseline preference, 2 s(a) - 1; None when too few verdicts are
        no ties.

    Source: J. Hemerik, J. Goeman, L. Finos, J. Royal Statistical Society B 82 (2020), 841-864
    (sign flips); L. E. Papke, J. Wooldridge, J. Applied Econometrics 11 (1996), 619-632 (variance)
    """
    n = len(wins)
    groups = by_cluster(clusters or range(n))
    if sum(any(wins[i] != 0.5 for i in group) for group in groups) < FEWEST_DECISIVE:
        return None
    scale = math.sqrt(sum(d * d for d in longer) / n) or 1.0
    rows = [(math.tanh(d / scale), win, 1.0) for d, win in zip(longer, wins, strict=True)]
    a, b = _fit([*rows, *PRIOR])
    error = _error_of_level(rows, groups, a, b)
    freedom = len(groups) - 2
    reach = t_quantile(1 - ALPHA / 2, freedom)
    low, high = (2 * _logistic(a + sign * reach * error) - 1 for sign in (-1, 1))
    # How fast 2 s(a) - 1 grows with a.
    slope = 2 * _logistic(a) * (1 - _logistic(a))
    return Paired(
        num_examples=n,
        num_better=sum(win > 0.5 for win in wins),
        num_worse=sum(win < 0.5 for win in wins),
        difference=2 * _logistic(a) - 1,
        standard_error=slope * error,
        low=low,
        high=high,
        p_value=sign_change_test(
            _contributions(rows, groups), np.random.default_rng(seed), resamples
        ),
        minimum_detectable_effect=min(1.0, (reach + t_quantile(POWER, freedom)) * slope * error),
        method="logistic regression on the difference of lengths; sign changes"
        + (f"; {len(groups)} clusters" if clusters else ""),
    )


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-500.0, min(500.0, value))))


def _fit(rows: Sequence[Row], *, level: bool = True) -> tuple[float, float]:
    """Return the (a, b) of highest likelihood, by Newton's steps; a stays 0 without `level`."""
    a = b = 0.0
    for _ in range(STEPS):
        aa, ab, bb = _information(rows, a, b)
        up_a = sum(w * (y - _logistic(a + b * x)) for x, y, w in rows)
        up_b = sum(w * x * (y - _logistic(a + b * x)) for x, y, w in rows)
        if not level:
            b += max(-2.0, min(2.0, up_b / bb))
            continue
        determinant = aa * bb - ab * ab
        a += max(-2.0, min(2.0, (bb * up_a - ab * up_b) / determinant))
        b += max(-2.0, min(2.0, (aa * up_b - ab * up_a) / determinant))
    return a, b


def _information(rows: Sequence[Row], a: float, b: float) -> tuple[float, float, float]:
    aa = ab = bb = 0.0
    for x, _, weight in rows:
        p = _logistic(a + b * x)
        h = weight * p * (1 - p)
        aa, ab, bb = aa + h, ab + h * x, bb + h * x * x
    return aa, ab, bb


def _error_of_level(
    rows: Sequence[Row], groups: Sequence[Sequence[int]], a: float, b: float
) -> float:
    """Return the standard error of a: information, squared residuals of groups, information."""
    aa, ab, bb = _information([*rows, *PRIOR], a, b)
    determinant = aa * bb - ab * ab

    def moved(row: Row) -> float:
        """Return what a moves by when the verdict of an example does."""
        x, y, _ = row
        return (bb - ab * x) / determinant * (y - _logistic(a + b * x))

    spread = sum(sum(moved(rows[i]) for i in group) ** 2 for group in groups)
    spread += sum(row[2] * moved(row) ** 2 for row in PRIOR)
    n = len(groups) + sum(weight for *_, weight in PRIOR)
    return math.sqrt(spread * n / (n - 2))


def _contributions(rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> list[float]:
    """Return each group's part in the score of a at a = 0, with b's influence taken out."""
    _, b = _fit([*rows, *PRIOR], level=False)
    _, ab, bb = _information(rows, 0.0, b)
    slope = ab / bb if bb else 0.0
    parts = [(1 - slope * x) * (y - _logistic(b * x)) for x, y, _ in rows]
    return [sum(parts[i] for i in group) for group in groups]
