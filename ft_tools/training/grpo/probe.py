"""What the starting model makes of the prompts: measured by a short run, judged by the plan.

The run samples answers as training does. Its result is found by what it depends on: model,
prompts, rewards and sampling.
"""

import contextlib
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.contract import NextStep, Report
from ft_tools.errors import BadData
from ft_tools.facts import number
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import Kind, State
from ft_tools.runs.state.run_state import settled
from ft_tools.training.findings import refusal, warning

KIND: Kind = "grpo_probe"
PROMPTS = 64
"""At most; fewer where they take longer than SECONDS."""
SECONDS = 240.0
LOOKED_AT = 50
RIGHT = 0.999
NO_SIGNAL = "rl_zero_reward"


class ProbeResult(BaseModel):
    """What a probe measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str = ""
    prompts: int
    generations: int = Field(description="Answers to each prompt.")
    mean_reward: float
    pass_at_1: float = Field(description="Fraction of answers whose reward is 1.")
    pass_at_k: float = Field(description="Fraction of prompts with such an answer.")
    zero_spread_fraction: float = Field(description="Of prompts whose answers all score the same.")
    is_graded: bool = Field(description="Whether a reward lies between 0 and 1.")
    parts: dict[str, float] = Field(description="Mean of each check.")
    broken_fraction: float = Field(0.0, description="Of answers that a check could not score.")
    mean_tokens: float
    longest_usual_tokens: int = Field(description="99 of 100 answers are no longer.")
    truncated_fraction: float
    seconds_per_completion: float
    tokens_per_second: float


class ProbeReport(Report):
    """What a probe found, and the launch that it is for."""

    summary: str
    result: ProbeResult
    next_steps: list[NextStep] = Field(default_factory=list)


def summed_up(
    rewards: Sequence[Sequence[float]],
    parts: dict[str, float],
    lengths: Sequence[int],
    *,
    num_truncated: int,
    seconds: float,
    broken_fraction: float = 0.0,
    run_id: str = "",
) -> ProbeResult:
    """Sum up the rewards of each prompt's answers, and the answers' tokens.

    >>> found = summed_up([[1, 0], [0, 0]], {}, [3, 5, 4, 4], num_truncated=1, seconds=2.0)
    >>> found.pass_at_1, found.pass_at_k, found.zero_spread_fraction, found.tokens_per_second
    (0.25, 0.5, 0.5, 8.0)
    """
    every = [value for group in rewards for value in group]
    right = [[value >= RIGHT for value in group] for group in rewards]
    ordered, count = sorted(lengths), len(lengths)
    return ProbeResult(
        run_id=run_id,
        prompts=len(rewards),
        generations=max(map(len, rewards)),
        mean_reward=round(fmean(every), 4),
        pass_at_1=round(fmean([one for group in right for one in group]), 4),
        pass_at_k=round(fmean([any(group) for group in right]), 4),
        zero_spread_fraction=round(fmean([max(g) - min(g) < 1e-6 for g in rewards]), 4),
        is_graded=any(0 < value < RIGHT for value in every),
        parts={name: round(value, 4) for name, value in parts.items()},
        broken_fraction=round(broken_fraction, 4),
        mean_tokens=round(fmean(lengths), 1),
        longest_usual_tokens=ordered[min(count - 1, math.ceil(0.99 * count) - 1)],
        truncated_fraction=round(num_truncated / count, 4),
        seconds_per_completion=round(seconds / count, 4),
        tokens_per_second=round(sum(lengths) / seconds, 1),
    )


def judged(found: ProbeResult, accepted: Collection[str]) -> list[str]:
    """Return what the probe warns of.

    Raises:
        Refused: Nothing was solved, nothing differs, or hardly an answer has an end.
    """
    fields = {**found.model_dump(), "num": found.prompts * found.generations}
    more = found.pass_at_k - found.pass_at_1
    is_solved = found.pass_at_k > 0 or found.is_graded
    if NO_SIGNAL not in accepted:
        if found.truncated_fraction > number("grpo.truncated_stop"):
            raise refusal("probe_truncated", **fields)
        if not is_solved:
            raise refusal("probe_none_solved", **fields)
        if found.zero_spread_fraction > number("grpo.zero_spread_stop"):
            raise refusal("probe_no_spread", **fields, stop=number("grpo.zero_spread_stop"))
    warned = {
        "probe_measured": True,
        "probe_none_right": is_solved and not found.pass_at_k,
        "probe_too_easy": found.pass_at_1 > number("grpo.too_easy"),
        "probe_little_spread": found.zero_spread_fraction > number("grpo.zero_spread_warn"),
        "probe_cut": found.truncated_fraction > number("grpo.truncated_warn"),
        "probe_broken": found.broken_fraction > number("grpo.broken_warn"),
    }
    return [warning(name, **fields, more=more) for name, holds in warned.items() if holds]


def runs_of(key: str) -> list[tuple[Path, State]]:
    """Return the probes of a key with their states, newest first."""
    found = []
    runs = [run for run in directory.all_runs() if run.name.startswith(f"{KIND}-")]
    for run_dir in runs[:LOOKED_AT]:
        with contextlib.suppress(BadData, OSError):
            if directory.whole_json(run_dir / "plan.json").get("probe_key") == key:
                found.append((run_dir, settled(run_dir).state))
    return found


def result_of(key: str) -> ProbeResult | None:
    """Return what the last probe of a key measured; None if none has ended well."""
    for run_dir, state in runs_of(key):
        if state == "succeeded":
            report = directory.whole_json(run_dir / "report.json")
            return ProbeResult.model_validate(report["result"])
    return None
