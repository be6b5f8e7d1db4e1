"""Adapters over a 4-bit base train in float32: small steps move what they must."""

import pytest

from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.worker import dpo, sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    computing_in,
    conversations,
    pairs,
    prepared,
    weights_of,
    write_jsonl,
)

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),
    *LIBRARY_WARNINGS,
]
FOUND = {
    "accept_findings": ["validation_unwatched", "dpo_learning_rate", "too_few_examples"],
    "accept_reason": "a test",
}
SMALL = {"max_length": 32, "save_steps": 500, "lr_scheduler_type": "constant", "warmup_steps": 0}


def trained(work, request, name):
    """Train as on a card that computes in bfloat16; the adapter's weights."""
    return weights_of(work(computing_in("bfloat16", prepared(request, name))).artifact)


def test_200_small_steps_move_nearly_every_weight_of_an_adapter_over_4_bits(
    workspace, tiny_model_in
):
    write_jsonl(workspace / "rows.jsonl", pairs(8))

    def run(steps, rate):
        training = {**QUICK, **SMALL, "max_steps": steps, "learning_rate": rate}
        training.pop("bf16")
        training["per_device_train_batch_size"] = 2
        request = DpoRequest(
            model="tiny-llama", dataset="rows.jsonl", method="qlora", training=training,
            peft={"r": 4, "target_modules": ["q_proj", "down_proj"]}, **FOUND,
        )  # fmt: skip
        return trained(dpo.work, request, f"steps-{steps}")

    before, after = run(1, 1e-12), run(200, 5e-6)
    moved, changes = 0, []
    for name in (name for name in before if "lora_A" in name):
        change = (after[name].float() - before[name].float()).abs().flatten()
        changes += change.tolist()
        moved += int((change > 0).sum())
    assert moved / len(changes) > 0.99
    # 200 steps of 5e-6 are 1e-3 at most; bfloat16 made a tenth of what float32 does.
    assert sum(changes) / len(changes) > 2e-4


def test_preferences_over_4_bits_begin_exactly_at_the_adapter_they_go_on_from(
    workspace, tiny_model_in
):
    """TRL's cast to bfloat16 rounds the policy, and its reference not: they must be the same."""
    write_jsonl(workspace / "rows.jsonl", conversations(8))
    write_jsonl(workspace / "pairs.jsonl", pairs(8))
    training = {**QUICK, **SMALL, "max_steps": 4}
    training.pop("bf16")
    first = SftRequest(
        model="tiny-llama", dataset="rows.jsonl", method="qlora", training=training, **FOUND
    )
    session = prepared(first, "first")
    before = weights_of(sft.work(session).artifact)
    training |= {"max_steps": 1, "learning_rate": 1e-12}
    second = DpoRequest(
        sft_run=session.run_dir.name, dataset="pairs.jsonl", method="qlora", training=training,
        **FOUND,
    )  # fmt: skip
    after = trained(dpo.work, second, "second")
    assert max((after[name] - before[name]).abs().max() for name in before) < 1e-9
