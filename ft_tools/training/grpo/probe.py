"""What the starting model makes of the prompts: measured by a short run, judged by the plan.

The run samples answers as training does. Its result is found by what it depends on: model,
prompts, rewards and sampling.
"""

import contextlib
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.contract import NextStep, Report
from ft_tools.errors import BadData
from ft_tools.facts import number
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.metrics.means import wilson_interval
from ft_tools.metrics.verdicts import ALPHA, normal_quantile
from ft_tools.next_steps import next_step
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import Kind, State
from ft_tools.runs.state.run_state import settled
from ft_tools.training.findings import refusal, warning
from ft_tools.training.grpo.prompts import Prompt
from ft_tools.training.grpo.request import GrpoRequest

KIND: Kind = "grpo_probe"
PROMPTS = 64
"""At most; fewer where they take longer than SECONDS."""
LEAST_PROMPTS = 16
"""If all of so many are alike, the interval begins at 81%, above grpo.zero_spread_stop."""
SECONDS, MOST_SECONDS = 240.0, 960.0
"""After which a probe ends; the second where it has fewer prompts than LEAST_PROMPTS."""
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


def judged(
    found: ProbeResult, accepted: Collection[str], *, longest: int, first: NextStep | None
) -> list[str]:
    """Return what the probe warns of.

    Intervals count prompts, not answers: answers to one prompt resemble each other.

    `first` is the call that trains on references; None where there are none.
    """
    rates = found.pass_at_k, found.zero_spread_fraction, found.truncated_fraction
    solved, alike, cut = (
        wilson_interval(rate, found.prompts, normal_quantile(1 - ALPHA / 2)) for rate in rates
    )
    stop, is_solved = number("grpo.zero_spread_stop"), found.pass_at_k > 0 or found.is_graded
    is_long = found.truncated_fraction > number("grpo.truncated_warn")
    is_flat = alike[0] > stop
    fields: dict[str, Any] = {
        **found.model_dump(),
        "num": found.prompts * found.generations,
        "more": found.pass_at_k - found.pass_at_1,
        "solved": _written(solved),
        "alike": _written(alike),
        "cut": _written(cut),
        "stop": stop,
        "longest": longest,
        "longer": 2 * longest,
        "call": f"{first.tool} {json.dumps(first.arguments)}" if first else "launch_sft",
    }
    if NO_SIGNAL not in accepted:
        if cut[0] > number("grpo.truncated_stop") or (is_flat and is_long):
            raise refusal("probe_truncated", **fields)
        if is_flat:
            raise refusal("probe_no_spread" if is_solved else "probe_none_solved", **fields)
    warned = {
        "probe_measured": True,
        "probe_cut": is_long,
        "probe_undecided": found.zero_spread_fraction > stop and not is_flat,
        "probe_none_right": is_solved and not found.pass_at_k,
        "probe_too_easy": found.pass_at_1 > number("grpo.too_easy"),
        "probe_little_spread": number("grpo.zero_spread_warn") < found.zero_spread_fraction <= stop,
        "probe_broken": found.broken_fraction > number("grpo.broken_warn"),
    }
    return [warning(name, **fields) for name, holds in warned.items() if holds]


def _written(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:.0%} to {high:.0%}"


def train_first(
    request: GrpoRequest, facts: DatasetFacts, prompts: Sequence[Prompt]
) -> NextStep | None:
    """Return the call that trains on the references, or prepares them for it; None without any."""
    known = next((one for one in prompts if one.reference.strip()), None)
    if known is None:
        return None
    if facts.format == "prompts_messages_answered" or "completion" in known.row:
        start = request.model or request.sft_run
        return next_step("train_first", {"model": start, "dataset": request.dataset})
    mapping = {"prompt": "prompt", "answer": request.reference_format, "ignore": ["*"]}
    given = {"path": request.dataset, "mapping": mapping if isinstance(known.asked, str) else None}
    return next_step("prepare_first", given)


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
