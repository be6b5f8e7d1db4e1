"""A run's prompts carry the day on which it was created, on whichever day they are written."""

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from ft_tools.training import samples
from ft_tools.training.worker import dpo, sft
from tests.tiny import evaluating
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    DpoRequest,
    SftRequest,
    conversations,
    pairs,
    prepared,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS, *evaluating.LIBRARY_WARNINGS]
DATED = """Today: {{ strftime_now('%d %b %Y') }}.
{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LONG_AGO = 86_400.0
THAT_DAY = "02 Jan 1970"


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    # Put back afterwards: workers have a process to themselves, these tests do not.
    monkeypatch.setattr(chat_template_utils, "datetime", chat_template_utils.datetime)


@pytest.fixture
def dated_model(workspace, tiny_model_in):
    folder = workspace / tiny_model_in
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = DATED
    tokenizer.save_pretrained(folder)
    return tiny_model_in


@pytest.mark.parametrize("worker", [sft, dpo])
def test_a_run_trains_on_the_day_of_its_creation(workspace, dated_model, worker):
    rows, make = (conversations, SftRequest) if worker is sft else (pairs, DpoRequest)
    write_jsonl(workspace / "train.jsonl", rows(24)[:18])
    write_jsonl(workspace / "held_out.jsonl", rows(24)[18:])
    request = make(
        model=dated_model,
        dataset="train.jsonl",
        validation="held_out.jsonl",
        training={**QUICK, "max_steps": 1},
        accept_findings=["dpo_learning_rate"],
        accept_reason="a test",
    )
    session = prepared(request, "dated")
    session.info = session.info.model_copy(update={"created_at": LONG_AGO})
    worker.work(session)
    prompts = [row["prompt"] for row in samples.read(session.run_dir) if "prompt" in row]
    assert prompts
    assert all(f"Today: {THAT_DAY}." in prompt for prompt in prompts)
