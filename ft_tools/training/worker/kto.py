"""Training on answers marked good or bad (KTO): `python -m ft_tools.training.worker.kto`."""

import random
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Json, Value
from jinja2 import TemplateError
from trl import KTOConfig, KTOTrainer

from ft_tools.examples.training_rows import DatasetFacts, read_examples, tools_of
from ft_tools.examples.worker import today
from ft_tools.runs.session import Session, main
from ft_tools.training.checks.learnable import count_marks, require_pairs, template_refuses
from ft_tools.training.counts import DataReport
from ft_tools.training.plan import KtoPlan
from ft_tools.training.report import KtoRunReport, last_value
from ft_tools.training.worker import artifacts, loading, loop

SAMPLED = 64
"""Held-out answers among which short prompts are looked for."""


def work(session: Session) -> KtoRunReport:
    """Train, publish, report."""
    plan = KtoPlan.model_validate_json(session.plan_json())
    session.phase("checking")
    today.hold(session.info.created_at)
    loading.check_inputs(plan)
    tokenizer = loading.load_tokenizer(plan)
    artifacts.write_lock(session, plan, tokenizer)
    train_set = marks(plan.dataset, plan.training["seed"])
    held_out = marks(plan.validation, plan.training["seed"]) if plan.validation else None
    make = partial(make_trainer, plan, tokenizer, train_set, held_out)
    outcome = loop.train(session, plan, make, answered)
    trainer = outcome.trainer
    data = counts(plan, trainer.train_dataset, plan.dataset)
    validation = counts(plan, trainer.eval_dataset, plan.validation) if plan.validation else None
    artifact = artifacts.publish_result(session, plan, trainer, tokenizer)
    outcome.callback.write_page("succeeded")
    rows = outcome.callback.rows
    return KtoRunReport(
        **artifacts.report_parts(session, plan, outcome, artifact, data, validation),
        reward_margin=last_value(rows, "rewards/margins"),
        validation_margin=last_value(rows, "eval_rewards/margins"),
        chosen_reward=last_value(rows, "rewards/chosen"),
    )


def make_trainer(
    plan: KtoPlan,
    tokenizer: Any,
    train_set: Dataset,
    held_out: Dataset | None,
    given: dict[str, Any],
) -> KTOTrainer:
    """Load the model and put TRL's trainer around it; it finds the reference by itself."""
    parts = loading.model_parts(plan, KTOConfig(**given))
    try:
        trainer = KTOTrainer(
            **parts, train_dataset=train_set, eval_dataset=held_out, processing_class=tokenizer
        )
    except TemplateError:
        raise template_refuses(f"a line of {plan.dataset.path}", train_set[0]) from None
    check_marks(plan, tokenizer, trainer.train_dataset)
    trainer.train_dataset = without_lonely_end(
        plan, trainer.train_dataset, given["per_device_train_batch_size"]
    )
    loading.connect_engine(plan, trainer)
    return trainer


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


def without_lonely_end(plan: KtoPlan, tokenized: Dataset, size: int) -> Dataset:
    """Leave out a last answer that would be compared with itself, in micro-batches of `size`."""
    is_lonely = plan.training["loss_type"] == "kto" and len(tokenized) % size == 1
    return tokenized.select(range(len(tokenized) - 1)) if is_lonely else tokenized


def check_marks(plan: KtoPlan, tokenizer: Any, tokenized: Dataset) -> None:
    """Refuse to train on nothing, or on answers that never end.

    Raises:
        Refused: With what to change.
    """
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    answers = [row["completion_ids"] for row in tokenized]
    require_pairs(plan.dataset.path, plan.training.get("max_length"), answers, special)


def counts(plan: KtoPlan, tokenized: Dataset, facts: DatasetFacts) -> DataReport:
    """Count what became of a file's answers."""
    lengths = [(len(row["prompt_ids"]), len(row["completion_ids"])) for row in tokenized]
    return count_marks(facts.num_examples, plan.training.get("max_length"), lengths)


def answered(trainer: KTOTrainer) -> list[tuple[list[int], list[int]]]:
    """Return prompts and answers of the held-out examples that are marked good, as tokens."""
    rows = trainer.eval_dataset
    rows = [] if rows is None else rows.select(range(min(len(rows), SAMPLED)))
    return [(row["prompt_ids"], row["completion_ids"]) for row in rows if row["label"]]


if __name__ == "__main__":
    main(work)
