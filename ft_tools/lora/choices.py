"""The rules that choose rank, alpha, learning rate, epochs and batch; each with its source.

suggest_lora_config and launch_sft both take their settings from here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ft_tools import facts
from ft_tools.contract import Reason
from ft_tools.formats.trl_formats import Task
from ft_tools.lora.data_shape import DataShape, Goal
from ft_tools.memory.setup import Method

RANK_OF_GOAL: dict[Goal, str] = {
    "style": "lora.rank_style",
    "classification": "lora.rank_classification",
    "extraction": "lora.rank_extraction",
    "instruction": "lora.rank_general",
    "domain": "lora.rank_general",
    "preference": "lora.rank_general",
    "reasoning": "lora.rank_reasoning",
}
# Goals whose answers are to be learned token by token, so that the adapter has to hold them.
NEEDS_CAPACITY: set[Goal] = {"instruction", "domain", "reasoning", "extraction"}
DPO_EPOCHS = 1
UNKNOWN_SIZE_EPOCHS = 2
UNKNOWN_HIDDEN = 4096
"""Hidden size where config.json does not say: that of 7B and 8B models."""
FITTED_HIDDEN = 2000


@dataclass(frozen=True)
class Choice:
    """A value, and why it was chosen."""

    value: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Schedule:
    """How long to train, and with how many examples a step."""

    epochs: int
    effective_batch: int
    steps: int | None
    packing: bool
    reasons: tuple[Reason, ...]


def choose_rank(data: DataShape, capacity: Callable[[int], int] | None) -> Choice:
    """Choose LoRA's rank: by goal, raised until the adapter can hold the data.

    The capacity rule: at least as many trainable parameters as trained tokens. It raises the rank
    in powers of two, to `lora.rank_max`, beyond which full fine-tuning is the thing to consider.
    """
    key = RANK_OF_GOAL[data.goal]
    rank = int(facts.number(key))
    reasons = [_reason(key, data.goal, f"rank by goal: {facts.threshold(key).why}")]
    tokens = data.trained_tokens
    if tokens is None or capacity is None or data.goal not in NEEDS_CAPACITY:
        return Choice(rank, tuple(reasons))
    needed = tokens * facts.number("lora.params_per_token")
    highest = int(facts.number("lora.rank_max"))
    while capacity(rank) < needed and rank < highest:
        rank *= 2
    rank = min(rank, highest)
    holds = capacity(rank)
    rule = "the adapter has at least one parameter per trained token"
    if holds < needed:
        rule = "even the highest rank has too few parameters: consider full fine-tuning"
    reasons.append(
        Reason(
            id="lora.params_per_token",
            rule=rule,
            observed=f"{holds} parameters at rank {rank} for {tokens:.0f} tokens",
            threshold=needed,
            source=facts.threshold("lora.params_per_token").source,
        )
    )
    return Choice(rank, tuple(reasons))


def choose_alpha(rank: int) -> tuple[int, bool, Reason]:
    """Choose alpha, and whether to scale by alpha / sqrt(rank) instead of alpha / rank.

    Returns:
        alpha, use_rslora, and the reason. With rank-stabilised scaling alpha is the rank, as in
        the run that showed its gain; twice the rank would be four times the usual scale.
    """
    if rank >= facts.number("lora.rank_rslora"):
        return rank, True, _reason("lora.rank_rslora", rank)
    alpha = round(facts.number("lora.alpha_per_rank") * rank)
    return alpha, False, _reason("lora.alpha_per_rank", alpha)


def choose_learning_rate(task: Task, method: Method, hidden_size: int | None) -> Choice:
    """Choose the learning rate by task, method and the model's width.

    SFT of adapters: c * (2000 / h)^p, with h the hidden size, c `lr.sft_lora` and p
    `lr.hidden_exponent`; full fine-tuning takes a tenth of it, at most `lr.full_highest`.
    Preferences have one rate per method.

    >>> [choose_learning_rate("sft", "lora", hidden).value for hidden in (576, 2048, 4096, 8192)]
    [0.0011, 0.00049, 0.00033, 0.00021]
    """
    if task != "sft":
        kind = "grpo" if task == "grpo" else "dpo"
        key = f"lr.{kind}_{'full' if method == 'full' else 'lora'}"
        return Choice(facts.number(key), (_reason(key, f"{task}, {method}"),))
    hidden = hidden_size or UNKNOWN_HIDDEN
    rate = facts.number("lr.sft_lora")
    rate *= (FITTED_HIDDEN / hidden) ** facts.number("lr.hidden_exponent")
    reasons = [_reason("lr.sft_lora", hidden)]
    if method == "full":
        highest = facts.number("lr.full_highest")
        rate = min(highest, rate * facts.number("lr.full_fraction"))
        reasons.append(_reason("lr.full_fraction", method))
    return Choice(float(f"{rate:.1e}"), tuple(reasons))


def choose_batch(data: DataShape, task: Task) -> int:
    """Choose the examples of an optimizer step by the number of rows.

    >>> [choose_batch(DataShape(num_examples=n), "sft") for n in (300, 1800, 5000, 10**6)]
    [4, 8, 16, 32]
    """
    usual = int(facts.number("train.effective_batch"))
    smallest = int(facts.number("train.batch_smallest"))
    if data.num_examples is None:
        return usual
    if task != "sft":
        batch, wanted = usual, facts.number("train.min_steps")
        while batch > smallest and _steps(data.num_examples, batch, DPO_EPOCHS) < wanted:
            batch //= 2
        return batch
    many = facts.number("train.rows_many")
    doubles_at = (facts.number("train.batch_doubles_at"), many, 10 * many)
    doublings = sum(data.num_examples >= rows for rows in doubles_at)
    return int(min(facts.number("train.batch_largest"), smallest * 2**doublings))


WANTED_STEPS = {
    (False, True): "train.min_steps_short",
    (False, False): "train.min_steps_long_few",
    (True, True): "train.min_steps",
    (True, False): "train.min_steps_long",
}
"""Threshold of steps, by whether rows are many and answers short."""


def choose_epochs(data: DataShape, task: Task, batch: int) -> tuple[int, list[Reason]]:
    """Choose epochs: enough for the wanted steps, within what repetition allows.

    >>> [choose_epochs(DataShape(num_examples=n, answer_tokens=4), "sft", 4)[0]
    ...     for n in (100, 300, 900, 10_000)]
    [10, 8, 3, 1]
    """
    if data.num_examples is None or task != "sft":
        return (UNKNOWN_SIZE_EPOCHS if task == "sft" else DPO_EPOCHS), []
    if not data.is_watched:
        rule = "nothing is held out, so no row is seen twice"
        return 1, [_reason("train.max_epochs_many", data.num_examples, rule)]
    is_many = data.num_examples >= facts.number("train.rows_many")
    # By the goal where the tokens could not be counted.
    is_short = data.goal == "classification"
    if data.answer_tokens is not None:
        is_short = data.answer_tokens <= facts.number("train.short_answer_tokens")
    wanted = WANTED_STEPS[is_many, is_short]
    least = 1 if is_many else int(facts.number("train.min_epochs"))
    most = int(facts.number("train.max_epochs_many" if is_many else "train.max_epochs"))
    needed = math.ceil(facts.number(wanted) * batch / data.num_examples)
    epochs = min(most, max(least, needed))
    steps = _steps(data.num_examples, batch, epochs)
    return epochs, [_reason(wanted, steps)]


def choose_schedule(
    data: DataShape,
    task: Task,
    *,
    max_length: int,
    batch: int | None = None,
    may_pack: bool = True,
) -> Schedule:
    """Choose epochs, effective batch and packing.

    Packed sequences hold several examples, so fewer of them make the same batch.
    """
    size = batch or choose_batch(data, task)
    key = "train.effective_batch" if data.num_examples is None else "train.batch_doubles_at"
    reasons = [_reason(key, size)]
    epochs, why = choose_epochs(data, task, size)
    steps = None if data.num_examples is None else _steps(data.num_examples, size, epochs)
    packing = may_pack and task == "sft" and _pays_to_pack(data, size, max_length)
    if packing:
        reasons.append(_reason("train.packing_padding", data.padding))
        size = max(1, round(size * (data.tokens or 0.0) / max_length))
    return Schedule(epochs, size, steps, packing, (*reasons, *why))


def _pays_to_pack(data: DataShape, batch: int, max_length: int) -> bool:
    """Return whether batches are mostly padding, and a step's rows fill at least one pack."""
    if data.padding is None or data.tokens is None:
        return False
    is_padded = data.padding > facts.number("train.packing_padding")
    return is_padded and batch * data.tokens >= max_length


def _steps(num_examples: int, batch: int, epochs: int) -> int:
    return epochs * -(-num_examples // batch)


def _reason(key: str, observed: str | float | int | None, rule: str = "") -> Reason:
    """Return a threshold as a reason; its own text says why where no rule is named."""
    row = facts.threshold(key)
    return Reason(
        id=key,
        rule=rule or row.why,
        observed=observed,
        threshold=row.number,
        source=row.source,
    )
