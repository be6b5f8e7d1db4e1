"""Reinforcement on declared rewards: `python -m ft_tools.training.worker.grpo RUN_DIR`."""

from typing import Any

from datasets import Dataset, Features, Json, Value
from transformers import Trainer, TrainerCallback, TrainerState
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.metrics.checks.scorer import Scorer
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.runs.state import directory
from ft_tools.training import samples
from ft_tools.training.checks.learnable import count_prompts
from ft_tools.training.findings import refusal
from ft_tools.training.grpo import held_out
from ft_tools.training.grpo.plan import GrpoPlan
from ft_tools.training.grpo.prompts import read_prompts
from ft_tools.training.health import without_repeats
from ft_tools.training.report import GrpoRunReport, TrainingRunReport
from ft_tools.training.token_counts import DataReport
from ft_tools.training.worker import loading, tokenizing
from ft_tools.training.worker.rewards import ROW, Answered, Rewards, by_row
from ft_tools.training.worker.work import Training

QUOTED = 10
"""Held-out prompts whose completion is on the page."""


class PromptOrder(RepeatSampler):  # type: ignore[misc]
    """TRL's order of prompts, which follows from the seed and the epoch.

    TRL draws each epoch's from one generator, of which a resumed run has the beginning only: it
    would see some prompts of its epoch twice and others not at all.

    Source: trl 1.16, trainer/utils.py, RepeatSampler; accelerate 1.15, data_loader.py, set_epoch.
    """

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch; accelerate says which one begins."""
        self.generator.manual_seed(self.seed + epoch)


class InMicroBatches(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, which scores the answers of an evaluation by micro-batches, as in training.

    TRL passes all rows of an evaluation's batch through the model at once, each with an attention
    mask of its own. Memory is planned for a micro-batch.

    Source: trl 1.16, trainer/grpo_trainer.py, prediction_step and _compute_loss.
    """

    def _get_per_token_logps_and_entropies(
        self, *inputs: Any, batch_size: int | None = None, **named: Any
    ) -> Any:
        micro: int = self.args.per_device_train_batch_size
        size = min(batch_size or micro, micro)
        return super()._get_per_token_logps_and_entropies(*inputs, batch_size=size, **named)


class Reinforced(Training):
    """Prompts whose answers the model writes itself, and is rewarded for."""

    plan_type = GrpoPlan
    report_type = GrpoRunReport
    config, base_trainer = GRPOConfig, InMicroBatches

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        checks = self.plan.rewards
        self.scorer = Scorer(checks, session.run_dir)
        self.rewards = Rewards(
            checks,
            self.scorer,
            is_training=lambda: self.trainer.model.training,
            decode=lambda ids: self.tokenizer.batch_decode(ids, skip_special_tokens=True),
        )
        self.trainer: Any = None

    def work(self) -> TrainingRunReport:
        """Train with the scorer open, and say what held-out prompts gained."""
        with self.scorer:
            report = super().work()
        run_dir = self.session.run_dir
        gain = held_out.gained(held_out.read(run_dir), report.best_step)
        rows = without_repeats(directory.read_metrics(run_dir), report.steps)
        found = held_out.diagnose(rows, gain)
        return report.model_copy(update={"held_out_gain": gain, "diagnosis": found})

    def read(self, facts: DatasetFacts) -> Dataset:
        """Read prompts; what rewards read of their rows stays here, found by the row's number."""
        prompts = read_prompts(facts)
        if facts is self.plan.dataset:
            self.rewards.trained_rows = prompts
        else:
            self.rewards.held_out_rows = prompts
        kind = Value("string") if facts.format.endswith("_text") else Json()
        columns = {"prompt": [one.asked for one in prompts], ROW: [*range(len(prompts))]}
        features = Features({"prompt": kind, ROW: Value("int64")})
        return Dataset.from_dict(columns, features=features)

    def make_trainer(self, given: dict[str, Any]) -> Trainer:
        """Load the model and put TRL's trainer with the rewards around it."""
        where = f"a line of {self.plan.dataset.path}"
        with tokenizing.refused_by_template(where, {"prompt": self.train_set[0]["prompt"]}):
            self.trainer = self.trainer_type()(
                **loading.model_parts(
                    self.plan, self.config(**given, reward_weights=self.rewards.weights)
                ),
                reward_funcs=self.rewards.functions(),
                train_dataset=self.train_set,
                eval_dataset=self.held_out,
                processing_class=self.tokenizer,
            )
        self.trainer._get_train_sampler = self._prompt_order
        self.trainer.add_callback(HeldOut(self.session, self.rewards))
        return self.trainer

    def _prompt_order(self, dataset: Dataset) -> PromptOrder:
        """Return the order of the training prompts, each step's as often as TRL takes it."""
        args, group = self.trainer.args, self.trainer.num_generations
        together, times = args.generation_batch_size // group, args.steps_per_generation
        return PromptOrder(dataset, group, together, times, seed=args.seed)

    def require_ready(self, trainer: Trainer) -> None:
        """Do nothing: the plan has tested what the loaded model could not show."""

    def count(self, facts: DatasetFacts, tokenized: Dataset) -> DataReport:
        """Count a file's prompts."""
        examples = ({"prompt": prompt} for prompt in tokenized["prompt"])
        return count_prompts([len(tokenizing.prompt_ids(self.tokenizer, one)) for one in examples])


class HeldOut(TrainerCallback):  # type: ignore[misc]
    """Keeps an evaluation's rewards by row, and shows a few of its completions."""

    def __init__(self, session: Session, rewards: Rewards) -> None:
        self._session = session
        self._rewards = rewards

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Write down what an evaluation gave."""
        evaluated, self._rewards.evaluated = self._rewards.evaluated, []
        run_dir, rows = self._session.run_dir, self._rewards.held_out_rows[:QUOTED]
        held_out.keep(run_dir, state.global_step, by_row(evaluated))
        samples.describe(run_dir, [(str(one.row["prompt"]), one.reference) for one in rows])
        first = {one.row: one for one in reversed(evaluated)}
        for number in sorted(first)[: len(rows)]:
            samples.add(run_dir, state.global_step, number, quoted(first[number]))
        if evaluated and all(one.scores.total is None for one in evaluated):
            # TRL has no held-out reward then, by which transformers compares checkpoints.
            raise refusal("nothing_scored", parts=evaluated[0].scores.described)


def quoted(one: Answered) -> str:
    """Return a completion with its reward, by part."""
    total = "none" if one.scores.total is None else f"{one.scores.total:.2f}"
    return f"[reward {total}: {one.scores.described}]\n{one.text}"


def work(session: Session) -> TrainingRunReport:
    """Carry out a reinforcement run."""
    return Reinforced(session).work()


if __name__ == "__main__":
    main(work)
