"""What the steps of an evaluation share, and what an earlier attempt saved."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_tools import workspace
from ft_tools.errors import PlanChanged
from ft_tools.evaluation.held_out import HeldOut, clusters_of, wordings_in
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.report import PROMPTED
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.results import Settings
from ft_tools.evaluation.stress import question_sets
from ft_tools.evaluation.systems.earlier_answers import Saved, answers_of, read_outputs
from ft_tools.evaluation.systems.models import ModelFiles
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.worker.writer import Writer, plain_prompt
from ft_tools.formats.test_sets import asked_by, earlier_looks
from ft_tools.publish import append_line, sha256
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory

if TYPE_CHECKING:
    # Importing it takes seconds, and only models need it.
    from ft_tools.evaluation.worker.loaded_models import LoadedModels


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
    pools: dict[str, list[HeldOut]] = field(default_factory=dict)
    """File -> the examples that systems learn from or are shown, read once."""

    @cached_property
    def saved(self) -> Saved:
        """Return the answers so far."""
        return read_outputs(self.outputs_path)

    @property
    def outputs_path(self) -> Path:
        """Return the file of all answers."""
        return self.session.run_dir / "outputs.jsonl"

    @cached_property
    def sets(self) -> dict[str, list[HeldOut]]:
        """Return the examples as they are, and under each change of the request."""
        return question_sets(self.examples, self.request.stress, self.request.seed)

    @cached_property
    def references(self) -> list[str]:
        """Return the expected answers."""
        return [example.reference for example in self.examples]

    @cached_property
    def settings(self) -> Settings:
        """Return what the comparisons on the examples have in common."""
        looks = 1 + earlier_looks(
            asked_by(one.numbered for one in self.examples), self.session.run_dir.name
        )
        effect = self.request.smallest_effect_fraction
        return Settings(self.request.seed, effect, clusters_of(self.examples), looks)

    @cached_property
    def wordings(self) -> list[str] | None:
        """Return the wording of each example where most follow few and no groups are named."""
        return None if self.request.cluster_field else wordings_in(self.examples)

    @property
    def num_to_answer(self) -> int:
        """Return the questions of all models and endpoints; simple baselines take no time."""
        general = self.plan.num_general_prompts * len(self.weights)
        return len(self._prompted) * sum(map(len, self.sets.values())) + general

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
        """Return the held-out file."""
        return Path(self.plan.dataset)

    @cached_property
    def weights(self) -> dict[str, ModelFiles]:
        """Return the models of the short form by the name of their system, the reference first."""
        systems = self.plan.systems if self.request.model else ()
        return {one.name: one.model for one in systems if one.model}

    @cached_property
    def writers(self) -> dict[str, Writer]:
        """Return the models of the short form by the name of their system, the reference first."""
        assert self.models is not None
        # The tuned model first: a base below its adapter shares its weights.
        files = reversed(self.weights.items())
        found = {name: self.models.writer(one) for name, one in files}
        return dict(reversed(found.items()))

    @property
    def templated(self) -> Writer | None:
        """Return the model whose template all prompts of the short form are written with."""
        writers = reversed(list(self.writers.values()))
        return next((writer for writer in writers if writer.template is not None), None)

    def render_for_all(self, rendering: str) -> Callable[[HeldOut], str]:
        """Return what writes a prompt once for all models of the short form."""
        writer = self.templated
        if rendering == "plain" or writer is None:
            return plain_prompt
        return lambda example: writer.render(example, rendering)

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
        for kind, line, answer in answers_of(directory.find(plan.reused_from), plan.answers_key):
            if kind in self.sets and (kind, plan.name, line) not in self.saved:
                self.keep(kind, plan.name, line, answer)

    def check_stop(self) -> None:
        """End here if that was requested; everything so far is saved.

        Raises:
            Stopped: It was requested.
        """
        if self.session.should_stop:
            raise Stopped
