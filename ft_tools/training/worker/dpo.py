"""Preference training (DPO): `python -m ft_tools.training.worker.dpo RUN_DIR`."""

from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Json, Value
from jinja2 import TemplateError
from trl import DPOConfig, DPOTrainer

from ft_tools.examples.training_rows import DatasetFacts, read_examples, tools_of
from ft_tools.examples.worker import today
from ft_tools.runs.session import Session, main
from ft_tools.training.checks.learnable import count_pairs, require_pairs, template_refuses
from ft_tools.training.counts import DataReport
from ft_tools.training.plan import DpoPlan
from ft_tools.training.report import DpoRunReport, last_value
from ft_tools.training.worker import artifacts, loading, loop

FIELDS = ("prompt", "chosen", "rejected")
SAMPLED = 64
"""Held-out pairs among which short prompts are looked for."""


def work(session: Session) -> DpoRunReport:
    """Train, publish, report."""
    plan = DpoPlan.model_validate_json(session.plan_json())
    session.phase("checking")
    today.hold(session.info.created_at)
    loading.check_inputs(plan)
    tokenizer = loading.load_tokenizer(plan)
    artifacts.write_lock(session, plan, tokenizer)
    train_set = pairs(plan.dataset)
    held_out = pairs(plan.validation) if plan.validation else None
    make = partial(make_trainer, plan, tokenizer, train_set, held_out)
    outcome = loop.train(session, plan, make, answered)
    trainer = outcome.trainer
    data = counts(plan, trainer.train_dataset, plan.dataset)
    validation = counts(plan, trainer.eval_dataset, plan.validation) if plan.validation else None
    artifacts.compare_counts(session, plan, data)
    artifact = artifacts.publish_result(session, plan, trainer, tokenizer)
    outcome.callback.write_page("succeeded")
    rows = outcome.callback.rows
    return DpoRunReport(
        **artifacts.report_parts(session, plan, outcome, artifact, data, validation),
        reward_accuracy=last_value(rows, "rewards/accuracies"),
        reward_margin=last_value(rows, "rewards/margins"),
        chosen_reward=last_value(rows, "rewards/chosen"),
    )


def make_trainer(
    plan: DpoPlan,
    tokenizer: Any,
    train_set: Dataset,
    held_out: Dataset | None,
    given: dict[str, Any],
) -> DPOTrainer:
    """Load the model and put TRL's trainer around it; it finds the reference by itself.

    A new adapter is its own reference when switched off; one that was trained before gets a frozen
    copy; for a full run TRL loads the model a second time.
    """
    parts = loading.model_parts(plan, DPOConfig(**given))
    try:
        trainer = DPOTrainer(
            **parts, train_dataset=train_set, eval_dataset=held_out, processing_class=tokenizer
        )
    except TemplateError:
        raise template_refuses(f"a line of {plan.dataset.path}", train_set[0]) from None
    check_pairs(plan, tokenizer, trainer.train_dataset)
    loading.connect_engine(plan, trainer)
    return trainer


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


def check_pairs(plan: DpoPlan, tokenizer: Any, tokenized: Dataset) -> None:
    """Refuse to train on nothing, or on answers that never end.

    Raises:
        Refused: With what to change.
    """
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    chosen = [row["chosen_ids"] for row in tokenized]
    require_pairs(plan.dataset.path, plan.training.get("max_length"), chosen, special)


def counts(plan: DpoPlan, tokenized: Dataset, facts: DatasetFacts) -> DataReport:
    """Count what became of a file's pairs."""
    lengths = [
        (len(row["prompt_ids"]), len(row[name]))
        for row in tokenized
        for name in ("chosen_ids", "rejected_ids")
    ]
    return count_pairs(facts.num_examples, plan.training.get("max_length"), lengths)


def answered(trainer: DPOTrainer) -> list[tuple[list[int], list[int]]]:
    """Return prompts and chosen answers of the held-out pairs, as tokens."""
    rows = trainer.eval_dataset
    rows = [] if rows is None else rows.select(range(min(len(rows), SAMPLED)))
    return [(row["prompt_ids"], row["chosen_ids"]) for row in rows]


if __name__ == "__main__":
    main(work)
