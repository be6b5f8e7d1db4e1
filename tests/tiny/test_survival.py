"""trainer_survival says of TRL what the TRL that is installed does."""

import json

import pytest
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from ft_tools.data.audit import perform
from ft_tools.data.request import AuditRequest

# TRL's own defaults warn about themselves.
pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]

MAX_LENGTH = 96
PAIRS = [(f"Where is parcel number {at}?", f"Parcel {at} is at depot {at % 5}.") for at in range(8)]
LONG = "Once more, and with all that belongs to it: " * 12


def chat(asks, answers, keys=("role", "content"), roles=("user", "assistant")):
    role, content = keys
    return [{role: roles[0], content: asks}, {role: roles[1], content: answers}]


SFT = {
    "messages": [{"messages": chat(*pair)} for pair in PAIRS],
    "prompt and completion": [{"prompt": a, "completion": b} for a, b in PAIRS],
    "cut off": [
        {"prompt": a if at % 4 else LONG + a, "completion": b} for at, (a, b) in enumerate(PAIRS)
    ],
    "text": [{"text": f"{a} {b}"} for a, b in PAIRS],
    "alpaca": [{"instruction": a, "input": "", "output": b} for a, b in PAIRS],
    "messages beside a prompt": [{"messages": chat(a, b), "prompt": a} for a, b in PAIRS],
    "conversations of roles": [{"conversations": chat(*pair)} for pair in PAIRS],
    "messages of from": [{"messages": chat(*pair, ("from", "value"))} for pair in PAIRS],
    "question and answer": [{"question": a, "answer": b} for a, b in PAIRS],
}
DPO = {
    "explicit": [{"prompt": a, "chosen": b, "rejected": "No idea."} for a, b in PAIRS],
    "conversations": [{"chosen": chat(a, b), "rejected": chat(a, "No idea.")} for a, b in PAIRS],
    "a text and conversations": [
        {"prompt": a, "chosen": chat(a, b), "rejected": chat(a, "No idea.")} for a, b in PAIRS
    ],
}


def arguments(kind, folder):
    return kind(
        output_dir=str(folder / "trl"), max_length=MAX_LENGTH, report_to=[], use_cpu=True,
        bf16=False, dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip


def of_trl(rows, model, folder, kinds=(SFTTrainer, SFTConfig)):
    """Return how many rows TRL trains on, and the first as it reads it; 0 if it refuses them."""
    trainer, config = kinds
    try:
        made = trainer(
            model=str(model), args=arguments(config, folder), train_dataset=Dataset.from_list(rows)
        )
    except (LookupError, ValueError, TypeError):
        return 0, ""
    kept = made.train_dataset
    ids = kept[0].get("input_ids") if len(kept) else None
    return len(kept), made.processing_class.decode(ids) if ids else ""


def of_ours(workspace, rows, **more):
    (workspace / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = perform(
        AuditRequest(path="d.jsonl", max_length=MAX_LENGTH, max_removed_fraction=1.0, **more)
    )
    return next(one for one in report.trainer_survival if one.trainer.startswith("TRL"))


@pytest.mark.faults
@pytest.mark.parametrize("name", SFT)
def test_trl_trains_on_as_many_examples_as_is_said(workspace, tiny_model, name):
    trained, _ = of_trl(SFT[name], tiny_model, workspace)
    assert of_ours(workspace, SFT[name]).trained == trained
    unread = ("alpaca", "question and answer", "messages beside a prompt")
    unread += ("conversations of roles", "messages of from")
    fewer = dict.fromkeys(unread, 0) | {"cut off": 6}
    assert trained == fewer.get(name, len(PAIRS))


@pytest.mark.faults
@pytest.mark.parametrize("name", DPO)
def test_trl_trains_on_as_many_pairs_as_is_said(workspace, tiny_model, name):
    trained, _ = of_trl(DPO[name], tiny_model, workspace, (DPOTrainer, DPOConfig))
    assert of_ours(workspace, DPO[name]).trained == trained
    assert trained == {"a text and conversations": 0}.get(name, len(PAIRS))


@pytest.mark.parametrize(
    ("column", "keys"), [("conversations", ("from", "value")), ("messages", ("role", "content"))]
)
def test_trl_keeps_the_role_names_of_sharegpt_and_so_none_is_as_it_should_be(
    workspace, tiny_model, column, keys
):
    rows = [{column: chat(*pair, keys, ("human", "gpt"))} for pair in PAIRS]
    trained, read = of_trl(rows, tiny_model, workspace)
    assert trained == len(rows)
    assert "<|im_start|>human" in read
    ours = of_ours(workspace, rows)
    assert (ours.trained, ours.not_trained) == (0, {"role_names_not_mapped": len(rows)})


def test_trl_takes_alpaca_pairs_without_what_is_asked_and_so_none_is_as_it_should_be(
    workspace, tiny_model
):
    rows = [{"instruction": a, "chosen": b, "rejected": "No idea."} for a, b in PAIRS]
    trained, _ = of_trl(rows, tiny_model, workspace, (DPOTrainer, DPOConfig))
    assert trained == len(rows)
    ours = of_ours(workspace, rows)
    assert (ours.trained, ours.not_trained) == (0, {"columns_not_read": len(rows)})
