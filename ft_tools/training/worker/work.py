"""What the three kinds of training run do alike: check, read, train, publish, report."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from datasets import Dataset
from transformers import Trainer, TrainingArguments

from ft_tools.formats.masking import IGNORED
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.worker import today
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training import samples
from ft_tools.training.checks import base_model
from ft_tools.training.health import Metrics
from ft_tools.training.report import TrainingRunReport
from ft_tools.training.token_counts import DataReport
from ft_tools.training.training_plan import TrainingPlan
from ft_tools.training.worker import artifacts, loading, loop
from ft_tools.training.worker.confirmed_inputs import check_inputs


class Training(ABC):
    """One run; the kinds differ in what is declared here."""

    plan_type: ClassVar[type[TrainingPlan]]
    report_type: ClassVar[type[TrainingRunReport]]
    config: ClassVar[type[TrainingArguments]]
    base_trainer: ClassVar[type[Trainer]]

    def __init__(self, session: Session) -> None:
        self.session = session
        self.plan: Any = session.plan(self.plan_type)

    @abstractmethod
    def read(self, facts: DatasetFacts) -> Dataset:
        """Read a file as TRL takes it."""

    @abstractmethod
    def count(self, facts: DatasetFacts, tokenized: Dataset) -> DataReport:
        """Count what became of a file's examples."""

    def trainer_type(self) -> type[Trainer]:
        """Return TRL's trainer."""
        return self.base_trainer

    @abstractmethod
    def require_ready(self, trainer: Trainer) -> None:
        """Refuse what shows only in the loaded model or its tokenized data."""

    def work(self) -> TrainingRunReport:
        """Train, publish, report."""
        session, plan = self.session, self.plan
        session.phase("checking")
        today.hold(session.info.created_at)
        check_inputs(plan)
        self.tokenizer = tokenizer = loading.load_tokenizer(plan)
        if tokenizer.chat_template is None and plan.model.adapter is None:
            # A model of the Hub, of which the plan may have known nothing but its name.
            observed = base_model.without_template(plan.model.name)
            base_model.require_instruct(observed, plan.task, plan.accepted)
        artifacts.write_lock(session, plan, tokenizer)
        session.phase("tokenizing")
        self.train_set = self.read(plan.dataset)
        self.held_out = self.read(plan.validation) if plan.validation else None
        outcome = loop.train(session, plan, self.make_trainer)
        data, validation = self.counts(outcome.trainer)
        artifact = artifacts.publish_result(session, plan, outcome.trainer, tokenizer)
        outcome.callback.write_page("succeeded")
        parts = artifacts.report_parts(session, plan, outcome, artifact, data, validation)
        logged = Metrics(outcome.callback.rows)
        metrics = {field: logged.last(name) for field, name in self.report_type.METRICS.items()}
        return self.report_type(**parts, **metrics)

    def make_trainer(self, given: dict[str, Any]) -> Trainer:
        """Load the model and put TRL's trainer around it; DPO's finds the reference by itself."""
        trainer = self.trainer_type()(
            **loading.model_parts(self.plan, self.config(**given)),
            train_dataset=self.train_set,
            eval_dataset=self.held_out,
            processing_class=self.tokenizer,
        )
        loading.connect_engine(self.plan, trainer)
        self.require_ready(trainer)
        if self.session.leads:
            self.show_example(self.example_rows(trainer))
        return trainer

    def example_rows(self, trainer: Trainer) -> Dataset:
        """Return held-out rows as tokens, or training rows where there are none."""
        return trainer.eval_dataset or trainer.train_dataset

    def show_example(self, rows: Dataset) -> None:
        """Write a prompt and its answer as they are trained, special tokens included."""
        row = next((row for row in rows if row.get("label", True)), rows[0])
        texts = [self.tokenizer.decode(part) for part in prompt_and_answer(row)]
        samples.describe(self.session.run_dir, [(texts[0], texts[1])])

    def counts(self, trainer: Trainer) -> tuple[DataReport, DataReport | None]:
        """Count both files."""
        data = self.count(self.plan.dataset, trainer.train_dataset)
        if self.plan.validation is None:
            return data, None
        return data, self.count(self.plan.validation, trainer.eval_dataset)


def prompt_and_answer(row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return the tokens before the first trained stretch of a tokenized row, and that stretch.

    >>> prompt_and_answer({"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, -100]})
    ([1, 2], [3])
    """
    if "labels" not in row:
        return row["prompt_ids"], row.get("chosen_ids") or row["completion_ids"]
    ids, labels = row["input_ids"], row["labels"]
    first = next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))
    end = next((i for i in range(first, len(labels)) if labels[i] == IGNORED), len(labels))
    return ids[:first], ids[first:end]
