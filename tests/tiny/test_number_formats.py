"""The numbers that weights are trained in: float32, where 16 bits would fail or learn nothing."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners import lora
from transformers import AutoModelForCausalLM

from ft_tools.models.worker.loading import NO_HUB_KERNELS
from ft_tools.training import micro_batches
from ft_tools.training.request import SftRequest
from ft_tools.training.worker import loading, sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    computing_in,
    conversations,
    prepared,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
SHAPE = {"r": 4, "modules_to_save": ["norm"]}


def trainer_of(workspace, model, precision, **changed):
    """Build a trainer as the run on such a device does, and its plan; nothing is trained."""
    asked = {
        "model": model,
        "dataset": write_jsonl(workspace / "train.jsonl", conversations(8)),
        "training": {**QUICK, "model_init_kwargs": {"dtype": "float16"}},
        "backend_options": {"device": "cpu"},
    }
    session = computing_in(precision, prepared(SftRequest(**asked | changed), "numbers"))
    training = sft.Supervised(session)
    plan = training.plan
    training.tokenizer, training.held_out = loading.load_tokenizer(plan), None
    training.train_set = training.read(plan.dataset)
    given = loading.run_arguments(session, plan, micro_batches.of_run(session.run_dir, plan))
    # A scaler of float16 needs a GPU; the weights are the same without it.
    given |= {"fp16": False, "bf16": False}
    return training.make_trainer(given), plan


def formats(model):
    return {str(weight.dtype) for weight in model.parameters() if weight.requires_grad}


def unscale(model):
    """Do what the gradient scaler of float16 does before a step."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.grad = torch.zeros_like(weight)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.tensor(1.0))
    scaler.unscale_(torch.optim.SGD(trained, lr=0.1))


def test_saved_modules_of_a_16_bit_base_are_trained_in_float32(workspace, tiny_model_in):
    trainer, plan = trainer_of(workspace, tiny_model_in, "float16", peft=SHAPE)
    # The negative control: as the libraries leave it, the scaler refuses the first step.
    assert "torch.float16" in formats(trainer.model)
    with pytest.raises(ValueError, match="unscale FP16 gradients"):
        unscale(trainer.model)
    loading.train_in_float32(plan, trainer.model)
    assert formats(trainer.model) == {"torch.float32"}
    unscale(trainer.model)
    frozen = {str(w.dtype) for w in trainer.model.parameters() if not w.requires_grad}
    assert frozen == {"torch.float16"}


def test_inputs_of_adapters_are_not_copied_in_float32_and_the_gradients_are_the_same_bits(
    workspace, tiny_model_in
):
    trainer, plan = trainer_of(workspace, tiny_model_in, "bfloat16", training=QUICK)
    loading.train_in_float32(plan, trainer.model)
    layers = [one for one in trainer.model.modules() if type(one) is lora.Linear]
    assert layers
    assert not any(one.cast_input_dtype_enabled for one in layers)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
    found = []
    for is_cast in (False, True):
        for layer in layers:
            layer.cast_input_dtype_enabled = is_cast
        trainer.model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            trainer.model(input_ids=batch["input_ids"], labels=batch["labels"]).loss.backward()
        found.append([w.grad for w in trainer.model.parameters() if w.grad is not None])
    assert all(torch.equal(*two) for two in zip(*found, strict=True))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_adapter_of_a_4_bit_base_is_trained_in_float32(workspace, tiny_model_in, precision):
    trainer, plan = trainer_of(workspace, tiny_model_in, precision, method="qlora", training=QUICK)
    assert formats(trainer.model) == {"torch.bfloat16"}
    loading.train_in_float32(plan, trainer.model)
    assert formats(trainer.model) == {"torch.float32"}


def test_a_rank_that_gets_its_parts_from_the_first_has_an_address_for_each_trained_weight(
    workspace, tiny_model_in
):
    """accelerate's FSDP finds the optimizer's weights by their addresses."""
    _, plan = trainer_of(workspace, tiny_model_in, "bfloat16", training=QUICK)
    adapted, whole = (
        AutoModelForCausalLM.from_pretrained(
            plan.model.load_from, device_map={"": "meta"}, **NO_HUB_KERNELS
        )
        for _ in range(2)
    )
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    adapted = get_peft_model(adapted, adapter)
    for model, method in ((adapted, "lora"), (whole, "full")):
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        assert {weight.data_ptr() for weight in trained} == {0}
        loading.train_in_float32(plan.model_copy(update={"method": method}), model)
        assert [id(w) for w in model.parameters() if w.requires_grad] == [*map(id, trained)]
        assert len({weight.data_ptr() for weight in trained} - {0}) == len(trained) > 4
    frozen = {str(w.device) for w in adapted.parameters() if not w.requires_grad}
    assert frozen == {"meta"}
