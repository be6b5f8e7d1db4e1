"""Measure a starting model on the prompts of a reinforcement run, as training samples them."""

import time
from statistics import fmean
from typing import Any

from datasets import Dataset

from ft_tools.errors import Refused
from ft_tools.next_steps import next_step
from ft_tools.runs.next_steps import NOT_ASKED_AGAIN
from ft_tools.runs.processes.worker_session import Session, Stopped, main
from ft_tools.training.grpo import probe
from ft_tools.training.grpo.probe import ProbeReport, summed_up
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.micro_batches import MicroBatch
from ft_tools.training.worker import loading, loop
from ft_tools.training.worker.confirmed_inputs import check_inputs
from ft_tools.training.worker.grpo import Reinforced
from ft_tools.training.worker.rewards import by_row


class Probe(Reinforced):
    """The run's own trainer, which only evaluates: on prompts to train on."""

    def measure(self) -> ProbeReport:
        """Answer prompts until there are enough, or the time is over.

        Raises:
            Stopped: A cancel or a TERM arrived.
            Refused: No answer could be scored.
        """
        plan, session = self.plan, self.session
        session.phase("loading")
        check_inputs(plan)
        self.tokenizer = loading.load_tokenizer(plan)
        self.train_set = self.read(plan.dataset)
        self.rewards.held_out_rows = self.rewards.trained_rows
        number = min(probe.PROMPTS, len(self.train_set))
        asked = self.train_set.shuffle(seed=plan.training["seed"]).select(range(number))
        return loop.with_less_memory(session, plan, lambda batch: self._answer(asked, batch))

    def _answer(self, asked: Dataset, batch: MicroBatch) -> ProbeReport:
        """Answer prompts, as many together as the run would."""
        plan, session, number = self.plan, self.session, len(asked)
        self.held_out = asked
        group = plan.training["num_generations"]
        together = batch.together // group
        given = loading.run_arguments(session, plan, batch)
        given |= {
            "num_generations_eval": group,
            "per_device_eval_batch_size": group * together,
            "load_best_model_at_end": False,
            "eval_on_start": False,
        }
        trainer: Any = self.make_trainer(given)
        trainer.callback_handler.callbacks.clear()
        # The first answers warm up.
        trainer.evaluate(asked.select([0]))
        self.rewards.evaluated.clear()
        session.phase("answering")
        began, cut = time.monotonic(), 0.0
        for start in range(0, number, together):
            rows = asked.select(range(start, min(number, start + together)))
            found = trainer.evaluate(rows)
            cut += found["eval_completions/clipped_ratio"] * len(rows) * group
            done = start + len(rows)
            session.progress(done, number)
            # What was measured until the budget's end is kept.
            if session.is_over_budget:
                break
            if session.should_stop:
                raise Stopped
            is_enough = done >= probe.LEAST_PROMPTS
            if time.monotonic() - began > (probe.SECONDS if is_enough else probe.MOST_SECONDS):
                break
        return self._report(time.monotonic() - began, round(cut))

    def _report(self, seconds: float, num_truncated: int) -> ProbeReport:
        evaluated, session = self.rewards.evaluated, self.session
        scored = [one for one in evaluated if one.scores.total is not None]
        if not scored:
            raise Refused("no answer could be scored: each check broke; the run's log says why")
        result = summed_up(
            list(by_row(evaluated).values()),
            {
                name: fmean(one.scores.parts[name] or 0.0 for one in scored)
                for name in self.rewards.names
            },
            [one.num_tokens for one in evaluated],
            num_truncated=num_truncated,
            seconds=seconds,
            broken_fraction=1 - len(scored) / len(evaluated),
            run_id=session.run_dir.name,
        )
        request = session.request(GrpoRequest)
        asked = request.model_dump(mode="json", exclude_defaults=True, exclude=NOT_ASKED_AGAIN)
        step, refused = next_step("plan_probed", asked), ""
        first = probe.train_first(request, self.plan.dataset, self.rewards.trained_rows)
        longest = self.plan.training["max_completion_length"]
        try:
            probe.judged(result, request.accept_findings, longest=longest, first=first)
        except Refused as error:
            step, refused = first or step, f" {error}"
        return ProbeReport(
            summary=f"{result.pass_at_1:.1%} of {len(evaluated)} answers to {result.prompts} "
            f"prompts are right, {result.pass_at_k:.1%} of the prompts have a right one; "
            f"{result.zero_spread_fraction:.0%} have answers that all score the same.{refused}",
            result=result,
            next_steps=[step],
        )


def work(session: Session) -> ProbeReport:
    """Carry out a probe."""
    one = Probe(session)
    with one.scorer:
        return one.measure()


if __name__ == "__main__":
    main(work)
