"""How far a shipped model is from the one it was made of: statistics and verdicts.

Inputs are numbers a token, measured by a worker; nothing here needs numpy or torch.
"""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ft_tools import facts
from ft_tools.contract import Reason, Report

Verdict = Literal["good", "ok", "fair", "warn", "fail"]
# The dividing lines between the verdicts, best first; the last verdict is for what is above all.
GATES: tuple[tuple[Verdict, str], ...] = (
    ("good", "ship.kl_good"),
    ("ok", "ship.kl_ok"),
    ("fair", "ship.kl_warn"),
    ("warn", "ship.kl_fail"),
)


class Quality(Report):
    """A format against the merged model, token by token, on the same text."""

    mean_kl: float = Field(
        description="Mean Kullback-Leibler divergence from the merged model, nats a token."
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
    verdict: Verdict = Field(
        description="good, ok, fair, warn or fail, by mean_kl; fail too if the tokenizers differ."
    )


class Measured(Report):
    """What a worker measured at each position of the text; all lists have the same length."""

    kls: list[float]
    same_top1: list[bool]
    reference_nlls: list[float] = Field(description="-log p of the next token, reference model.")
    nlls: list[float] = Field(description="-log p of the next token, shipped model.")


def summarise(measured: Measured, tokenizer_parity: bool) -> Quality:
    """Reduce the numbers of all tokens to a quality.

    perplexity_ratio = exp(mean(nll) - mean(reference nll)).

    >>> same = Measured(kls=[0.0, 0.0], same_top1=[True, True], reference_nlls=[1.0, 2.0],
    ...                 nlls=[1.0, 2.0])
    >>> summarise(same, True).perplexity_ratio, summarise(same, True).verdict
    (1.0, 'good')
    """
    num = len(measured.kls)
    mean = math.fsum(measured.kls) / num
    spread = math.fsum((kl - mean) ** 2 for kl in measured.kls)
    gap = math.fsum(measured.nlls) - math.fsum(measured.reference_nlls)
    return Quality(
        mean_kl=mean,
        kl_standard_error=math.sqrt(spread / (num - 1) / num) if num > 1 else 0.0,
        p99_kl=percentile(measured.kls, 0.99),
        top1_agreement=sum(measured.same_top1) / num,
        perplexity_ratio=math.exp(gap / num),
        tokenizer_parity=tokenizer_parity,
        num_tokens=num,
        verdict=verdict_of(mean, tokenizer_parity),
    )


def verdict_of(mean_kl: float, tokenizer_parity: bool) -> Verdict:
    """Judge a mean divergence; a model that reads other tokens than it was trained on fails.

    >>> verdict_of(0.0014, True), verdict_of(0.0014, False), verdict_of(float("nan"), True)
    ('good', 'fail', 'fail')
    """
    if tokenizer_parity:
        for verdict, gate in GATES:
            if mean_kl <= facts.number(gate):
                return verdict
    return "fail"


def most_merge_kl(adapter_kl: float) -> float:
    """Return the divergence that a merge may have, nats a token.

    What rounding costs grows with what the adapter changes; below a floor it is rounding alone.

    Args:
        adapter_kl: What the adapter changes, nats a token.
    """
    fraction = facts.number("ship.merge_kl_fraction")
    return max(facts.number("ship.merge_kl"), fraction * adapter_kl)


def merge_passes(
    mean_kl: float, adapter_kl: float, top1_agreement: float, applied_fraction: float | None
) -> bool:
    """Tell whether a merged model is what was trained.

    Args:
        mean_kl: From the base with its adapter, nats a token.
        adapter_kl: What the adapter changes, nats a token.
        top1_agreement: Fraction of tokens with the same first choice, 0 to 1.
        applied_fraction: How much of the adapter's effect the merge has; None: it has none.

    >>> merge_passes(1e-4, 1e-4, 1.0, 0.0), merge_passes(1e-5, 1e-4, 1.0, 0.98)
    (False, True)
    >>> merge_passes(0.007, 0.01, 1.0, 0.98), merge_passes(0.007, 1.0, 1.0, 0.98)
    (False, True)
    """
    lost = 0.0 if applied_fraction is None else abs(1.0 - applied_fraction)
    return (
        mean_kl <= most_merge_kl(adapter_kl)
        and top1_agreement >= facts.number("ship.merge_top1")
        and lost <= facts.number("ship.merge_lost")
    )


def weights_pass(worst: float, applied_fraction: float | None) -> bool:
    """Tell whether merged weights are base and adapter, where no logits could be compared.

    Args:
        worst: Largest difference of a weight's outputs over their size.
        applied_fraction: How much of the adapter's effect they have; None: it has none.
    """
    lost = 0.0 if applied_fraction is None else abs(1.0 - applied_fraction)
    return worst <= facts.number("ship.weight_difference") and lost <= facts.number(
        "ship.merge_lost"
    )


def verdict_reason(quality: Quality) -> Reason:
    """Say why a verdict is what it is."""
    if not quality.tokenizer_parity:
        return Reason(
            rule="a shipped model tokenizes as it was trained",
            observed=False,
            threshold="every probe text alike",
            source="https://github.com/ggml-org/llama.cpp/issues/15842",
        )
    gate = next((gate for verdict, gate in GATES if verdict == quality.verdict), "ship.kl_fail")
    row = facts.threshold(gate)
    return Reason(
        rule=f"mean KL decides: {quality.verdict}",
        observed=round(quality.mean_kl, 6),
        threshold=row.number,
        source=row.source,
    )


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return a percentile, interpolated between neighbours.

    >>> percentile([0.0, 1.0, 2.0, 3.0], 0.5)
    1.5
    """
    ordered = sorted(values)
    at = fraction * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
