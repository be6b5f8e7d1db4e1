"""What the steps of an evaluation share, and what an earlier attempt saved."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ft_tools import workspace
from ft_tools.errors import PlanChanged
from ft_tools.evaluation.evaluation_plan import EvaluatePlan
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.report import PROMPTED
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.stress import question_sets
from ft_tools.evaluation.systems import answers
from ft_tools.evaluation.systems.answers import GENERAL, Answer, Batch, Key
from ft_tools.evaluation.systems.models import ModelFiles, may_think
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.evaluation.worker.writer import plain_prompt
from ft_tools.publish import sha256
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory

if TYPE_CHECKING:
    # Importing it takes seconds, and only models need it.
    from ft_tools.evaluation.worker.loaded_models import LoadedModels

Ask = Callable[[Sequence[HeldOut]], Generator[Batch]]
"""Questions -> answers as they are ready, each with the place of its question."""


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
    def saved(self) -> dict[Key, Answer]:
        """Return the answers so far."""
        return answers.read(self._outputs)

    @property
    def _outputs(self) -> Path:
        return self.session.run_dir / "outputs.jsonl"

    @cached_property
    def specs(self) -> dict[str, SystemSpec]:
        """Return the systems of the request by name."""
        return {spec.name: spec for spec in self.request.all_systems()}

    @cached_property
    def sets(self) -> dict[str, list[HeldOut]]:
        """Return the examples as they are, and under each change of the request."""
        return question_sets(self.examples, self.request.stress, self.request.seed)

    @cached_property
    def references(self) -> list[str]:
        """Return the expected answers."""
        return [example.reference for example in self.examples]

    @cached_property
    def weights(self) -> dict[str, ModelFiles]:
        """Return the models of the short form by the name of their system, the reference first."""
        systems = self.plan.systems if self.request.model else ()
        return {one.name: one.model for one in systems if one.model}

    def should_stop(self) -> bool:
        """Return whether to start nothing new; what is in flight is finished and kept."""
        return self.session.should_stop

    def render(self, files: ModelFiles, rendering: str) -> Callable[[HeldOut], str]:
        """Return what writes the prompts of a model; all of the short form get one template."""
        assert self.models is not None
        writer = self.models.writer(files)
        if self.weights:
            known = [self.models.writer(one) for one in reversed(self.weights.values())]
            writer = next((one for one in known if one.template is not None), writer)
        if rendering == "plain" or writer.template is None:
            return plain_prompt
        return lambda example: writer.render(example, rendering, thinks=self.thinks)

    @cached_property
    def thinks(self) -> bool:
        """Return whether the models of the plan may think first."""
        return may_think(one.model for one in self.plan.systems if one.model)

    def answered(
        self, kind: str, side: str, questions: Sequence[HeldOut], ask: Ask
    ) -> list[Answer]:
        """Ask what is missing of a set of questions; return all answers in order, or stop."""
        missing = [one for one in questions if (kind, side, one.line) not in self.saved]
        # Reported at once: what the system before it reported is not this one's progress.
        self._report_progress()
        if missing:
            with closing(ask(missing)) as batches:
                for batch in batches:
                    for i, answer in batch:
                        self._keep((kind, side, missing[i].line), answer)
                    self._report_progress()
        self.check_stop()
        return [self.saved[kind, side, one.line] for one in questions]

    def take_over(self, plan: SystemPlan) -> None:
        """Copy answers of the run that the plan reuses into this run, where they are missing."""
        if plan.reused_from is None:
            return
        found = answers.of_system(directory.find(plan.reused_from), plan.answers_key)
        for kind, line in [(kind, one.line) for kind, rows in self.sets.items() for one in rows]:
            if (kind, line) in found and (kind, plan.name, line) not in self.saved:
                self._keep((kind, plan.name, line), found[kind, line])

    def planned_file(self, plan: SystemPlan, name: str) -> Path:
        """Return a file that a system reads; refuse one that changed since the plan."""
        path = workspace.existing(name)
        if sha256(path) != plan.files_sha256[name]:
            raise PlanChanged(f"{name} changed since the plan was confirmed; call evaluate again")
        return path

    def check_stop(self) -> None:
        """Raise Stopped if that was requested; everything so far is saved."""
        if self.session.should_stop:
            raise Stopped

    def _keep(self, key: Key, answer: Answer) -> None:
        answers.keep(self._outputs, key, answer)
        self.saved[key] = answer

    def _report_progress(self) -> None:
        """Report the questions of models and endpoints; simple baselines take no time."""
        names = {one.name for one in self.plan.systems if one.kind in PROMPTED}
        total = len(names) * sum(map(len, self.sets.values()))
        total += self.plan.num_general_prompts * len(self.weights)
        done = sum(kind == GENERAL or side in names for kind, side, _ in self.saved)
        self.session.progress(done, total)
