"""Training on answers marked good or bad (KTO): `python -m ft_tools.training.worker.kto`."""

import random
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Json, Value
from trl import KTOConfig, KTOTrainer

from ft_tools.formats.training_rows import DatasetFacts, read_examples, tools_of
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.training.checks.learnable import count_marks
from ft_tools.training.plan import KtoPlan
from ft_tools.training.report import KtoRunReport, Row, last_value
from ft_tools.training.token_counts import DataReport
from ft_tools.training.worker import loading, preference
from ft_tools.training.worker.preference import Plan, Preference


class Marks(Preference):
    """Single answers with a verdict."""

    answers = "completion_ids"

    def plan(self, session: Session) -> KtoPlan:
        """Read the run's plan."""
        return session.plan(KtoPlan)

    def rows(self, plan: Plan, facts: DatasetFacts) -> Dataset:
        """Read a file of marked answers."""
        return marks(facts, plan.training["seed"])

    def trainer(
        self,
        session: Session,
        plan: Plan,
        given: dict[str, Any],
        train: Dataset,
        held_out: Dataset | None,
        tok: Any,
    ) -> KTOTrainer:
        """Make TRL's trainer."""
        parts = loading.model_parts(plan, KTOConfig(**given))
        data = {"train_dataset": train, "eval_dataset": held_out}
        kind = preference.stoppable(session, KTOTrainer)
        trainer = kind(**parts, **data, processing_class=tok)
        answers = [row["completion_ids"] for row in trainer.train_dataset]
        preference.require_answers(plan, tok, answers)
        size = given["per_device_train_batch_size"]
        trainer.train_dataset = without_lonely_end(plan, trainer.train_dataset, size)
        return trainer

    def count(self, plan: Plan, tokenized: Dataset, facts: DatasetFacts) -> DataReport:
        """Count what became of a file's answers."""
        lengths = [(len(row["prompt_ids"]), len(row["completion_ids"])) for row in tokenized]
        return count_marks(facts.num_examples, plan.training.get("max_length"), lengths)

    def report(self, rows: list[Row], parts: dict[str, Any]) -> KtoRunReport:
        """Add the margins."""
        return KtoRunReport(
            **parts,
            reward_margin=last_value(rows, "rewards/margins"),
            validation_margin=last_value(rows, "eval_rewards/margins"),
            chosen_reward=last_value(rows, "rewards/chosen"),
        )


def marks(facts: DatasetFacts, seed: int) -> Dataset:
    """Read a file of marked answers as TRL takes them, in an order that the seed gives.

    TRL keeps the file's order, and compares each answer with the one before it: files are often
    sorted by their marks.
    """
    rows = [row for _, row in read_examples(Path(facts.path))]
    random.Random(seed).shuffle(rows)
    kind = Value("string") if facts.format == "marks_text" else Json()
    columns: dict[str, Any] = {
        "prompt": [row["prompt"] for row in rows],
        "completion": [row["completion"] for row in rows],
        "label": [bool(row["label"]) for row in rows],
    }
    features = {"prompt": kind, "completion": kind, "label": Value("bool")}
    if any("tools" in row for row in rows):
        columns["tools"] = [tools_of(row) for row in rows]
        features["tools"] = Json()
    return Dataset.from_dict(columns, features=Features(features))


def without_lonely_end(plan: Plan, tokenized: Dataset, size: int) -> Dataset:
    """Leave out a last answer that would be compared with itself, in micro-batches of `size`."""
    is_lonely = plan.training["loss_type"] == "kto" and len(tokenized) % size == 1
    return tokenized.select(range(len(tokenized) - 1)) if is_lonely else tokenized


work = partial(preference.work, Marks())

if __name__ == "__main__":
    main(work)
