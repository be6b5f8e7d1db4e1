"""Before the first step: whether sequences that are packed into one row see one another."""

import itertools
from typing import Any

import torch
from trl import SFTTrainer

from ft_tools.runs.processes.worker_session import Session
from ft_tools.training.findings import refusal
from ft_tools.training.training_plan import TrainingPlan

LENGTH = 16
# Of the difference that one long sequence makes. Numbers of 16 bits make some thousandths; a model
# that mixes them makes nearly all of it.
MOST_LEAKED = 0.1


def require_kept_apart(session: Session, plan: TrainingPlan, trainer: SFTTrainer) -> None:
    """Compare two short sequences in one row with the second of them alone, on the loaded model.

    Linear attention, state-space layers and convolutions carry their state on, and some attention
    is computed without the boundaries; the loss looks as usual then, and the model learns from
    other examples' text. A model that is spread over several devices cannot be asked here.
    """
    is_spread = plan.place.num_processes > 1 and plan.place.sharding != "ddp"
    if not trainer.padding_free or plan.engine != "torch" or is_spread:
        return
    leaked = leaked_fraction(trainer)
    if leaked is None or leaked > MOST_LEAKED:
        found = "it refuses them"
        if leaked is not None:
            share = min(leaked, 1.0)
            found = f"the second of two changes by {share:.0%} of what it would as one text"
        raise refusal("packed_rows_mix", leaked=found)
    session.event("packing: a check on the loaded model shows that examples do not see one another")


def leaked_fraction(trainer: SFTTrainer) -> float | None:
    """Return how much of one sequence's effect on the next is there in a packed row.

    The inputs are made by the trainer's own collator. None where the model itself refuses packed
    sequences.
    """
    ids = list(itertools.islice(itertools.cycle(_tokens(trainer)), 2 * LENGTH))
    second = ids[LENGTH:]
    try:
        packed = _logits(trainer, ids, [LENGTH, LENGTH])
    except ValueError:
        return None
    alone, mixed = _logits(trainer, second, [LENGTH]), _logits(trainer, ids, [2 * LENGTH])
    most = _largest(mixed, alone)
    return _largest(packed, alone) / most if most else 0.0


def _tokens(trainer: SFTTrainer) -> list[int]:
    """Return the first tokens of the training data."""
    found: list[int] = []
    for row in trainer.train_dataset:
        found += row["input_ids"][: 2 * LENGTH - len(found)]
        if len(found) >= 2 * LENGTH:
            break
    return found


def _logits(trainer: SFTTrainer, ids: list[int], lengths: list[int]) -> torch.Tensor:
    """Return the logits of the last LENGTH tokens of a row."""
    model: Any = trainer.model
    row = {"input_ids": ids, "labels": ids, "seq_lengths": lengths}
    batch = trainer.data_collator([row])
    batch.pop("labels")
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
    was_training = model.training
    model.eval()
    try:
        # Flash attention takes no float32, in which full training keeps its weights.
        with torch.no_grad(), trainer.accelerator.autocast():
            logits: torch.Tensor = model(**inputs, use_cache=False).logits
    finally:
        model.train(was_training)
    return logits[0, -LENGTH:].float()


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the difference at the token where it is largest: a convolution reaches only a few."""
    return float((one - other).abs().mean(dim=-1).max())
