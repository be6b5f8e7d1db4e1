"""What the steps of an evaluation share, and what an earlier attempt saved."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_tools import workspace
from ft_tools.errors import PlanChanged
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.report import PROMPTED
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.results import Settings
from ft_tools.evaluation.systems.earlier_answers import answered_rows
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.worker.writer import Writer, plain_prompt
from ft_tools.metrics.scores import Scoring
from ft_tools.publish import append_line, sha256
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory

if TYPE_CHECKING:
    # Importing it takes seconds, and only models need it.
    from ft_tools.evaluation.worker.loaded_models import LoadedModels

Saved = dict[tuple[str, str, int], dict[str, Any]]
"""(set, system, line or number) -> a line of outputs.jsonl."""


@dataclass
class State:
    """What the steps of an evaluation share."""

    session: Session
    request: EvaluateRequest
    plan: EvaluatePlan
    examples: list[HeldOut]
    models: "LoadedModels | None" = None
    """None where no model is loaded here."""
    notes: list[str] = field(default_factory=list)
    unfinished: str = ""
    """What a resumed run would still have to do."""

    @cached_property
    def saved(self) -> Saved:
        """Return the answers so far; a torn last line of an earlier attempt is dropped."""
        return read_outputs(self.outputs_path)

    @property
    def outputs_path(self) -> Path:
        """Return the file of all answers."""
        return self.session.run_dir / "outputs.jsonl"

    @cached_property
    def references(self) -> list[str]:
        """Return the expected answers."""
        return [example.reference for example in self.examples]

    @cached_property
    def scoring(self) -> Scoring:
        """Return what the metrics share."""
        schema = self.request.json_schema
        return Scoring(
            references=self.references,
            rows=[example.row for example in self.examples],
            pattern=self.request.regex,
            schema=workspace.existing(schema) if schema else None,
            tolerance=self.request.number_tolerance,
        )

    @property
    def settings(self) -> Settings:
        """Return what the comparisons have in common."""
        clusters = [e.cluster for e in self.examples if e.cluster is not None]
        effect = self.request.smallest_effect_fraction
        return Settings(self.request.seed, effect, clusters or None)

    @property
    def num_to_answer(self) -> int:
        """Return the questions of all models and endpoints; simple baselines take no time."""
        general = self.plan.num_general_prompts * len(self.plan.weights)
        return len(self._prompted) * len(self.examples) + general

    @property
    def num_answered(self) -> int:
        """Return how many of them have an answer."""
        names = self._prompted
        return sum(kind == "general" or side in names for kind, side, _ in self.saved)

    @property
    def _prompted(self) -> set[str]:
        return {one.name for one in self.plan.systems if one.kind in PROMPTED}

    @property
    def held_out_path(self) -> Path:
        """Return the held-out file; there is one wherever there are examples."""
        return Path(self.plan.dataset or "")

    @cached_property
    def writers(self) -> dict[str, Writer]:
        """Return the models of the short form by the name of their system, the reference first."""
        assert self.models is not None
        # The tuned model first: a base below its adapter shares its weights.
        names = reversed(self.plan.weights)
        found = {name: self.models.writer(self.plan.weights[name]) for name in names}
        return dict(reversed(found.items()))

    def render_for_all(self, rendering: str) -> Callable[[HeldOut], str]:
        """Return what writes a prompt once for all models of the short form.

        The tuned model's template is used where it has one.
        """
        writers = reversed(list(self.writers.values()))
        templated = next((writer for writer in writers if writer.template is not None), None)
        if rendering == "plain" or templated is None:
            return plain_prompt
        return lambda example: templated.render(example, rendering)

    def planned_file(self, plan: SystemPlan, name: str) -> Path:
        """Return a file that a system reads.

        Raises:
            PlanChanged: It is another file now.
        """
        path = workspace.existing(name)
        if sha256(path) != plan.files_sha256[name]:
            raise PlanChanged(f"{name} changed since the plan was confirmed; call evaluate again")
        return path

    def keep(self, kind: str, side: str, line: int, answer: dict[str, Any]) -> None:
        """Save an answer."""
        row = {"set": kind, "side": side, "line": line, **answer}
        append_line(self.outputs_path, json.dumps(row))
        self.saved[kind, side, line] = row

    def take_over(self, plan: SystemPlan) -> None:
        """Copy answers of the run that the plan reuses into this run, where they are missing."""
        if plan.reused_from is None:
            return
        run_dir = directory.find(plan.reused_from)
        for earlier in (directory.read_json(run_dir / "plan.json") or {}).get("systems") or ():
            if earlier.get("answers_key") != plan.answers_key:
                continue
            for row in answered_rows(run_dir / "outputs.jsonl", earlier["name"]):
                if ("held_out", plan.name, row["line"]) not in self.saved:
                    self.keep("held_out", plan.name, row["line"], _answer_of(row))

    def check_stop(self) -> None:
        """End here if that was requested; everything so far is saved.

        Raises:
            Stopped: It was requested.
        """
        if self.session.should_stop:
            raise Stopped


def read_outputs(path: Path) -> Saved:
    """Read the answers in a file; a torn line is dropped."""
    saved: Saved = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            saved[row["set"], row["side"], row["line"]] = row
        except (ValueError, LookupError, TypeError):
            continue
    return saved


def _answer_of(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in {"set", "side", "line"}}
