"""Preference training (DPO): `python -m ft_tools.training.worker.dpo RUN_DIR`."""

from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Json, Value
from trl import DPOConfig, DPOTrainer

from ft_tools.formats.training_rows import DatasetFacts, read_examples, tools_of
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.training.checks.learnable import count_pairs
from ft_tools.training.plan import DpoPlan
from ft_tools.training.report import DpoRunReport, Row, last_value
from ft_tools.training.token_counts import DataReport
from ft_tools.training.worker import loading, preference
from ft_tools.training.worker.preference import Plan, Preference

FIELDS = ("prompt", "chosen", "rejected")


class Pairs(Preference):
    """Pairs of a chosen and a rejected answer."""

    answers = "chosen_ids"

    def plan(self, session: Session) -> DpoPlan:
        """Read the run's plan."""
        return session.plan(DpoPlan)

    def rows(self, plan: Plan, facts: DatasetFacts) -> Dataset:
        """Read a file of pairs."""
        return pairs(facts)

    def trainer(
        self,
        session: Session,
        plan: Plan,
        given: dict[str, Any],
        train: Dataset,
        held_out: Dataset | None,
        tok: Any,
    ) -> DPOTrainer:
        """Make TRL's trainer.

        A new adapter is its own reference when switched off; one that was trained before gets a
        frozen copy; for a full run TRL loads the model a second time.
        """
        parts = loading.model_parts(plan, DPOConfig(**given))
        data = {"train_dataset": train, "eval_dataset": held_out}
        kind = preference.stoppable(session, DPOTrainer)
        trainer = kind(**parts, **data, processing_class=tok)
        chosen = [row["chosen_ids"] for row in trainer.train_dataset]
        preference.require_answers(plan, tok, chosen)
        return trainer

    def count(self, plan: Plan, tokenized: Dataset, facts: DatasetFacts) -> DataReport:
        """Count what became of a file's pairs."""
        lengths = [
            (len(row["prompt_ids"]), len(row[name]))
            for row in tokenized
            for name in ("chosen_ids", "rejected_ids")
        ]
        return count_pairs(facts.num_examples, plan.training.get("max_length"), lengths)

    def report(self, rows: list[Row], parts: dict[str, Any]) -> DpoRunReport:
        """Add accuracy and margin."""
        return DpoRunReport(
            **parts,
            reward_accuracy=last_value(rows, "rewards/accuracies"),
            reward_margin=last_value(rows, "rewards/margins"),
            chosen_reward=last_value(rows, "rewards/chosen"),
        )


def pairs(facts: DatasetFacts) -> Dataset:
    """Read a file of pairs as TRL takes them, each row as it is.

    Columns of Arrow would give every message, tool and argument the names that others have, with
    nothing in them, and templates would write these.
    """
    rows = [row for _, row in read_examples(Path(facts.path))]
    names = [name for name in (*FIELDS, "tools") if any(name in row for row in rows)]
    if facts.format == "pairs_messages_implicit":
        rows = [with_prompt(row) for row in rows]
        names = [*FIELDS, *(name for name in names if name not in FIELDS)]
    if "tools" in names:
        rows = [row | {"tools": tools_of(row)} for row in rows]
    kind = Value("string") if facts.format == "pairs_text" else Json()
    features = Features({name: Json() if name == "tools" else kind for name in names})
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Dataset.from_dict(columns, features=features)


def with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """Take the messages that both answers begin with out of them."""
    chosen, rejected = row["chosen"], row["rejected"]
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    return row | {
        "prompt": chosen[:shared],
        "chosen": chosen[shared:],
        "rejected": rejected[shared:],
    }


work = partial(preference.work, Pairs())

if __name__ == "__main__":
    main(work)
