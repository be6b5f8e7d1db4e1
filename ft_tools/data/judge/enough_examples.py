"""Return whether there are enough examples, by goal."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from ft_tools.contract import Reason
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.report import SizeVerdict
from ft_tools.formats.answer_kinds import are_few_labels
from ft_tools.formats.column_counts import NAME_CHARS, shown

OPENAI = "https://developers.openai.com/api/docs/guides/fine-tuning-best-practices.md"
BANDS: dict[str, tuple[int, int, str]] = {
    # Goal, as suggest_lora_config names it -> enough from, more than needed above, source.
    # Extraction stands for every fixed format of answers.
    "extraction": (50, 1_000, OPENAI),
    "style": (500, 2_000, "https://arxiv.org/abs/2305.11206 (LIMA: 1,000 curated examples)"),
    "domain": (5_000, 50_000, "judgement: no published band was found"),
    "instruction": (10_000, 100_000, "https://arxiv.org/abs/2307.08701 (9k of Alpaca's 52k)"),
}
PAIRS: dict[str, tuple[int, int, str]] = {
    "preference": (50, 10_000, "judgement: as few as for a format, where one trait is preferred"),
}
PER_CLASS = 50
PER_CLASS_SOURCE = (
    "judgement: https://arxiv.org/abs/2209.11055 compares 8 and 64 per class with all rows"
)
WITH_LABELS = ("extraction",)
"""Goals that answers which are labels may have, too."""


class Rarest(NamedTuple):
    """The label that the fewest kept examples have."""

    num: int
    field: str
    """Of a JSON answer; empty where the answer is the label."""


def label_counts(
    ledger: Ledger, labels: Mapping[int, Mapping[str, str]]
) -> dict[str, "Counter[str]"]:
    """Return how many kept examples have which label, by field; empty where answers are no labels.

    Args:
        ledger: The examples.
        labels: Hash of an answer -> its labels by field, as `answer_kinds.labels_in` reads them.
    """
    kept = ledger.kept(validation=False)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for answer, count in Counter(ledger.answer[at] for at in kept).items():
        named = labels.get(answer)
        if not named:
            return {}
        for name, label in named.items():
            counts[name][label] += count
    return dict(counts)


def rarest_label(ledger: Ledger, labels: Mapping[int, Mapping[str, str]]) -> Rarest | None:
    """Return how many kept examples have the rarest label, and of which field; None without."""
    counts = label_counts(ledger, labels)
    num_kept = len(ledger.kept(validation=False))
    if not all(are_few_labels(len(one), num_kept) for one in counts.values()):
        return None
    fewest = (Rarest(min(one.values()), name) for name, one in counts.items() if len(one) > 1)
    return min(fewest, default=None)


def judge_size(num_usable: int, task: str, rarest: Rarest | None = None) -> SizeVerdict:
    """Compare the number of examples left with the bands of each goal.

    Args:
        num_usable: Examples after cleaning.
        task: sft, dpo or kto.
        rarest: The rarest label; None where answers are no labels.

    >>> list(judge_size(1200, "sft").goals.values())
    ['more_than_needed', 'enough', 'too_few', 'too_few']
    >>> judge_size(1200, "sft", Rarest(12, "team")).goals
    {'classification': 'too_few', 'extraction': 'more_than_needed'}
    """
    bands = BANDS if task == "sft" else PAIRS
    goals, reasons = {}, []
    if rarest is not None:
        bands = {goal: bands[goal] for goal in WITH_LABELS}
        goals["classification"] = "enough" if rarest.num >= PER_CLASS else "too_few"
        of_field = f" of {shown(rarest.field, NAME_CHARS)}" if rarest.field else ""
        rule = f"classification: {PER_CLASS} examples of the rarest class{of_field}"
        if rarest.num < PER_CLASS:
            rule += "; add examples of it or merge it with another class: its score is uncertain"
        reasons.append(
            Reason(rule=rule, observed=rarest.num, threshold=PER_CLASS, source=PER_CLASS_SOURCE)
        )
    for goal, (low, high, source) in bands.items():
        goals[goal] = _place(num_usable, low, high)
        rule = f"{goal}: {low:,} to {high:,} examples"
        reasons.append(Reason(rule=rule, observed=num_usable, threshold=low, source=source))
    return SizeVerdict(num_usable=num_usable, goals=goals, reasons=reasons)


def fewest_examples(task: str) -> tuple[int, str]:
    """Return how many examples the most modest goal needs, and who says so."""
    bands = (BANDS if task == "sft" else PAIRS).values()
    low, _, source = min(bands, key=lambda band: band[0])
    return low, source


def _place(count: int, low: int, high: int) -> str:
    if count < low:
        return "too_few"
    return "more_than_needed" if count > high else "enough"
