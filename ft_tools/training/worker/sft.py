"""Supervised fine-tuning: `python -m ft_tools.training.worker.sft RUN_DIR`."""

from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from jinja2 import TemplateError
from trl import SFTConfig, SFTTrainer

from ft_tools.formats.masking import Messages, Render, Tokenized, tokenize_example
from ft_tools.formats.training_rows import DatasetFacts, read_examples, tools_of
from ft_tools.formats.trl_formats import Example
from ft_tools.formats.worker import today
from ft_tools.runs.processes.worker_session import Session, Stopped, main
from ft_tools.training.checks.learnable import Tally, cut_at, packing_of, template_refuses
from ft_tools.training.plan import SftPlan
from ft_tools.training.report import SftRunReport, last_value
from ft_tools.training.token_counts import DataReport
from ft_tools.training.worker import artifacts, fused_head, loading, loop
from ft_tools.training.worker.confirmed_inputs import check_inputs
from ft_tools.training.worker.packing_check import require_kept_apart
from ft_tools.training.worker.sampling import split_at_answer

STOP_CHECK = 256
"""Examples between two looks at whether to stop."""
SAMPLED = 64
"""Held-out examples among which short prompts are looked for."""


def work(session: Session) -> SftRunReport:
    """Train, publish, report."""
    plan = session.plan(SftPlan)
    session.phase("checking")
    today.hold(session.info.created_at)
    check_inputs(plan)
    tokenizer = loading.load_tokenizer(plan)
    artifacts.write_lock(session, plan, tokenizer)
    session.phase("tokenizing")
    train_set, data = tokenized_file(session, plan, tokenizer, plan.dataset)
    held_out, validation = None, None
    if plan.validation is not None:
        held_out, validation = tokenized_file(session, plan, tokenizer, plan.validation)
    artifacts.compare_counts(session, plan, data)

    def make(given: dict[str, Any]) -> SFTTrainer:
        trainer = make_trainer(plan, tokenizer, train_set, held_out, given)
        require_kept_apart(session, plan, trainer)
        return trainer

    outcome = loop.train(session, plan, make, partial(answered, held_out))
    artifact = artifacts.publish_result(session, plan, outcome.trainer, tokenizer)
    outcome.callback.write_page("succeeded")
    parts = artifacts.report_parts(session, plan, outcome, artifact, data, validation)
    accuracy = last_value(outcome.callback.rows, "mean_token_accuracy")
    return SftRunReport(**parts, token_accuracy=accuracy)


def answered(held_out: Dataset | None, _trainer: SFTTrainer) -> list[tuple[list[int], list[int]]]:
    """Return prompts and answers of the held-out examples, as tokens."""
    rows = [] if held_out is None else held_out.select(range(min(len(held_out), SAMPLED)))
    return [split_at_answer(row["input_ids"], row["labels"]) for row in rows]


def make_trainer(
    plan: SftPlan,
    tokenizer: Any,
    train_set: Dataset,
    held_out: Dataset | None,
    given: dict[str, Any],
) -> SFTTrainer:
    """Load the model and put TRL's trainer around it."""
    # Labels are made already; these two would have TRL look for columns that are gone.
    arguments = {k: v for k, v in given.items() if k != "completion_only_loss"}
    trainer = SFTTrainer(
        **loading.model_parts(plan, SFTConfig(**arguments)),
        train_dataset=train_set,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )
    loading.connect_engine(plan, trainer)
    if plan.engine == "torch":
        fused_head.fit(trainer.model)
    return trainer


def tokenized_file(
    session: Session, plan: SftPlan, tokenizer: Any, facts: DatasetFacts
) -> tuple[Dataset, DataReport]:
    """Tokenize a file and check that every sequence has something to learn.

    Raises:
        Refused: Nothing is left to learn, the answers do not end, or the template refuses one.
        Stopped: A cancel or a TERM arrived.
    """
    tally = Tally(cut_at(plan.training.get("max_length"), packing_of(plan.training)))
    for number, (line, example) in enumerate(read_examples(Path(facts.path))):
        if number % STOP_CHECK == 0:
            session.heartbeat()
            if session.should_stop:
                raise Stopped
        try:
            found = tokenize(plan, tokenizer, facts, example)
        except TemplateError:
            raise template_refuses(f"{facts.path}:{line}", example) from None
        for one in found:
            tally.add(one)
    report = tally.report(facts.num_examples)
    tally.require_learnable(facts.path, end_ids(tokenizer))
    say_what_is_trained(session, facts, report)
    kept = tally.kept
    columns = {"input_ids": [o.input_ids for o in kept], "labels": [o.labels for o in kept]}
    return Dataset.from_dict(columns), report


def tokenize(
    plan: SftPlan, tokenizer: Any, facts: DatasetFacts, example: Example
) -> list[Tokenized]:
    """Tokenize one example with the model's own template."""
    return tokenize_example(
        example,
        facts.format,
        render=partial(renderer, tokenizer),
        encode=lambda text: list(tokenizer(text)["input_ids"]),
        end=tokenizer.eos_token or "",
        loss_on=plan.loss_on,
    )


def renderer(tokenizer: Any, example: Example) -> Render:
    """Return the function that applies the chat template to an example's messages."""
    tools = tools_of(example)

    def render(messages: Messages, opens: bool) -> list[int]:
        ids = tokenizer.apply_chat_template(
            messages,
            tools=tools,
            add_generation_prompt=opens,
            tokenize=True,
            return_dict=False,
        )
        return list(ids)

    return render


def end_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the tokens that may end an answer: all special ones but the start."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    start = {tokenizer.bos_token_id} - {tokenizer.eos_token_id}
    return special - start


def say_what_is_trained(session: Session, facts: DatasetFacts, report: DataReport) -> None:
    """Record the counts; a reader sees them before the first step."""
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


if __name__ == "__main__":
    main(work)
