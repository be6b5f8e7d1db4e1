"""Training on answers marked good or bad (KTO): `python -m ft_tools.training.worker.kto`."""

import random

from trl import KTOConfig, KTOTrainer

from ft_tools.formats.trl_formats import Example
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.training.report import KtoRunReport, TrainingRunReport
from ft_tools.training.training_plan import KtoPlan
from ft_tools.training.worker.dpo import Preference


class Marks(Preference):
    """Single answers with a verdict."""

    plan_type = KtoPlan
    report_type = KtoRunReport
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
    """Carry out a run on marked answers."""
    return Marks(session).work()


if __name__ == "__main__":
    main(work)
