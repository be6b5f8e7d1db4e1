"""How good a shipped model is: what was measured -> gates of a merge, verdicts, the file to use.

Limits are rows of facts/thresholds.toml, texts those of findings.toml. Nothing here needs numpy or
torch.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.next_steps import next_step
from ft_tools.reasons import reason
from ft_tools.shipping.findings import sentence
from ft_tools.shipping.report import (
    FormatResult,
    MergeCheck,
    Quality,
    ShippedAnswers,
    Verdict,
    WeightCheck,
)

LIMITS: tuple[tuple[Verdict, str], ...] = (
    ("good", "ship.kl_good"),
    ("ok", "ship.kl_ok"),
    ("fair", "ship.kl_warn"),
    ("warn", "ship.kl_fail"),
)
"""The limits of the verdicts, best first; the last verdict is for what is above all."""


@dataclass
class PositionScores:
    """Two models' logits compared at each position of a text; empty lists: nothing was."""

    kls: list[float] = field(default_factory=list)
    same_top1: list[bool] = field(default_factory=list)
    reference_nlls: list[float] = field(default_factory=list)
    """-log p of the next token, of the model that the other has to equal."""
    nlls: list[float] = field(default_factory=list)
    base_kls: list[float] = field(default_factory=list)
    """Divergence of the other from the base; empty: the base was not run."""
    effect_kls: list[float] = field(default_factory=list)
    """Divergence of the base: what an adapter changes."""
    effect: float = 0.0
    """Size of that change, <a - b, a - b>; of each row its mean is taken off."""
    kept: float = 0.0
    """How much of it the other has, <m - b, a - b>: rounding adds what points elsewhere."""
    largest_difference: float = 0.0
    """Of two logits."""

    @property
    def effect_fraction(self) -> float | None:
        """Return how much of an adapter's change was found: 1 all, 0 nothing; None: no change."""
        return self.kept / self.effect if self.effect else None


def answered(
    prompts: Sequence[list[int]], answer: Callable[[list[int]], list[int]]
) -> tuple[list[list[int]], float]:
    """Return the ids that a model adds to each prompt, and tokens per second, prompts included."""
    began = time.monotonic()
    found = [answer(ids) for ids in prompts]
    return found, sum(map(len, found)) / max(time.monotonic() - began, 1e-9)


def summarise(measured: PositionScores, tokenizer_parity: bool) -> tuple[Quality, Reason]:
    """Reduce the numbers of all tokens to a quality, and the reason of its verdict.

    perplexity_ratio = exp(mean(nll) - mean(reference nll)).

    >>> same = PositionScores([0.0, 0.0], [True, True], [1.0, 2.0], [1.0, 2.0])
    >>> summarise(same, True)[0].perplexity_ratio, summarise(same, True)[0].verdict
    (1.0, 'good')
    """
    kls, num = measured.kls, len(measured.kls)
    mean, several = math.fsum(kls) / num, num > 1
    gap = math.fsum(measured.nlls) - math.fsum(measured.reference_nlls)
    base_kl = math.fsum(measured.base_kls) / num if measured.base_kls else None
    verdict, why = verdict_of(mean, base_kl, tokenizer_parity)
    quality = Quality(
        mean_kl=mean,
        kl_standard_error=statistics.stdev(kls) / math.sqrt(num) if several else 0.0,
        p99_kl=statistics.quantiles(kls, n=100, method="inclusive")[98] if several else mean,
        top1_agreement=sum(measured.same_top1) / num,
        perplexity_ratio=math.exp(gap / num),
        tokenizer_parity=tokenizer_parity,
        num_tokens=num,
        base_kl=base_kl,
        effect_kept_fraction=measured.effect_fraction,
        verdict=verdict,
    )
    return quality, why


def verdict_of(
    mean_kl: float, base_kl: float | None, tokenizer_parity: bool
) -> tuple[Verdict, Reason]:
    """Judge a mean divergence, and return why.

    A model that reads other tokens than it was trained on fails, and so does one that is closer to
    the base than to the tuned model it was made of.

    >>> [verdict_of(*seen)[0] for seen in ((0.0014, None, True), (0.2, 0.05, True))]
    ['good', 'fail']
    """
    if not tokenizer_parity:
        return "fail", parity_reason()
    if base_kl is not None and base_kl < mean_kl:
        return "fail", reason("adapter_erased", round(mean_kl, 6), round(base_kl, 6))
    near = (row for row in LIMITS if mean_kl <= facts.number(row[1]))
    verdict, limit = next(near, ("fail", "ship.kl_fail"))
    gate = Gate(limit, mean_kl, facts.number(limit))
    return verdict, gate.reason(f"mean KL decides: {verdict}")


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
        return Reason(
            id=self.threshold,
            rule=rule or row.why,
            observed=round(self.seen, 8),
            threshold=self.limit,
            source=row.source,
        )


def gates_of(check: MergeCheck | WeightCheck) -> list[Gate]:
    """Return what a merge was judged by: logits, or weights where no logits could be compared.

    What rounding costs grows with what the adapter changes; below a floor it is rounding alone.
    """
    applied, number = check.applied_fraction, facts.number
    lost = Gate(
        "ship.merge_lost",
        0.0 if applied is None else abs(1.0 - applied),
        number("ship.merge_lost"),
    )
    if isinstance(check, WeightCheck):
        row = "ship.weight_difference"
        return [Gate(row, check.max_relative_difference, number(row)), lost]
    most = number("ship.merge_kl_fraction") * check.adapter_kl
    return [
        Gate("ship.merge_kl", check.mean_kl, max(number("ship.merge_kl"), most)),
        Gate("ship.merge_top1", check.top1_agreement, number("ship.merge_top1")),
        lost,
    ]


Check = TypeVar("Check", MergeCheck, WeightCheck)


def judged(check: Check) -> Check:
    """Return a check with its verdict."""
    passed = all(gate.is_passed for gate in gates_of(check))
    return check.model_copy(update={"passed": passed})


# --- the file to use ------------------------------------------------------------------------------


class Recommendation(NamedTuple):
    """The file to use, and why."""

    said: str
    format: str = ""
    """Empty: none is recommended."""
    reasons: Sequence[Reason] = ()


def recommend(results: Sequence[FormatResult], tuned: Mapping[str, float]) -> Recommendation:
    """Return how each file answers through its own defaults, and the file to use.

    It is the smallest that answers as well as the best of them, or whose loss is shown to be below
    ship.quantized_loss. A file whose verdict is fail is never recommended. Where the tuned model
    scores 0, no loss can be seen: then it is the smallest whose verdict is good or ok.
    """
    checked = [(one, one.shipped) for one in results if one.shipped]
    if not checked:
        return Recommendation(sentence("unchecked"))
    first, loss = checked[0][1], facts.number("ship.quantized_loss")
    metric, num, cannot_tell = first.metric, first.num_examples, tuned[first.metric] == 0
    listed = "; ".join(_described(one.format, shipped) for one, shipped in checked)
    said = sentence("checked", metric=metric, num=num, files=listed, tuned=tuned[metric])
    by_size = sorted(checked, key=lambda one: one[0].size_bytes)
    # No loss that counts is shown, and some prompt is the measured one.
    answering = [
        (one, shipped, one.quality.verdict if one.quality else "")
        for one, shipped in by_size
        if shipped.prompts_equal > 0 and (shipped.ci_high >= 0 or shipped.ci_low >= -loss)
    ]
    good = [(one, shipped, verdict) for one, shipped, verdict in answering if verdict != "fail"]
    if not good:
        row = "verdict_fail" if answering else "do_not_ship"
        reasons = [reason(row, "fail")] if answering else []
        return Recommendation(said + sentence(row), reasons=reasons)
    if cannot_tell:
        near = [one.format for one, _, verdict in good if verdict in {"good", "ok"}]
        said += sentence("task_cannot_tell") + ("" if near else sentence("no_ok_file"))
        reasons = [reason("task_cannot_tell", tuned[metric])]
        return Recommendation(said, near[0] if near else "", reasons)
    most = max(shipped.difference for _, shipped, _ in good)
    kept = [
        one.format
        for one, shipped, _ in good
        if shipped.difference >= most or shipped.ci_low >= -loss
    ]
    smallest = good[0][0].format
    if kept[0] != smallest:
        said += sentence("loss_unknown", smaller=smallest, best=kept[0], num=num, loss=loss)
    return Recommendation(said, kept[0])


def _described(name: str, shipped: ShippedAnswers) -> str:
    return sentence(
        "checked_file",
        format=name,
        value=shipped.task[shipped.metric],
        difference=shipped.difference,
        low=shipped.ci_low,
        high=shipped.ci_high,
        prompts="" if shipped.prompts_equal else sentence("no_prompt"),
    )


def next_steps(
    results: Sequence[FormatResult], recommended: str, dataset: str | None
) -> list[NextStep]:
    """Suggest to measure the task itself on the recommended file, or else on the last one made."""
    made = {r.format: r.path for r in results if r.state == "made" and r.format.startswith("gguf:")}
    if not made:
        return []
    arguments = {"model": made.get(recommended, [*made.values()][-1]), "dataset": dataset}
    return [next_step("measure_shipped", arguments, "same_rows" if dataset else "name_dataset")]
