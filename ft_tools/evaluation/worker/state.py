"""What the steps of an evaluation share, and what an earlier attempt saved."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.metrics.scoring import Settings
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.worker.generation import Pair
from ft_tools.evaluation.worker.writer import Writer
from ft_tools.runs.session import Session, Stopped

SIDES = ("baseline", "tuned")

Saved = dict[tuple[str, str, int], dict[str, Any]]
"""(set, side, line or number) -> a line of outputs.jsonl."""


@dataclass
class State:
    """What the steps of an evaluation share."""

    session: Session
    request: EvaluateRequest
    plan: EvaluatePlan
    pair: Pair
    examples: list[HeldOut]
    saved: Saved
    notes: list[str] = field(default_factory=list)
    unfinished: str = ""
    """What a resumed run would still have to do."""

    @property
    def settings(self) -> Settings:
        """Return what the comparisons have in common."""
        clusters = [e.cluster for e in self.examples if e.cluster is not None]
        return Settings(
            seed=self.request.seed,
            smallest_effect=self.request.smallest_effect_fraction,
            clusters=clusters or None,
        )

    def writer(self, side: str) -> Writer:
        """Return the model of a side."""
        return self.pair.baseline if side == "baseline" else self.pair.tuned

    def check_stop(self) -> None:
        """End here if that was asked; everything so far is saved.

        Raises:
            Stopped: It was asked.
        """
        if self.session.should_stop:
            raise Stopped


def read_outputs(path: Path) -> Saved:
    """Read what an earlier attempt wrote; a torn last line is dropped."""
    saved: Saved = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                saved[row["set"], row["side"], row["line"]] = row
            except (ValueError, LookupError, TypeError):
                continue
    return saved
