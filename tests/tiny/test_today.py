"""A run's prompts carry the day on which it was created, on whichever day they are written."""

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.worker import dpo, sft
from tests.tiny import evaluating
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
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


@pytest.mark.parametrize("kind", [sft.Supervised, dpo.Pairs])
def test_a_run_trains_on_the_day_of_its_creation(workspace, dated_model, kind):
    rows, make = (conversations, SftRequest) if kind is sft.Supervised else (pairs, DpoRequest)
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
    run, rows = worker_of(kind)(session), "input_ids" if kind is sft.Supervised else "prompt_ids"
    run.work()
    prompts = [run.tokenizer.decode(ids) for ids in run.tokenized[rows]]
    assert prompts
    assert all(f"Today: {THAT_DAY}." in prompt for prompt in prompts)


def worker_of(kind):
    """Return a worker that keeps what its trainer has tokenized."""

    class Keeping(kind):
        def require_ready(self, trainer):
            super().require_ready(trainer)
            self.tokenized = trainer.train_dataset

    return Keeping
