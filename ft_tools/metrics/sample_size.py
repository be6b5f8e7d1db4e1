"""How many examples show an effect, and which effect a number of examples shows."""

import math

from ft_tools.metrics.verdicts import ALPHA, POWER, normal_quantile

FEWEST_EXAMPLES = 6
"""Fewer cannot reach p < 0.05 in McNemar's exact test: 5 of 5 one way have p = 2 / 2**5."""


def examples_needed(effect: float, discordance: float) -> int:
    """Return how many examples show an effect on a yes/no metric in 4 of 5 evaluations.

    n = (z_{1-alpha/2} + z_{power})^2 (discordance - effect^2) / effect^2

    Args:
        effect: True difference of the two rates.
        discordance: Fraction of examples on which the models differ, at least `effect`.

    Source: R. J. Connor, Biometrics 43 (1987), 207-211

    >>> examples_needed(0.1, 0.2), examples_needed(0.05, 0.2)
    (150, 621)
    """
    reach = (normal_quantile(1 - ALPHA / 2) + normal_quantile(POWER)) ** 2
    return math.ceil(reach * (max(discordance, effect) - effect**2) / effect**2)


def detectable_effect(num_examples: int, discordance: float, alpha: float = ALPHA) -> float:
    """Return the effect on a yes/no metric that `num_examples` show in 4 of 5 evaluations.

    Solves `examples_needed` for the effect: reach sqrt(discordance / (n + reach^2)).

    >>> round(detectable_effect(150, 0.2), 3)
    0.1
    """
    reach = normal_quantile(1 - alpha / 2) + normal_quantile(POWER)
    return min(1.0, reach * math.sqrt(discordance / (num_examples + reach**2)))
