"""The declared rewards as TRL's reward functions, and what they gave to whom."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from ft_tools.metrics.checks.request import Check, check_names
from ft_tools.metrics.checks.scorer import Scorer, Scores
from ft_tools.training.grpo.prompts import Prompt

ROW = "row_number"
"""Column of the dataset: which row a completion answers."""
SAME = 1e-6
"""Rewards that differ by less give no advantage."""
Reward = Callable[..., list[float | None]]


@dataclass(frozen=True)
class Answered:
    """A completion, scored."""

    row: int
    text: str
    num_tokens: int
    scores: Scores


class Rewards:
    """Scores each batch of completions once, for all the functions that TRL calls.

    Args:
        checks: The declared rewards.
        scorer: Of the same checks.
        is_training: Whether a batch is one of training; the others are of held-out rows.
        decode: Tokens of completions -> their whole texts, as `evaluate` scores them. TRL leaves
            the thoughts out where a tokenizer has a `response_template`.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        scorer: Scorer,
        is_training: Callable[[], bool],
        decode: Callable[[Sequence[Sequence[int]]], list[str]],
    ) -> None:
        self.names = check_names(checks)
        total = sum(check.weight for check in checks)
        self.weights = [check.weight / total for check in checks]
        """As parts of 1: TRL adds up, and a reward is at most 1."""
        self.trained_rows: Sequence[Prompt] = ()
        self.held_out_rows: Sequence[Prompt] = ()
        self.evaluated: list[Answered] = []
        """Completions of the evaluation that is under way."""
        self._scorer = scorer
        self._is_training = is_training
        self._decode = decode
        self._batch: tuple[Any, list[Scores]] = (None, [])

    def functions(self) -> list[Reward]:
        """Return a function for each check, with its name."""
        return [self._function(name) for name in self.names]

    def _function(self, name: str) -> Reward:
        def reward(
            completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **given: Any
        ) -> list[float | None]:
            scored = self._scored(completions, completion_ids, given)
            # Without all of its parts a total is none, and TRL leaves the completion out.
            return [None if one.total is None else one.parts[name] for one in scored]

        reward.__name__ = name
        return reward

    def _scored(
        self,
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        given: Mapping[str, Any],
    ) -> list[Scores]:
        if self._batch[0] is completions:
            return self._batch[1]
        at: list[int] = given[ROW]
        texts = self._decode(completion_ids)
        rows = self.trained_rows if self._is_training() else self.held_out_rows
        scored = self._scorer.score([rows[number].row for number in at], texts)
        self._batch = completions, scored
        given["log_metric"]("zero_spread_fraction", zero_spread(at, scored))
        given["log_metric"]("broken_fraction", fmean(one.total is None for one in scored))
        if not self._is_training():
            lengths = map(len, completion_ids)
            self.evaluated += map(Answered, at, texts, lengths, scored)
        return scored


def zero_spread(at: Sequence[int], scored: Sequence[Scores]) -> float:
    """Return the fraction of groups whose completions all have the same reward.

    A group is a run of completions of one row. TRL's own figure is of the batch's spread where
    rewards are not scaled by group, and 0 where nothing could be scored.

    >>> half, none = Scores({}, 0.5), Scores({}, None)
    >>> zero_spread([1, 1, 2, 2], [half, half, half, Scores({}, 1.0)]), zero_spread([1], [none])
    (0.5, 1.0)
    """
    groups = [
        [one.total for _, one in group if one.total is not None]
        for _, group in groupby(zip(at, scored, strict=True), key=lambda pair: pair[0])
    ]
    return fmean(not group or max(group) - min(group) < SAME for group in groups)


def by_row(evaluated: Sequence[Answered]) -> dict[int, list[float]]:
    """Return the rewards of each row's completions; what could not be scored is left out."""
    found: dict[int, list[float]] = {}
    for one in evaluated:
        if one.scores.total is not None:
            found.setdefault(one.row, []).append(one.scores.total)
    return found
