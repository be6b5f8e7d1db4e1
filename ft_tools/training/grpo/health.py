"""Signals about a reinforcement run; their texts are rows of training/findings.toml.

Rewards are compared between the first and the last ten logged steps, held-out ones between the
first two and the last three evaluations: each is a mean of sampled answers.
"""

import statistics
from collections.abc import Callable

from ft_tools.facts import number
from ft_tools.training.metric_rows import RECENT, Check, Fields, Rows, finite, limit, trend

STOPS = frozenset(
    {"no_reward", "all_solved", "no_spread", "no_gradient", "answers_cut", "gamed"}
)  # fmt: skip
"""Signals that end a run, unless stop_rules is false."""
PART, MEAN = "rewards/", "/mean"
FIRST, LAST = 2, 3
"""Evaluations that are averaged."""
SPREAD, CUT = "zero_spread_fraction", "completions/clipped_ratio"


def held_out_change(rows: Rows) -> tuple[float, float] | None:
    """Return the mean held-out reward of the first and of the last evaluations."""
    rewards = finite(rows, "eval_reward")
    if len(rewards) < FIRST + LAST:
        return None
    return statistics.fmean(rewards[:FIRST]), statistics.fmean(rewards[-LAST:])


def _recent(rows: Rows, metric: str, least: int = RECENT) -> float | None:
    """Return the mean of the last ten values; None before there are enough."""
    logged = finite(rows, metric)
    return statistics.fmean(logged[-RECENT:]) if len(logged) >= least else None


def _flat(least: int, earns: Callable[[float], bool]) -> Check:
    """Return the check whether too many groups have no spread, at a reward that is meant."""

    def check(rows: Rows) -> Fields | None:
        without, reward = _recent(rows, SPREAD), _recent(rows, "reward", least)
        if without is None or reward is None or not earns(reward):
            return None
        is_flat = without > number("grpo.zero_spread_stop")
        return {"without": without, "reward": reward, "steps": least} if is_flat else None

    return check


def _moved(metric: str, threshold: str, *, is_above: bool) -> Check:
    """Return the check whether a metric came to that multiple of its start, or below it."""

    def check(rows: Rows) -> Fields | None:
        found = trend(rows, metric)
        if found is None:
            return None
        bound = number(threshold) * found[0]
        is_far = found[1] >= bound if is_above else found[1] < bound
        return {"first": found[0], "last": found[1]} if is_far else None

    return check


def _little_spread(rows: Rows) -> Fields | None:
    now = _recent(rows, SPREAD)
    low, high = number("grpo.zero_spread_warn"), number("grpo.zero_spread_stop")
    return {"now": now} if now is not None and low < now <= high else None


def _no_gradient(rows: Rows) -> Fields | None:
    """Find gradients of nothing where rewards differ: the adapter is not what is trained."""
    norms, without = finite(rows, "grad_norm")[-RECENT:], _recent(rows, SPREAD)
    is_dead = len(norms) == RECENT and not any(norms)
    has_spread = without is not None and without < number("grpo.zero_spread_warn")
    return {"steps": RECENT} if is_dead and has_spread else None


def _answers_cut(rows: Rows) -> Fields | None:
    """Find answers that grew until they are cut."""
    cut = trend(rows, CUT)
    is_grown = cut is not None and cut[0] < number("grpo.truncated_stop") - 0.3
    is_cut = cut is not None and cut[1] > number("grpo.truncated_stop")
    return {"first": cut[0], "now": cut[1]} if cut and is_grown and is_cut else None


def _part_traded(rows: Rows) -> Fields | None:
    """Find a part of the reward that is all earned while another one is lost."""
    names = {key for row in rows for key in row if key.startswith(PART) and key.endswith(MEAN)}
    parts = {name: found for name in sorted(names) if (found := trend(rows, name)) is not None}
    full = [name for name, (_, last) in parts.items() if last >= number("grpo.part_full")]
    lost = [n for n, (first, last) in parts.items() if first - last > number("grpo.part_lost")]
    if not full or not lost:
        return None
    first, last = parts[lost[0]]
    names_of = [name.removeprefix(PART).removesuffix(MEAN) for name in (full[0], lost[0])]
    return {"full": names_of[0], "lost": names_of[1], "first": first, "last": last}


def _gamed(rows: Rows) -> Fields | None:
    """Find a reward that rises in training and not on held-out prompts."""
    trained, held_out = trend(rows, "reward"), held_out_change(rows)
    if trained is None or held_out is None:
        return None
    rose, gained = trained[1] - trained[0], held_out[1] - held_out[0]
    apart = number("grpo.apart")
    if rose <= apart or gained > number("grpo.followed") * rose or rose - gained <= apart:
        return None
    return {"first": trained[0], "last": trained[1], "before": held_out[0], "after": held_out[1]}


REINFORCED: dict[str, Check] = {
    "no_reward": _flat(2 * RECENT, lambda reward: reward <= number("grpo.dead_reward")),
    "all_solved": _flat(RECENT, lambda reward: reward >= number("grpo.solved_reward")),
    "no_spread": _flat(
        2 * RECENT,
        lambda reward: number("grpo.dead_reward") < reward < number("grpo.solved_reward"),
    ),
    "little_spread": _little_spread,
    "no_gradient": _no_gradient,
    "gamed": _gamed,
    "part_traded": _part_traded,
    "answers_cut": _answers_cut,
    "length_race": _moved("completions/mean_length", "grpo.length_ratio", is_above=True),
    "entropy_lost": _moved("entropy", "grpo.entropy_fraction", is_above=False),
    "far_from_start": limit("kl", "grpo.kl_high", 3, 3, is_above=True),
    "check_breaks": limit("broken_fraction", "grpo.broken_warn", RECENT, RECENT, is_above=True),
}
"""By the id of their row in findings.toml, in the order of the report."""
