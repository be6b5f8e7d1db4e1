"""Preference training (DPO, KTO): `python -m ft_tools.training.worker.dpo RUN_DIR`."""

import random
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset, Features, Json, Value
from transformers import Trainer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from ft_tools.formats.formats import num_shared
from ft_tools.formats.training_rows import DatasetFacts, read_examples, tools_of
from ft_tools.formats.trl_formats import Example
from ft_tools.models.worker.loading import NO_HUB_KERNELS
from ft_tools.runs.processes.worker_session import Session, Stopped, main
from ft_tools.training.checks.learnable import Tally, require_answers
from ft_tools.training.report import PreferenceRunReport, TrainingRunReport
from ft_tools.training.token_counts import DataReport
from ft_tools.training.training_plan import DpoPlan, KtoPlan
from ft_tools.training.worker import loading, ranks_agree, tokenizing
from ft_tools.training.worker.work import Training


class Preference(Training):
    """Answers of which some are made likelier and others less likely; TRL tokenizes them."""

    report_type = PreferenceRunReport
    fields: ClassVar[tuple[str, ...]]
    answers: ClassVar[tuple[str, ...]]
    """Columns of answers as tokens; the first is of those that are made likelier."""

    @abstractmethod
    def prepared(self, rows: list[Example]) -> list[Example]:
        """Return the rows as TRL takes them."""

    def read(self, facts: DatasetFacts) -> Dataset:
        """Read a file, each row as it is.

        Columns of Arrow would give every message, tool and argument the names that others have,
        with nothing in them, and templates would write these.
        """
        rows = self.prepared([row for _, row in read_examples(Path(facts.path))])
        kind = Value("string") if facts.format.endswith("_text") else Json()
        features: dict[str, Any] = dict.fromkeys(self.fields, kind)
        if any("label" in row for row in rows):
            features["label"] = Value("bool")
        if any("tools" in row for row in rows):
            features["tools"] = Json()
            rows = [row | {"tools": tools_of(row)} for row in rows]
        columns = {name: [row.get(name) for row in rows] for name in features}
        return Dataset.from_dict(columns, features=Features(features))

    def make_trainer(self, given: dict[str, Any]) -> Trainer:
        """Make it, where the template takes every example.

        TRL loads a full run's reference by the model's name; it has to be of the planned commit.
        """
        if self.plan.method == "full":
            given = given | {"model_init_kwargs": NO_HUB_KERNELS | loading.revision_of(self.plan)}
        where = f"a line of {self.plan.dataset.path}"
        with tokenizing.refused_by_template(where, self.train_set[0]):
            return super().make_trainer(given)

    def trainer_type(self) -> type[Trainer]:
        """Return TRL's trainer, whose pass over the data before training can be cancelled, too."""
        session, base = self.session, self.base_trainer

        class Stoppable(base):  # type: ignore[misc, valid-type]
            """Look for a stop before each batch of the reference."""

            def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
                """Return the reference's log-probabilities."""
                if not self.is_in_train and ranks_agree.any_of(session.is_asked):
                    raise Stopped
                return super().compute_ref_log_probs(model, inputs)

        return Stoppable

    def require_ready(self, trainer: Trainer) -> None:
        """Refuse to train on nothing or on endless answers, and to compare one with itself."""
        plan, second = self.plan, getattr(trainer, "ref_model", None)
        if second is not None:
            # TRL loads a full run's reference itself.
            loading.fit_fused_head(second)
        answers = [row[self.answers[0]] for row in trainer.train_dataset]
        special = tokenizing.special_ids(self.tokenizer)
        require_answers(plan.dataset.path, plan.training.get("max_length"), answers, special)
        if plan.training["loss_type"] == "kto":
            num_rows = len(answers)
            is_lonely = num_rows % trainer.args.per_device_train_batch_size == 1
            trainer.train_dataset = trainer.train_dataset.select(range(num_rows - is_lonely))

    def count(self, facts: DatasetFacts, tokenized: Dataset) -> DataReport:
        """Count what became of a file's answers."""
        tally, names = Tally(self.plan.training.get("max_length")), self.answers
        for prompt, answer in ((row["prompt_ids"], row[n]) for row in tokenized for n in names):
            tally.add(len(prompt) + len(answer), len(answer))
        return tally.report(facts.num_examples, facts.num_examples * len(names))


class Pairs(Preference):
    """Pairs of a chosen and a rejected answer.

    A new adapter is its own reference when switched off; one that was trained before gets a frozen
    copy; for a full run TRL loads the model a second time.
    """

    plan_type = DpoPlan
    config, base_trainer = DPOConfig, DPOTrainer
    fields = ("prompt", "chosen", "rejected")
    answers = ("chosen_ids", "rejected_ids")

    def prepared(self, rows: list[Example]) -> list[Example]:
        """Take the messages that both answers begin with out of them, as the prompt."""
        return [row if "prompt" in row else self._with_prompt(row) for row in rows]

    def _with_prompt(self, row: Example) -> Example:
        chosen, rejected = row["chosen"], row["rejected"]
        shared = num_shared(chosen[:-1], rejected[:-1])
        answers = {"chosen": chosen[shared:], "rejected": rejected[shared:]}
        return row | {"prompt": chosen[:shared], **answers}


class Marks(Preference):
    """Single answers, marked good or bad."""

    plan_type = KtoPlan
    config, base_trainer = KTOConfig, KTOTrainer
    fields = ("prompt", "completion")
    answers = ("completion_ids",)

    def prepared(self, rows: list[Example]) -> list[Example]:
        """Order the rows by the seed.

        TRL keeps the file's order, and compares each answer with the one before it: files are often
        sorted by their marks.
        """
        random.Random(self.plan.training["seed"]).shuffle(rows)
        return [row | {"label": bool(row["label"])} for row in rows]


def work(session: Session) -> TrainingRunReport:
    """Carry out a run on preferences."""
    return (Marks if session.info.kind == "kto" else Pairs)(session).work()


if __name__ == "__main__":
    main(work)
