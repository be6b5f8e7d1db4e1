"""Preference training (DPO): `python -m ft_tools.training.worker.dpo RUN_DIR`."""

from trl import DPOConfig, DPOTrainer

from ft_tools.formats.trl_formats import Example
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.training.report import DpoRunReport, TrainingRunReport
from ft_tools.training.training_plan import DpoPlan
from ft_tools.training.worker.preference import Preference
from ft_tools.training.worker.tokenizing import shared_turns


class Pairs(Preference):
    """Pairs of a chosen and a rejected answer.

    A new adapter is its own reference when switched off; one that was trained before gets a frozen
    copy; for a full run TRL loads the model a second time.
    """

    plan_type = DpoPlan
    report_type = DpoRunReport
    config, base_trainer = DPOConfig, DPOTrainer
    fields = ("prompt", "chosen", "rejected")
    answers = ("chosen_ids", "rejected_ids")

    def prepared(self, rows: list[Example]) -> list[Example]:
        """Take the messages that both answers begin with out of them."""
        return [row if "prompt" in row else with_prompt(row) for row in rows]


def with_prompt(row: Example) -> Example:
    """Return a pair with the messages that both answers begin with as its prompt."""
    chosen, rejected = row["chosen"], row["rejected"]
    shared = shared_turns(chosen, rejected)
    parts = {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}
    return row | parts


def work(session: Session) -> TrainingRunReport:
    """Carry out a run on pairs."""
    return Pairs(session).work()


if __name__ == "__main__":
    main(work)
