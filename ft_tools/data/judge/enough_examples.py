"""Say whether there are enough examples, by goal."""

from collections import Counter

from ft_tools.contract import Reason
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.report import SizeVerdict
from ft_tools.examples.answer_kinds import LONGEST_LABEL, MAX_LABELS, ROWS_PER_LABEL

OPENAI = "https://developers.openai.com/api/docs/guides/fine-tuning-best-practices.md"
BANDS: dict[str, tuple[int, int, str]] = {
    # Goal -> enough from, more than needed above, source.
    "format": (50, 1_000, OPENAI),
    "style": (500, 2_000, "https://arxiv.org/abs/2305.11206 (LIMA: 1,000 curated examples)"),
    "domain": (5_000, 50_000, "judgement: no published band was found"),
    "instruction": (10_000, 100_000, "https://arxiv.org/abs/2307.08701 (9k of Alpaca's 52k)"),
}
PAIRS: dict[str, tuple[int, int, str]] = {
    "one_preference": (50, 2_000, "judgement: as few as for a format; no published band was found"),
    "preference": (1_000, 10_000, "https://arxiv.org/abs/2312.15685 (Deita: 10k pairs)"),
}
NEWER = {
    "one_preference": "OpenPipe asks for at least 500 rows before a DPO run",
    "style": "OpenAI sees gains from 50 to 100 examples and asks for at least 10",
    "instruction": "Deita: 6,000 selected examples beat 200,000 unselected ones",
}
NEWER_SOURCE = {
    "one_preference": "https://docs.openpipe.ai/features/dpo/quick-start",
    "style": OPENAI,
    "instruction": "https://arxiv.org/abs/2312.15685",
}
PER_CLASS = 50
PER_CLASS_SOURCE = (
    "judgement: https://arxiv.org/abs/2209.11055 compares 8 and 64 per class with all rows"
)
WITH_LABELS = ("format",)
"""Goals that answers which are labels may have, too."""
CHARACTERS_PER_TOKEN = 4


def rarest_label(ledger: Ledger) -> int | None:
    """Return how many kept examples have the rarest answer, where answers are labels; else None."""
    kept = ledger.kept(validation=False)
    counts = Counter(ledger.answer[at] for at in kept)
    is_few = 1 < len(counts) <= MAX_LABELS and ROWS_PER_LABEL * len(counts) <= len(kept)
    longest = max((ledger.answer_tokens[at] for at in kept), default=0)
    is_short = CHARACTERS_PER_TOKEN * longest <= LONGEST_LABEL
    return min(counts.values()) if is_few and is_short else None


def judge_size(num_usable: int, task: str, num_of_rarest: int | None = None) -> SizeVerdict:
    """Compare the number of examples left with the bands of each goal.

    Args:
        num_usable: Examples after cleaning.
        task: sft, dpo or kto.
        num_of_rarest: Examples of the rarest label; None where answers are no labels.

    >>> judge_size(1200, "sft").goals
    {'format': 'more_than_needed', 'style': 'enough', 'domain': 'too_few', 'instruction': 'too_few'}
    >>> judge_size(1200, "sft", num_of_rarest=12).goals
    {'classification': 'too_few', 'format': 'more_than_needed'}
    """
    bands = BANDS if task == "sft" else PAIRS
    goals, reasons = {}, []
    if num_of_rarest is not None:
        bands = {goal: bands[goal] for goal in WITH_LABELS}
        goals["classification"] = "enough" if num_of_rarest >= PER_CLASS else "too_few"
        rule = f"classification: {PER_CLASS} examples of the rarest class"
        reasons.append(
            Reason(rule=rule, observed=num_of_rarest, threshold=PER_CLASS, source=PER_CLASS_SOURCE)
        )
    for goal, (low, high, source) in bands.items():
        goals[goal] = _place(num_usable, low, high)
        rule = f"{goal}: {low:,} to {high:,} examples"
        reasons.append(Reason(rule=rule, observed=num_usable, threshold=low, source=source))
    for goal, rule in NEWER.items():
        if goal in goals:
            source = NEWER_SOURCE[goal]
            reasons.append(Reason(rule=rule, observed=num_usable, threshold=None, source=source))
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
