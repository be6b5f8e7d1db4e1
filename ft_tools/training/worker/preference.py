"""What the two kinds of preference run, pairs (DPO) and marked answers (KTO), do alike."""

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

from datasets import Dataset
from jinja2 import TemplateError
from transformers import Trainer

from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.worker import today
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.training.checks import base_model
from ft_tools.training.checks.learnable import require_pairs, template_refuses
from ft_tools.training.plan import DpoPlan, KtoPlan
from ft_tools.training.report import Row, TrainingRunReport
from ft_tools.training.token_counts import DataReport
from ft_tools.training.worker import artifacts, loading, loop, ranks_agree
from ft_tools.training.worker.confirmed_inputs import check_inputs

Plan = DpoPlan | KtoPlan
SAMPLED = 64
"""Held-out examples among which short prompts are looked for."""


class Preference(ABC):
    """What differs between the kinds: reading, the trainer, counting and the report."""

    answers: str
    """Column of the tokens that are made likelier."""

    @abstractmethod
    def plan(self, session: Session) -> Plan:
        """Read the run's plan."""

    @abstractmethod
    def rows(self, plan: Plan, facts: DatasetFacts) -> Dataset:
        """Read a file as TRL takes it."""

    @abstractmethod
    def trainer(
        self,
        session: Session,
        plan: Plan,
        given: dict[str, Any],
        train: Dataset,
        held_out: Dataset | None,
        tok: Any,
    ) -> Trainer:
        """Load the model and put TRL's trainer around it; it finds the reference by itself."""

    @abstractmethod
    def count(self, plan: Plan, tokenized: Dataset, facts: DatasetFacts) -> DataReport:
        """Count what became of a file's examples."""

    @abstractmethod
    def report(self, rows: list[Row], parts: dict[str, Any]) -> TrainingRunReport:
        """Add what only this kind reports to what all training runs do."""

    def answered(self, trainer: Trainer) -> list[tuple[list[int], list[int]]]:
        """Return prompts and good answers of held-out examples, as tokens."""
        rows = trainer.eval_dataset
        rows = [] if rows is None else rows.select(range(min(len(rows), SAMPLED)))
        return [(row["prompt_ids"], row[self.answers]) for row in rows if row.get("label", True)]


def work(kind: Preference, session: Session) -> TrainingRunReport:
    """Train, publish, report."""
    plan = kind.plan(session)
    session.phase("checking")
    today.hold(session.info.created_at)
    check_inputs(plan)
    tokenizer = loading.load_tokenizer(plan)
    if tokenizer.chat_template is None and plan.model.adapter is None:
        # A model of the Hub, of which the plan may have known nothing but its name.
        observed = base_model.without_template(plan.model.name)
        base_model.require_instruct(observed, plan.task, plan.accepted)
    artifacts.write_lock(session, plan, tokenizer)
    train_set = kind.rows(plan, plan.dataset)
    held_out = kind.rows(plan, plan.validation) if plan.validation else None
    make = partial(make_trainer, session, kind, plan, tokenizer, train_set, held_out)
    outcome = loop.train(session, plan, make, kind.answered)
    trainer = outcome.trainer
    data = kind.count(plan, trainer.train_dataset, plan.dataset)
    validation = None
    if plan.validation:
        validation = kind.count(plan, trainer.eval_dataset, plan.validation)
    if plan.task == "dpo":
        # A lonely last answer of KTO is left out by the run alone.
        artifacts.compare_counts(session, plan, data)
    artifact = artifacts.publish_result(session, plan, trainer, tokenizer)
    outcome.callback.write_page("succeeded")
    parts = artifacts.report_parts(session, plan, outcome, artifact, data, validation)
    return kind.report(outcome.callback.rows, parts)


def make_trainer(
    session: Session,
    kind: Preference,
    plan: Plan,
    tokenizer: Any,
    train_set: Dataset,
    held_out: Dataset | None,
    given: dict[str, Any],
) -> Trainer:
    """Make the trainer of one attempt, and refuse to train on nothing or on endless answers.

    Raises:
        Refused: With what to change.
    """
    try:
        trainer = kind.trainer(session, plan, given, train_set, held_out, tokenizer)
    except TemplateError:
        raise template_refuses(f"a line of {plan.dataset.path}", train_set[0]) from None
    loading.connect_engine(plan, trainer)
    return trainer


def stoppable(session: Session, kind: type[Trainer]) -> type[Trainer]:
    """Return TRL's trainer, whose pass over the data before training can be cancelled, too."""

    class Stoppable(kind):  # type: ignore[misc]
        """Look for a stop before each batch of the reference."""

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            """Return the reference's log-probabilities.

            Raises:
                Stopped: A cancel or a TERM arrived before training began.
            """
            if not self.is_in_train:
                session.heartbeat()
                if ranks_agree.any_of(session.is_asked):
                    raise Stopped
            return super().compute_ref_log_probs(model, inputs)

    return Stoppable


def require_answers(plan: Plan, tokenizer: Any, answers: list[list[int]]) -> None:
    """Refuse to train on nothing, or on answers that never end.

    Raises:
        Refused: With what to change.
    """
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    require_pairs(plan.dataset.path, plan.training.get("max_length"), answers, special)
