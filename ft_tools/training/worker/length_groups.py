"""Batches of rows of similar length, in an order that a resumed run draws again."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerState

AT_ONCE = 50
"""Batches that are sorted together. Source: transformers 5.24, get_length_grouped_indices."""


class LengthGroups(Sampler[int]):
    """Indices of which `batch` after each other are of similar length, batches in random order.

    transformers' own sampler goes from long to short within 50 batches, the last of which trains on
    short rows alone, and draws from the global random state, which a resumed run has not.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw another order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(len(self), generator=drawn).tolist()
        # At least four parts, or few rows would come in the same batches in each epoch.
        size = self._batch * max(1, min(AT_ONCE, len(self) // self._batch // 4))
        batches = []
        for at in range(0, len(order), size):
            part = sorted(order[at : at + size], key=self._lengths.__getitem__)
            batches += [part[i : i + self._batch] for i in range(0, len(part), self._batch)]
        # A short one stays the last, so that all others have their size.
        whole = [one for one in batches if len(one) == self._batch]
        rest = [one for one in batches if len(one) < self._batch]
        shuffled = [whole[i] for i in torch.randperm(len(whole), generator=drawn).tolist()]
        return (index for batch in [*shuffled, *rest] for index in batch)


class EpochOrder(TrainerCallback):  # type: ignore[misc]
    """Tell the groups their epoch.

    accelerate 1.15 does, but not where several processes skip what a checkpoint has trained on.
    """

    def __init__(self, groups: LengthGroups) -> None:
        self._groups = groups

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Draw the order of the epoch that begins, or that a checkpoint is in."""
        self._groups.set_epoch(int(state.epoch or 0))
