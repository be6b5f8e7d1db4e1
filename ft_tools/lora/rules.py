"""The rules that choose rank, alpha, learning rate, epochs and batch; each with its source."""

from dataclasses import dataclass

from ft_tools import facts
from ft_tools.contract import Reason
from ft_tools.lora.request import Goal, LoraRequest
from ft_tools.models.shape import ALL_LINEAR, ModelShape
from ft_tools.vram.setup import Method, Task

RANK_OF_GOAL: dict[Goal, str] = {
    "style": "lora.rank_style",
    "classification": "lora.rank_style",
    "instruction": "lora.rank_general",
    "domain": "lora.rank_general",
    "preference": "lora.rank_general",
    "reasoning": "lora.rank_reasoning",
}
# Goals whose answers are to be learned token by token, so that the adapter has to hold them.
NEEDS_CAPACITY: set[Goal] = {"instruction", "domain", "reasoning"}
MIN_EFFECTIVE_BATCH = 4
DPO_EPOCHS = 1
UNKNOWN_SIZE_EPOCHS = 2
# tinker-cookbook's fit, by family: exponent of 2000 / hidden size.
TINKER_EXPONENT = {"llama": 0.781, "qwen2": 0.0775, "qwen3": 0.0775, "qwen3_moe": 0.0775}
TINKER_SOURCE = (
    "https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/"
    "tinker_cookbook/hyperparam_utils.py"
)


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


def choose_rank(
    request: LoraRequest, shape: ModelShape, targets: str | tuple[str, ...] = ALL_LINEAR
) -> Choice:
    """Choose LoRA's rank: by goal, raised until the adapter can hold the data.

    The capacity rule: at least as many trainable parameters as trained tokens. It raises the rank
    in powers of two, to `lora.rank_max`, beyond which full fine-tuning is the thing to consider.
    """
    by_goal = facts.threshold(RANK_OF_GOAL[request.goal])
    rank = int(by_goal.number)
    reasons = [_reason(f"rank by goal: {by_goal.why}", request.goal, RANK_OF_GOAL[request.goal])]
    if request.goal == "preference":
        reasons.append(
            Reason(
                rule="zephyr's DPO adapter had rank 128; Tinker's page finds 1 to 32 enough",
                observed=rank,
                threshold=None,
                source=facts.threshold("lr.dpo_lora").source,
            )
        )
    tokens = trained_tokens(request)
    if tokens is None or request.goal not in NEEDS_CAPACITY:
        return Choice(rank, tuple(reasons))
    needed = tokens * facts.number("lora.params_per_token")
    highest = int(facts.number("lora.rank_max"))
    while shape.lora_params(rank, targets) < needed and rank < highest:
        rank *= 2
    rank = min(rank, highest)
    holds = shape.lora_params(rank, targets)
    rule = "the adapter has at least one parameter per trained token"
    if holds < needed:
        rule = "even the highest rank has too few parameters: consider full fine-tuning"
    reasons.append(
        Reason(
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
    limit = facts.threshold("lora.rank_rslora")
    if rank >= limit.number:
        return rank, True, _reason(limit.why, rank, "lora.rank_rslora")
    per_rank = facts.threshold("lora.alpha_per_rank")
    alpha = round(per_rank.number * rank)
    return alpha, False, _reason(per_rank.why, alpha, "lora.alpha_per_rank")


def choose_dropout(request: LoraRequest) -> Choice:
    """Choose LoRA's dropout: some for a small data set, none else."""
    limit = facts.threshold("lora.small_data_examples")
    small = request.num_examples is not None and request.num_examples < limit.number
    value = facts.number("lora.dropout_small_data") if small else 0.0
    why = facts.threshold("lora.dropout_small_data").why if small else limit.why
    return Choice(value, (_reason(why, request.num_examples, "lora.small_data_examples"),))


def choose_learning_rate(task: Task, method: Method, shape: ModelShape) -> Choice:
    """Choose the learning rate by task and method, halved for very wide models.

    Where tinker-cookbook has a fit for the family, its other answer is among the reasons.
    """
    key = f"lr.{task}_{'full' if method == 'full' else 'lora'}"
    rate = facts.number(key)
    reasons = [_reason(facts.threshold(key).why, f"{task}, {method}", key)]
    wide = facts.threshold("lr.large_model_hidden")
    if shape.hidden_size >= wide.number:
        rate /= 2
        reasons.append(_reason(wide.why, shape.hidden_size, "lr.large_model_hidden"))
    exponent = TINKER_EXPONENT.get(shape.model_type)
    if exponent is not None and task == "sft":
        other = tinker_rate(shape.hidden_size, exponent, adapters=method != "full")
        reasons.append(
            Reason(
                rule="sources disagree: tinker-cookbook's fit for this family gives another rate, "
                "for batches of 128 and more",
                observed=f"{other:.1e}",
                threshold=rate,
                source=TINKER_SOURCE,
            )
        )
    return Choice(rate, tuple(reasons))


def tinker_rate(hidden_size: int, exponent: float, *, adapters: bool) -> float:
    """Return the learning rate of tinker-cookbook's fit.

    5e-5 * m * (2000 / h)^p, with h the hidden size, p the family's exponent, and m 10 for
    adapters and 1 for full fine-tuning.

    Source: tinker-cookbook, hyperparam_utils.get_lr.

    >>> f"{tinker_rate(4096, 0.781, adapters=True):.2e}"
    '2.86e-04'
    """
    return 5e-5 * (10 if adapters else 1) * float((2000 / hidden_size) ** exponent)


def choose_schedule(
    request: LoraRequest, task: Task, seq_len: int, *, may_pack: bool = True
) -> Schedule:
    """Choose epochs, effective batch and packing.

    Epochs rise, and the batch shrinks, until there are `train.min_steps` optimizer steps, as far
    as `train.max_epochs` and a batch of 4 allow. Packed sequences hold several examples, so fewer
    of them make the same batch.
    """
    batch = int(facts.number("train.effective_batch"))
    reasons = [
        _reason(facts.threshold("train.effective_batch").why, batch, "train.effective_batch")
    ]
    most = int(facts.number("train.max_epochs")) if task == "sft" else DPO_EPOCHS
    wanted = facts.number("train.min_steps")
    if request.num_examples is None:
        epochs = UNKNOWN_SIZE_EPOCHS if task == "sft" else DPO_EPOCHS
        return Schedule(epochs, batch, None, packing=False, reasons=tuple(reasons))
    while batch > MIN_EFFECTIVE_BATCH and _steps(request.num_examples, batch, most) < wanted:
        batch //= 2
    epochs = 1
    while epochs < most and _steps(request.num_examples, batch, epochs) < wanted:
        epochs += 1
    steps = _steps(request.num_examples, batch, epochs)
    reasons.append(_reason(facts.threshold("train.min_steps").why, steps, "train.min_steps"))
    packing = may_pack and _packs(request, task, seq_len)
    if packing:
        fill = facts.threshold("train.packing_fill")
        mean = request.mean_completion_tokens or 0.0
        reasons.append(_reason(fill.why, round(mean / seq_len, 3), "train.packing_fill"))
        batch = max(1, round(batch * mean / seq_len))
    return Schedule(epochs, batch, steps, packing, tuple(reasons))


def trained_tokens(request: LoraRequest) -> float | None:
    """Return the completion tokens of one epoch; None where it is not known."""
    if request.num_examples is None or request.mean_completion_tokens is None:
        return None
    return request.num_examples * request.mean_completion_tokens


def _packs(request: LoraRequest, task: Task, seq_len: int) -> bool:
    if task != "sft" or request.mean_completion_tokens is None:
        return False
    return request.mean_completion_tokens < facts.number("train.packing_fill") * seq_len


def _steps(num_examples: int, batch: int, epochs: int) -> int:
    return epochs * -(-num_examples // batch)


def _reason(rule: str, observed: str | float | int | None, key: str) -> Reason:
    threshold = facts.threshold(key)
    return Reason(rule=rule, observed=observed, threshold=threshold.number, source=threshold.source)
