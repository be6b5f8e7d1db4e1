"""Preference training (DPO): `python -m ft_tools.workers.dpo RUN_DIR`."""

from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from ft_tools.errors import Refused
from ft_tools.runs.session import Session, main
from ft_tools.training.examples import DatasetFacts, read_examples
from ft_tools.training.plan import DpoPlan
from ft_tools.training.reports import DataReport, DpoRunReport, last_value
from ft_tools.workers import training

FIELDS = ("prompt", "chosen", "rejected")


def work(session: Session) -> DpoRunReport:
    """Train, publish, report."""
    plan = DpoPlan.model_validate_json(session.plan_json())
    session.phase("checking")
    training.check_inputs(plan)
    tokenizer = training.load_tokenizer(plan)
    training.write_lock(session, plan, tokenizer)
    train_set = pairs(plan.dataset)
    held_out = pairs(plan.validation) if plan.validation else None
    make = partial(make_trainer, plan, tokenizer, train_set, held_out)
    outcome = training.train(session, plan, make)
    trainer = outcome.trainer
    data = counts(plan, trainer.train_dataset, plan.dataset)
    validation = counts(plan, trainer.eval_dataset, plan.validation) if plan.validation else None
    artifact = training.publish_result(session, plan, trainer, tokenizer)
    outcome.callback.write_page("succeeded")
    rows = outcome.callback.rows
    return DpoRunReport(
        **training.report_parts(session, plan, outcome, artifact, data, validation),
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
    trainer = DPOTrainer(
        model=training.load_model(plan),
        args=DPOConfig(**given),
        train_dataset=train_set,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )
    check_pairs(plan, tokenizer, trainer.train_dataset)
    return trainer


def pairs(facts: DatasetFacts) -> Dataset:
    """Read a file of pairs as TRL takes them."""
    rows = [row for _, row in read_examples(Path(facts.path))]
    names = [name for name in (*FIELDS, "tools") if any(name in row for row in rows)]
    if facts.format == "pairs_messages_implicit":
        rows = [with_prompt(row) for row in rows]
        names = [*FIELDS, *(name for name in names if name not in FIELDS)]
    return Dataset.from_list([{name: row.get(name) for name in names} for row in rows])


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
    if len(tokenized) == 0:
        raise Refused(
            f"every prompt of {plan.dataset.path} fills max_length="
            f"{plan.training.get('max_length')}; raise it, or shorten the prompts"
        )
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    if not any(special.intersection(row["chosen_ids"][-4:]) for row in tokenized):
        raise Refused(
            f"no chosen answer of {plan.dataset.path} ends with one of the tokenizer's end tokens; "
            "use the model's own chat template"
        )


def counts(plan: DpoPlan, tokenized: Dataset, facts: DatasetFacts) -> DataReport:
    """Count what became of a file's pairs."""
    limit = plan.training.get("max_length") or float("inf")
    lengths = [
        (len(row["prompt_ids"]), len(row[name]))
        for row in tokenized
        for name in ("chosen_ids", "rejected_ids")
    ]
    return DataReport(
        num_examples=facts.num_examples,
        num_sequences=2 * facts.num_examples,
        num_truncated=sum(prompt + answer > limit for prompt, answer in lengths),
        num_dropped=2 * facts.num_examples - len(lengths),
        num_tokens=int(sum(min(prompt + answer, limit) for prompt, answer in lengths)),
        num_trained_tokens=int(sum(min(answer, limit - prompt) for prompt, answer in lengths)),
    )


if __name__ == "__main__":
    main(work)
