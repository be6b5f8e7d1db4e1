"""What the steps of an evaluation share, and what an earlier attempt saved."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ft_tools import workspace
from ft_tools.errors import PlanChanged
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.metrics.scoring import Settings
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.earlier_answers import answered_rows
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SimpleKind
from ft_tools.evaluation.worker.writer import Writer
from ft_tools.publish import append_line, sha256
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory

if TYPE_CHECKING:
    # Importing it takes seconds, and only models need it.
    from ft_tools.evaluation.worker.transformers_generation import Pair

SIDES = ("baseline", "tuned")

Saved = dict[tuple[str, str, int], dict[str, Any]]
"""(set, system, line or number) -> a line of outputs.jsonl."""


@dataclass
class State:
    """What the steps of an evaluation share."""

    session: Session
    request: EvaluateRequest
    plan: EvaluatePlan
    examples: list[HeldOut]
    saved: Saved
    pair: "Pair | None" = None
    """Both models of the short form, loaded; None where systems are compared."""
    notes: list[str] = field(default_factory=list)
    unfinished: str = ""
    """What a resumed run would still have to do."""

    @property
    def references(self) -> list[str]:
        """Return the expected answers."""
        return [example.reference for example in self.examples]

    @property
    def num_to_answer(self) -> int:
        """Return the questions of all models and endpoints; simple baselines take no time."""
        general = self.plan.num_general_prompts * (1 if self.plan.alone else len(SIDES))
        return len(self._asked) * len(self.examples) + general

    @property
    def num_answered(self) -> int:
        """Return how many of them have an answer."""
        names = self._asked
        return sum(name == "general" or side in names for name, side, _ in self.saved)

    @property
    def _asked(self) -> set[str]:
        """Return the models and endpoints; one that is measured alone is asked once."""
        simple = get_args(SimpleKind)
        names = {one.name for one in self.plan.systems if one.kind not in simple}
        return names - {"tuned"} if self.plan.alone else names

    @property
    def held_out_path(self) -> Path:
        """Return the held-out file; there is one wherever there are examples."""
        return Path(self.plan.dataset or "")

    @property
    def both(self) -> "Pair":
        """Return the models of the short form."""
        assert self.pair is not None
        return self.pair

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
        return self.both.baseline if side == "baseline" else self.both.tuned

    def planned_file(self, plan: SystemPlan, name: str) -> Path:
        """Return a file that a system reads.

        Raises:
            PlanChanged: It is another file now.
        """
        path = workspace.existing(name)
        if sha256(path) != plan.files_sha256[name]:
            raise PlanChanged(f"{name} changed since the plan was confirmed; call evaluate again")
        return path

    def take_over(self, plan: SystemPlan) -> None:
        """Copy answers of the run that the plan reuses into this run, where they are missing."""
        if plan.reused_from is None:
            return
        run_dir = directory.find(plan.reused_from)
        for earlier in (directory.read_json(run_dir / "plan.json") or {}).get("systems") or ():
            if earlier.get("answers_key") != plan.answers_key:
                continue
            for row in answered_rows(run_dir / "outputs.jsonl", earlier["name"]):
                key = ("held_out", plan.name, row["line"])
                if key not in self.saved:
                    self.saved[key] = row | {"side": plan.name}
                    line = json.dumps(self.saved[key])
                    append_line(self.session.run_dir / "outputs.jsonl", line)

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
