"""How good a shipped model is: what was measured -> gates of a merge, verdicts, the file to use.

Limits are rows of facts/thresholds.toml, texts those of findings.toml. Nothing here needs numpy or
torch.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field

from ft_tools import facts
from ft_tools.contract import NextStep, Reason, Report
from ft_tools.next_steps import next_step
from ft_tools.reasons import reason
from ft_tools.shipping.findings import refusal, sentence
from ft_tools.shipping.report import FormatResult, MergeCheck, Quality, ShippedAnswers, Verdict

LIMITS: tuple[tuple[Verdict, str], ...] = (
    ("good", "ship.kl_good"),
    ("ok", "ship.kl_ok"),
    ("fair", "ship.kl_warn"),
    ("warn", "ship.kl_fail"),
)
"""The limits of the verdicts, best first; the last verdict is for what is above all."""
SMALL_BYTES = 2**24
"""Norms, scales and headers weigh nothing in a model that anyone ships, and much in a toy."""


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
    mean, several = math.fsum(kls) / num, num > 1
    gap = math.fsum(measured.nlls) - math.fsum(measured.reference_nlls)
    base_kl = math.fsum(measured.base_kls) / num if measured.base_kls else None
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
    near = (verdict for verdict, limit in LIMITS if mean_kl <= facts.number(limit))
    return next(near, "fail") if tokenizer_parity else "fail"


def verdict_reason(quality: Quality) -> Reason:
    """Return why a verdict is what it is."""
    if not quality.tokenizer_parity:
        return parity_reason()
    if erases(quality.mean_kl, quality.base_kl):
        return reason("adapter_erased", round(quality.mean_kl, 6), round(quality.base_kl or 0.0, 6))
    limit = dict(LIMITS).get(quality.verdict, "ship.kl_fail")
    rule = f"mean KL decides: {quality.verdict}"
    return Gate(limit, quality.mean_kl, facts.number(limit)).reason(rule)


def parity_reason() -> Reason:
    """Return the reason that a file reads other tokens than the model was trained on."""
    return reason("tokenizers_differ", False, "every probe text alike")


# --- a merge --------------------------------------------------------------------------------------


class Gate(NamedTuple):
    """What a merge is judged by: a threshold, what was seen, and the limit."""

    threshold: str
    seen: float
    limit: float

    @property
    def is_passed(self) -> bool:
        """Whether it is within the limit."""
        is_least = self.threshold == "ship.merge_top1"
        return self.seen >= self.limit if is_least else self.seen <= self.limit

    def reason(self, rule: str = "") -> Reason:
        """Return the rule with what was seen."""
        row = facts.threshold(self.threshold)
        seen = round(self.seen, 8)
        return Reason(rule=rule or row.why, observed=seen, threshold=self.limit, source=row.source)


def merge_gates(
    mean_kl: float, adapter_kl: float, top1_agreement: float, applied_fraction: float | None
) -> list[Gate]:
    """Return what a merge is judged by, where its logits were compared.

    What rounding costs grows with what the adapter changes; below a floor it is rounding alone.

    Args:
        mean_kl: From the base with its adapter, nats per token.
        adapter_kl: What the adapter changes, nats per token.
        top1_agreement: Fraction of tokens with the same first choice, 0 to 1.
        applied_fraction: How much of the adapter's effect the merge has; None: it has none.

    >>> passes = lambda *seen: all(gate.is_passed for gate in merge_gates(*seen))
    >>> passes(1e-4, 1e-4, 1.0, 0.0), passes(1e-5, 1e-4, 1.0, 0.98)
    (False, True)
    >>> passes(0.007, 0.01, 1.0, 0.98), passes(0.007, 1.0, 1.0, 0.98)
    (False, True)
    """
    most = facts.number("ship.merge_kl_fraction") * adapter_kl
    return [
        Gate("ship.merge_kl", mean_kl, max(facts.number("ship.merge_kl"), most)),
        Gate("ship.merge_top1", top1_agreement, facts.number("ship.merge_top1")),
        _lost(applied_fraction),
    ]


def gates_of(check: MergeCheck) -> list[Gate]:
    """Return what a merge was judged by."""
    kl, adapter_kl, applied = check.mean_kl, check.adapter_kl, check.applied_fraction
    return merge_gates(kl, adapter_kl, check.top1_agreement, applied)


def weight_gates(worst: float, applied_fraction: float | None) -> list[Gate]:
    """Return what merged weights are judged by, where no logits could be compared.

    Args:
        worst: Largest difference of a weight's outputs over their size.
        applied_fraction: How much of the adapter's effect they have; None: it has none.
    """
    differs = Gate("ship.weight_difference", worst, facts.number("ship.weight_difference"))
    return [differs, _lost(applied_fraction)]


def _lost(applied_fraction: float | None) -> Gate:
    lost = 0.0 if applied_fraction is None else abs(1.0 - applied_fraction)
    return Gate("ship.merge_lost", lost, facts.number("ship.merge_lost"))


def require_planned_size(name: str, made_bytes: int, planned_bytes: int) -> None:
    """Refuse a format that is far larger than planned: something was left as it was.

    Raises:
        Refused: It is.
    """
    most = facts.number("loading.largest_size_ratio")
    if planned_bytes and made_bytes > most * planned_bytes + SMALL_BYTES:
        made, planned = made_bytes / 2**30, planned_bytes / 2**30
        raise refusal("larger_than_planned", format=name, made=made, planned=planned, most=most)


# --- the file to use ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recommendation:
    """The file to use, and why."""

    said: str
    format: str = ""
    """Empty: none is recommended."""
    reasons: list[Reason] = field(default_factory=list)


def recommend(results: Sequence[FormatResult], tuned: Mapping[str, float]) -> Recommendation:
    """Return how each file answers through its own defaults, and the file to use.

    It is the smallest that answers as well as the best of them, or whose loss is shown to be below
    ship.quantized_loss. A file whose verdict is fail is never recommended. Where the tuned model
    scores 0, no loss can be seen: then it is the smallest whose verdict is good or ok.

    Args:
        results: All formats.
        tuned: The tuned model's metrics on the same examples.
    """
    checked = sorted((one for one in results if one.shipped), key=lambda one: one.size_bytes)
    if not checked:
        return Recommendation(sentence("unchecked"))
    first = _shipped(next(one for one in results if one.shipped))
    metric, num, loss = first.metric, first.num_examples, facts.number("ship.quantized_loss")
    answering = [one for one in checked if _answers(_shipped(one), loss)]
    good = [one for one in answering if _verdict(one) != "fail"]
    near = [one for one in good if _verdict(one) in {"good", "ok"}]
    most = max((_shipped(one).difference for one in good), default=0.0)
    kept = [one for one in good if (s := _shipped(one)).difference >= most or s.ci_low >= -loss]
    cannot_tell = tuned[metric] == 0
    # What holds first decides: the row of the sentence, and the files that it leaves.
    row, files = next(
        (row, files)
        for row, files, holds in (
            ("do_not_ship", [], not answering),
            ("verdict_fail", [], not good),
            ("task_cannot_tell", near, cannot_tell),
            ("loss_unknown", kept, kept != good and kept[0] is not good[0]),
            ("", kept, True),
        )
        if holds
    )
    listed = "; ".join(_described(one) for one in results if one.shipped)
    said = sentence("checked", metric=metric, num=num, files=listed, tuned=tuned[metric])
    fields = {"smaller": good[0].format, "best": files[0].format} if good and files else {}
    said += sentence(row, **fields, num=num, loss=loss) if row else ""
    said += sentence("no_ok_file") if cannot_tell and good and not near else ""
    seen: dict[str, str | float] = {"verdict_fail": "fail", "task_cannot_tell": tuned[metric]}
    reasons = [reason(row, seen[row])] if row in seen else []
    return Recommendation(said, files[0].format if files else "", reasons)


def next_steps(
    results: Sequence[FormatResult], recommended: str, dataset: str | None
) -> list[NextStep]:
    """Suggest to measure the task itself on the recommended file, or else on the last one made.

    Args:
        results: Formats, made or not.
        recommended: One of them; may be empty.
        dataset: The rows that the tuned model was measured on, if they are still there.
    """
    made = {r.format: r.path for r in results if r.state == "made" and r.format.startswith("gguf:")}
    if not made:
        return []
    arguments = {"model": made.get(recommended, [*made.values()][-1]), "dataset": dataset}
    return [next_step("measure_shipped", arguments, "same_rows" if dataset else "name_dataset")]


def _shipped(result: FormatResult) -> ShippedAnswers:
    assert result.shipped is not None
    return result.shipped


def _verdict(result: FormatResult) -> str:
    return result.quality.verdict if result.quality else ""


def _answers(shipped: ShippedAnswers, loss: float) -> bool:
    """Return whether no loss that counts is shown, and some prompt is the measured one."""
    return shipped.prompts_equal > 0 and (shipped.ci_high >= 0 or shipped.ci_low >= -loss)


def _described(result: FormatResult) -> str:
    shipped = _shipped(result)
    return sentence(
        "checked_file",
        format=result.format,
        value=shipped.task[shipped.metric],
        difference=shipped.difference,
        low=shipped.ci_low,
        high=shipped.ci_high,
        prompts="" if shipped.prompts_equal else sentence("no_prompt"),
    )
