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
MAX_LENGTH, COUNT = 96, 8
LONG = "Once more, and with all that belongs to it: " * 12


def chat(asks, answers, keys=("role", "content"), roles=("user", "assistant")):
    said = zip(roles, (asks, answers), strict=True)
    return [dict(zip(keys, one, strict=True)) for one in said]


SHARE, HUMAN = ("from", "value"), ("human", "gpt")
FORMS = {
    # Name: a row of what is asked and answered; rows that TRL takes; those it trains as they should
    "messages": (lambda a, b: {"messages": chat(a, b)}, COUNT, COUNT),
    "completion": (lambda a, b: {"prompt": a, "completion": b}, COUNT, COUNT),
    "cut off": (lambda a, b: {"prompt": LONG + a, "completion": b}, 0, 0),
    "text": (lambda a, b: {"text": f"{a} {b}"}, COUNT, COUNT),
    "alpaca": (lambda a, b: {"instruction": a, "input": "", "output": b}, 0, 0),
    "beside a prompt": (lambda a, b: {"messages": chat(a, b), "prompt": a}, 0, 0),
    "roles": (lambda a, b: {"conversations": chat(a, b)}, 0, 0),
    "from": (lambda a, b: {"messages": chat(a, b, SHARE)}, 0, 0),
    "sharegpt": (lambda a, b: {"conversations": chat(a, b, SHARE, HUMAN)}, COUNT, 0),
    "explicit": (lambda a, b: {"prompt": a, "chosen": b, "rejected": "No."}, COUNT, COUNT),
    "pairs": (lambda a, b: {"chosen": chat(a, b), "rejected": chat(a, "No.")}, COUNT, COUNT),
    "mixed": (
        lambda a, b: {"prompt": a, "chosen": chat(a, b), "rejected": chat(a, "No.")}, 0, 0
    ),
    "alpaca pairs": (lambda a, b: {"instruction": a, "chosen": b, "rejected": "No."}, COUNT, 0),
}  # fmt: skip


def taken_by_trl(rows, model, folder):
    """Return how many rows the installed TRL keeps; 0 where it refuses them."""
    trainer, config = (DPOTrainer, DPOConfig) if "chosen" in rows[0] else (SFTTrainer, SFTConfig)
    arguments = config(
        output_dir=str(folder / "trl"), max_length=MAX_LENGTH, report_to=[], use_cpu=True,
        bf16=False, dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    try:
        made = trainer(model=str(model), args=arguments, train_dataset=Dataset.from_list(rows))
    except (AttributeError, LookupError, ValueError, TypeError):
        return 0
    return len(made.train_dataset)


@pytest.mark.parametrize("name", FORMS)
def test_trl_trains_on_as_many_rows_as_is_reported(workspace, tiny_model, name):
    form, taken, trained = FORMS[name]
    rows = [form(f"Where is parcel {at}?", f"Parcel {at} is at {at % 5}.") for at in range(COUNT)]
    (workspace / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = AuditRequest(path="d.jsonl", max_length=MAX_LENGTH, max_removed_fraction=1.0)
    found = {one.trainer: one for one in perform(request).trainer_survival}
    assert found["TRL 1.16"].trained == trained
    assert sum(found["TRL 1.16"].not_trained.values()) == COUNT - trained
    assert taken_by_trl(rows, tiny_model, workspace) == taken
