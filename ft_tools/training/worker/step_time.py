"""Time a step of a plan's class, in small."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig
from trl.trainer.utils import add_fused_lm_head

from ft_tools.models.worker.loading import model_class, repeat_heads_on_old_cards, use_kept_kernel
from ft_tools.training.preflight import StepQuestion, StepTime
from ft_tools.training.worker import loading

WHOLE_PARAMS = 200_000_000
"""A model of no more is timed whole: that takes no longer than several parts of it."""
GROWTH = 4
"""Blocks of a model over those of the one before, of which the first has one."""
PLAIN = 1.5
"""More blocks over one, in time, from which on what they add is no noise."""
REPEATS = 2
ENOUGH_SECONDS = 5.0
"""After these a work is not repeated: a slow processor has no time for it."""
SAVED_BYTES = 2**28
PER_BLOCK = ("layer_types", "mlp_layer_types", "no_rope_layers")


def measure(question: StepQuestion) -> StepTime:
    """Return what a step takes: a small model's whole, a larger one's by what more blocks take.

    Blocks are added until they show: the output layer may outweigh a few, whose share would be
    lost in how much the times of a processor vary.
    """
    config = AutoConfig.from_pretrained(question.config, trust_remote_code=False)
    number = config.get_text_config().num_hidden_layers
    is_small = question.num_params is not None and question.num_params <= WHOLE_PARAMS
    blocks = number if is_small else 1
    few = more = _timed(question, blocks)
    while blocks < number and more[0] < PLAIN * few[0]:
        blocks = min(number, GROWTH * blocks)
        more = _timed(question, blocks)
    # Other programs leave this one a part of the processor.
    tokens = question.rows * question.length * (1 + question.load)
    train, forward, optimizer = (
        max(low, high + (high - low) / max(1, blocks - 1) * (number - blocks))
        for low, high in zip(few, more, strict=True)
    )
    optimizer /= 1 + question.load
    save = 0.0 if question.folder is None else _save_seconds(question.folder)
    return StepTime(train=train / tokens, forward=forward / tokens, optimizer=optimizer, save=save)


def _save_seconds(folder: str) -> float:
    """Return the seconds that a byte of a checkpoint takes to write in a folder."""
    written = torch.ones(SAVED_BYTES, dtype=torch.uint8)
    with tempfile.TemporaryFile(dir=folder) as file:
        began = time.perf_counter()
        torch.save(written, file)
        os.fsync(file.fileno())
        return (time.perf_counter() - began) / SAVED_BYTES


def _timed(question: StepQuestion, blocks: int) -> tuple[float, float, float]:
    """Return the seconds of forward and backward, of forward, and of the optimizer."""
    model = _model(question, blocks)
    ids = torch.randint(8, 256, (question.rows, question.length), device=question.device)
    labels = ids.clone()
    labels[:, : round(question.length * (1 - question.trained_fraction))] = -100
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)

    def loss() -> Any:
        with _autocast(question):
            output = model(input_ids=ids, labels=labels, fused_lm_head=True)
        return -output.log_probs.mean()

    def evaluate() -> None:
        with torch.no_grad():
            loss()

    train = _fastest(lambda: loss().backward())
    return train, _fastest(evaluate), _fastest(optimizer.step)


def _model(question: StepQuestion, blocks: int) -> Any:
    config = AutoConfig.from_pretrained(question.config, trust_remote_code=False)
    text = config.get_text_config()
    text.num_hidden_layers = blocks
    for name in PER_BLOCK:
        if getattr(text, name, None):
            setattr(text, name, getattr(text, name)[:blocks])
    # A quantized base computes in 16 bits what it holds in 4.
    dtype = getattr(torch, question.dtype, torch.bfloat16)
    loads = model_class(config)
    repeat_heads_on_old_cards()
    use_kept_kernel(question.init.get("attn_implementation", ""))
    # Random weights are made where they are needed: for a GPU a processor would take long.
    with torch.device(question.device):
        model = loads.from_config(config, dtype=dtype, **question.init).to(question.device)
    model.config.use_cache = False
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if question.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if question.peft is not None:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **question.peft))
    loading.fit_fused_head(model)
    return model.train()


def _autocast(question: StepQuestion) -> AbstractContextManager[Any]:
    if question.precision == "float32":
        return nullcontext()
    return torch.autocast(question.device, dtype=getattr(torch, question.precision))


def _fastest(work: Callable[[], Any]) -> float:
    """Return the seconds of a work, of several times the fastest.

    The first time warms up, and counts only where it takes so long that this is a small part.
    """
    times: list[float] = []
    while len(times) <= REPEATS and sum(times) < ENOUGH_SECONDS:
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[1:] or times)
