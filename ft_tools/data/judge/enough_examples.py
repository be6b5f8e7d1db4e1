"""Say whether there are enough examples, by goal."""

from ft_tools.contract import Reason
from ft_tools.data.report import SizeVerdict

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


def judge_size(num_usable: int, task: str) -> SizeVerdict:
    """Compare the number of examples left with the bands of each goal.

    >>> judge_size(1200, "sft").goals
    {'format': 'more_than_needed', 'style': 'enough', 'domain': 'too_few', 'instruction': 'too_few'}
    """
    bands = BANDS if task == "sft" else PAIRS
    goals, reasons = {}, []
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
