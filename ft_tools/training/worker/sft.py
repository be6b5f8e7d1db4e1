"""Supervised fine-tuning: `python -m ft_tools.training.worker.sft RUN_DIR`."""

from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from ft_tools.formats.training_rows import DatasetFacts, read_examples
from ft_tools.formats.trl_formats import Example
from ft_tools.runs.processes.worker_session import Session, Stopped, main
from ft_tools.training.report import SftRunReport, TrainingRunReport
from ft_tools.training.token_counts import DataReport, packing_of
from ft_tools.training.training_plan import SftPlan
from ft_tools.training.worker import tokenizing
from ft_tools.training.worker.packing_check import require_kept_apart
from ft_tools.training.worker.work import Training

STOP_CHECK = 256
"""Examples between two looks at whether to stop."""


class Supervised(Training):
    """Examples whose answers, or whole texts, are made likelier."""

    plan_type = SftPlan
    report_type = SftRunReport
    config, base_trainer = SFTConfig, SFTTrainer

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.reports: dict[str, DataReport] = {}

    def require_ready(self, trainer: Trainer) -> None:
        """Refuse a model in which packed examples see one another."""
        require_kept_apart(self.session, self.plan, trainer)

    def example_rows(self, trainer: Trainer) -> Dataset:
        """Return the rows before any packing."""
        return self.held_out or self.train_set

    def count(self, facts: DatasetFacts, tokenized: Dataset) -> DataReport:
        """Return what was counted when the file was tokenized."""
        return self.reports[facts.path]

    def read(self, facts: DatasetFacts) -> Dataset:
        """Tokenize a file and check that every sequence has something to learn.

        Raises:
            Refused: Nothing is left to learn, the answers do not end, or the template refuses one.
            Stopped: A cancel or a TERM arrived.
        """
        plan = self.plan
        cut = plan.training.get("max_length"), packing_of(plan.training)
        kept, tally = tokenizing.supervised(
            self.tokenizer, facts, self._until_stopped(facts), plan.loss_on, cut
        )
        drifts = sum(one.prompt_drifts for one in kept)
        report = self.reports[facts.path] = tally.report(facts.num_examples, None, drifts)
        record_counts(self.session, facts, report)
        columns = {"input_ids": [o.input_ids for o in kept], "labels": [o.labels for o in kept]}
        return Dataset.from_dict(columns)

    def _until_stopped(self, facts: DatasetFacts) -> Iterator[tuple[int, Example]]:
        for number, row in enumerate(read_examples(Path(facts.path))):
            if number % STOP_CHECK == 0 and self.session.should_stop:
                raise Stopped
            yield row


def record_counts(session: Session, facts: DatasetFacts, report: DataReport) -> None:
    """Record the counts as events; a reader sees them before the first step."""
    name = Path(facts.path).name
    share = report.num_trained_tokens / max(1, report.num_tokens)
    session.event(
        f"{name}: {report.num_sequences} sequences, {report.num_tokens} tokens, {share:.0%} of "
        f"them trained on, {report.num_truncated} cut, {report.num_dropped} left out"
    )
    if report.num_prompt_drifts:
        session.event(
            f"{name}: {report.num_prompt_drifts} prompts are tokenized differently alone than with "
            "their answer; the model will meet another context than it was trained on",
            "warning",
        )


def work(session: Session) -> TrainingRunReport:
    """Carry out a supervised run."""
    return Supervised(session).work()


if __name__ == "__main__":
    main(work)
