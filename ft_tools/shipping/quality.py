"""How far a shipped model is from the one it was made of: statistics and verdicts.

Inputs are numbers a token, measured by a worker; nothing here needs numpy or torch.
"""

import math
import statistics
from typing import Literal

from pydantic import Field

from ft_tools import facts
from ft_tools.contract import Reason, Report
from ft_tools.reasons import reason
from ft_tools.shipping.findings import refusal

Verdict = Literal["good", "ok", "fair", "warn", "fail"]
# The limits of the verdicts, best first; the last verdict is for what is above all.
LIMITS: tuple[tuple[Verdict, str], ...] = (
    ("good", "ship.kl_good"),
    ("ok", "ship.kl_ok"),
    ("fair", "ship.kl_warn"),
    ("warn", "ship.kl_fail"),
)


# Norms, scales and headers weigh nothing in a model that anyone ships, and much in a toy.
SMALL_BYTES = 2**24


class Quality(Report):
    """A format against the merged model, token by token, on the same text."""

    mean_kl: float = Field(
        description="Mean Kullback-Leibler divergence from the merged model, nats per token."
    )
    kl_standard_error: float = Field(description="Of mean_kl, tokens taken as independent.")
    p99_kl: float = Field(description="99th percentile of the divergence, nats.")
    top1_agreement: float = Field(
        description="Fraction of tokens where both models rank the same token first, 0 to 1."
    )
    perplexity_ratio: float = Field(
        description="Perplexity of the format over that of the merged model; 1 is no loss."
    )
    tokenizer_parity: bool = Field(description="Whether both tokenize every probe text alike.")
    num_tokens: int = Field(description="Tokens compared.")
    base_kl: float | None = Field(
        None,
        description="Mean divergence of this format from the base model, without the adapter, nats "
        "per token; null: no adapter, or the base was not run.",
    )
    effect_kept_fraction: float | None = Field(
        None,
        description="How much of the adapter's effect on the logits the format has: 1 all of it, 0 "
        "none.",
    )
    verdict: Verdict = Field(
        description="good, ok, fair, warn or fail, by mean_kl; also fail if the tokenizers differ "
        "or the format is closer to the base model than to the tuned one."
    )


class PositionScores(Report):
    """What a worker measured at each position of the text; all lists have the same length."""

    kls: list[float]
    same_top1: list[bool]
    reference_nlls: list[float] = Field(description="-log p of the next token, reference model.")
    nlls: list[float] = Field(description="-log p of the next token, shipped model.")
    base_kls: list[float] = Field(
        default_factory=list, description="Divergence from the base; empty: it was not run."
    )
    effect_kept_fraction: float | None = None


def summarise(measured: PositionScores, tokenizer_parity: bool) -> Quality:
    """Reduce the numbers of all tokens to a quality.

    perplexity_ratio = exp(mean(nll) - mean(reference nll)).

    >>> same = PositionScores(kls=[0.0, 0.0], same_top1=[True, True], reference_nlls=[1.0, 2.0],
    ...                 nlls=[1.0, 2.0])
    >>> summarise(same, True).perplexity_ratio, summarise(same, True).verdict
    (1.0, 'good')
    """
    kls, num = measured.kls, len(measured.kls)
    mean = math.fsum(kls) / num
    gap = math.fsum(measured.nlls) - math.fsum(measured.reference_nlls)
    base_kl = math.fsum(measured.base_kls) / num if measured.base_kls else None
    several = num > 1
    return Quality(
        mean_kl=mean,
        kl_standard_error=statistics.stdev(kls) / math.sqrt(num) if several else 0.0,
        p99_kl=statistics.quantiles(kls, n=100, method="inclusive")[98] if several else mean,
        top1_agreement=sum(measured.same_top1) / num,
        perplexity_ratio=math.exp(gap / num),
        tokenizer_parity=tokenizer_parity,
        num_tokens=num,
        base_kl=base_kl,
        effect_kept_fraction=measured.effect_kept_fraction,
        verdict="fail" if erases(mean, base_kl) else verdict_of(mean, tokenizer_parity),
    )


def erases(mean_kl: float, base_kl: float | None) -> bool:
    """Return whether a format is closer to the base than to the tuned model it was made of.

    >>> erases(0.2, 0.05), erases(0.05, 0.2), erases(0.2, None)
    (True, False, False)
    """
    return base_kl is not None and base_kl < mean_kl


def verdict_of(mean_kl: float, tokenizer_parity: bool) -> Verdict:
    """Judge a mean divergence; a model that reads other tokens than it was trained on fails.

    >>> verdict_of(0.0014, True), verdict_of(0.0014, False), verdict_of(float("nan"), True)
    ('good', 'fail', 'fail')
    """
    if tokenizer_parity:
        for verdict, limit in LIMITS:
            if mean_kl <= facts.number(limit):
                return verdict
    return "fail"


def merge_gates(
    mean_kl: float, adapter_kl: float, top1_agreement: float, applied_fraction: float | None
) -> dict[str, tuple[float, float]]:
    """Return what a merge is judged by: a threshold -> what was seen, and the limit.

    What rounding costs grows with what the adapter changes; below a floor it is rounding alone.

    Args:
        mean_kl: From the base with its adapter, nats per token.
        adapter_kl: What the adapter changes, nats per token.
        top1_agreement: Fraction of tokens with the same first choice, 0 to 1.
        applied_fraction: How much of the adapter's effect the merge has; None: it has none.
    """
    relative = facts.number("ship.merge_kl_fraction") * adapter_kl
    return {
        "ship.merge_kl": (mean_kl, max(facts.number("ship.merge_kl"), relative)),
        "ship.merge_top1": (top1_agreement, facts.number("ship.merge_top1")),
        "ship.merge_lost": (_lost(applied_fraction), facts.number("ship.merge_lost")),
    }


def merge_passes(
    mean_kl: float, adapter_kl: float, top1_agreement: float, applied_fraction: float | None
) -> bool:
    """Return whether a merged model is what was trained. As `merge_gates`.

    >>> merge_passes(1e-4, 1e-4, 1.0, 0.0), merge_passes(1e-5, 1e-4, 1.0, 0.98)
    (False, True)
    >>> merge_passes(0.007, 0.01, 1.0, 0.98), merge_passes(0.007, 1.0, 1.0, 0.98)
    (False, True)
    """
    kl, top1, lost = merge_gates(mean_kl, adapter_kl, top1_agreement, applied_fraction).values()
    return kl[0] <= kl[1] and top1[0] >= top1[1] and lost[0] <= lost[1]


def weights_pass(worst: float, applied_fraction: float | None) -> bool:
    """Return whether merged weights are base and adapter, where no logits could be compared.

    Args:
        worst: Largest difference of a weight's outputs over their size.
        applied_fraction: How much of the adapter's effect they have; None: it has none.
    """
    is_near = worst <= facts.number("ship.weight_difference")
    return is_near and _lost(applied_fraction) <= facts.number("ship.merge_lost")


def _lost(applied_fraction: float | None) -> float:
    return 0.0 if applied_fraction is None else abs(1.0 - applied_fraction)


def verdict_reason(quality: Quality) -> Reason:
    """Return why a verdict is what it is."""
    if not quality.tokenizer_parity:
        return parity_reason()
    if erases(quality.mean_kl, quality.base_kl):
        return reason("adapter_erased", round(quality.mean_kl, 6), round(quality.base_kl or 0.0, 6))
    limit = next((key for verdict, key in LIMITS if verdict == quality.verdict), "ship.kl_fail")
    row = facts.threshold(limit)
    return Reason(
        rule=f"mean KL decides: {quality.verdict}",
        observed=round(quality.mean_kl, 6),
        threshold=row.number,
        source=row.source,
    )


def parity_reason() -> Reason:
    """Return the reason that a file reads other tokens than the model was trained on."""
    return reason("tokenizers_differ", False, "every probe text alike")


def require_planned_size(name: str, made_bytes: int, planned_bytes: int) -> None:
    """Refuse a format that is far larger than planned: something was left as it was.

    Raises:
        Refused: It is.
    """
    most = facts.number("loading.largest_size_ratio")
    if planned_bytes and made_bytes > most * planned_bytes + SMALL_BYTES:
        made, planned = made_bytes / 2**30, planned_bytes / 2**30
        raise refusal("larger_than_planned", format=name, made=made, planned=planned, most=most)
