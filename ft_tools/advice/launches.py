"""Whether a launch may go on: what the ladder says of it, and what a person has to accept."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import anti_patterns
from ft_tools.advice.evaluations import trained_further
from ft_tools.advice.facts import Facts
from ft_tools.advice.gather import gather
from ft_tools.advice.ladder import PlacedRung, blocks, first, place
from ft_tools.advice.request import ApproachRequest, RungId

RULE = "advised_against"
LAUNCHED: Mapping[str, tuple[RungId, ...]] = {
    "sft": (
        "sft",
        "small_model_fine_tuning",
        "distillation",
        "sft_and_rag",
        "continued_pretraining",
    ),
    "dpo": ("dpo",),
    "kto": ("kto",),
    "grpo": ("rl_verifiable_reward",),
}
"""Rungs that a launch of a task may be; the first is meant if no other is considered."""
COUNTED_BY = {"sft": "num_examples", "dpo": "num_pairs", "kto": "num_marks", "grpo": "num_examples"}
CHECKED_BY_LAUNCHES = frozenset({"no_quality_filter"})
"""A launch audits its rows itself and knows which findings are accepted."""
BY_NEED = {"examples": "too_few_examples"}
"""Number that is too small -> the rule by which a launch is refused for it."""


class LaunchAdvice(BaseModel):
    """What the ladder says of a launch."""

    model_config = ConfigDict(frozen=True)

    approach: RungId = Field(description="What this launch trains.")
    verdict: Literal["now", "later", "no"] = Field(
        description="later: other rungs come before it, or a fact is missing. no: it is blocked."
    )
    why: str = ""
    rules: list[str] = Field(description="Rules that speak against it.")
    first_step: RungId = Field(description="The first rung that no fact excludes.")


def require_advised(
    task: str,
    advice: ApproachRequest | None,
    accepted: Collection[str],
    *,
    model: str | None = None,
    dataset: str = "",
    from_sft: bool = False,
) -> LaunchAdvice | None:
    """Return what the ladder says of a launch; None without advice.

    Args:
        task: sft, dpo, kto or grpo.
        advice: The arguments of recommend_approach; what it leaves out is taken from the launch.
        accepted: Ids of rules that a person accepts.
        model: Model or run that the launch starts from.
        dataset: Rows that it trains on.
        from_sft: It starts from a finished SFT run.

    Raises:
        Refused: By the rule `advised_against`, unless each rule is accepted.
    """
    if advice is None:
        return None
    known: dict[str, object] = {}
    if advice.model is None:
        known["model"] = model
    if dataset and advice.dataset is None and getattr(advice, COUNTED_BY[task]) is None:
        known["dataset"] = dataset
    facts = gather(advice.model_copy(update=known))
    if from_sft:
        facts = replace(facts, words={**facts.words, "checkpoint": "sft_run"})
    if trained_further(model or ""):
        # It has not missed yet: more steps are part of the same attempt.
        facts = replace(facts, tried=facts.tried - {"sft"})
    said = advised(facts, advice.considering, task)
    is_accepted = bool(said.rules) and set(said.rules) <= set(accepted)
    if said.verdict != "now" and not is_accepted and RULE not in accepted:
        ids = said.rules or [RULE]
        cure = (
            f"First: {said.first_step}. To train nevertheless, the user accepts: "
            f"accept_findings={ids!r} with accept_reason."
        )
        observed = f"{said.approach}: {said.verdict} ({said.why})"
        raise anti_patterns.refusal(RULE, observed, cure)
    return said


def advised(facts: Facts, considering: Sequence[RungId], task: str) -> LaunchAdvice:
    """Return what the ladder says of a launch under the facts."""
    launched = LAUNCHED[task]
    wanted = next((each for each in considering if each in launched), launched[0])
    held = [each for each in blocks(facts) if each.id not in CHECKED_BY_LAUNCHES]
    placed = place(facts, held, considering)
    own = placed[wanted]
    verdict: Literal["now", "later", "no"] = "later" if own.before or not own.is_possible else "now"
    waits = f"after {', '.join(own.before)}" if own.before else ""
    return LaunchAdvice(
        approach=wanted,
        verdict="no" if own.rung.state == "blocked" else verdict,
        why="; ".join(dict.fromkeys(filter(None, [own.rung.why, waits]))),
        rules=_rules(own, placed),
        first_step=first(placed, [wanted]).row.id,
    )


def _rules(own: PlacedRung, placed: Mapping[RungId, PlacedRung]) -> list[str]:
    """Return the rules that block a launch, and those of the rungs that come before it."""
    named = [BY_NEED.get(each, each) for each in own.ids]
    named += [placed[name].row.refused_as for name in own.before]
    return [each for each in dict.fromkeys(named) if each in anti_patterns.rules()]
