"""Trace a whole training step: real classes, PEFT, loss and AdamW on fake tensors.

It shares no formula with `ft_tools.memory`, and is the referee where no published measurement is.
"""

import gc
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from peft import PeftModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from trl.kernels import chunked_logprob
from trl.trainer import utils as trl_utils
from trl.trainer.utils import add_fused_lm_head

from ft_tools.memory.phases import phases
from ft_tools.memory.setup import Setup
from ft_tools.memory.traced import options_of
from ft_tools.memory.worker.imitated_kernels import gpu_kernels
from ft_tools.memory.worker.trace import Live, autocast, build_model, give_storage
from ft_tools.models.worker.build import text_path

# What TRL's SFT trainer asks of its loss.
TRL_OUTPUTS = ("log_probs", "entropy", "is_top1")
# Every block is alike, so that two depths tell what one more block adds.
DEPTHS = (2, 4)


class _Compacted:
    """TRL's loss over the positions that count, which it copies out of the hidden state."""

    @staticmethod
    def apply(hidden: torch.Tensor, *rest: Any) -> Any:
        return chunked_logprob.ChunkedLogProbFunction.apply(hidden.clone(), *rest)


def _in_place(*_: Any, **__: Any) -> None:
    """Stand for a kernel that changes its arguments and makes no tensor."""


STAND_INS: tuple[tuple[Any, str, Any], ...] = (
    (chunked_logprob, "_forward_tile", _in_place),
    (chunked_logprob, "_backward_tile", _in_place),
    (chunked_logprob, "_addmm_fp32", _in_place),
    (trl_utils, "_ChunkedLogProbFunction", _Compacted),
)


def with_layers(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return the config of the same model with fewer blocks; towers stay as they are."""
    shallow = dict(config)
    inner = config.get("text_config")
    if isinstance(inner, Mapping) and inner.get("model_type"):
        return shallow | {"text_config": with_layers(inner, depth)}
    shallow["n_layer" if "n_layer" in config else "num_hidden_layers"] = depth
    if config.get("layer_types"):
        shallow["layer_types"] = list(config["layer_types"])[:depth]
    return shallow


def without_workspace(setup: Setup) -> Setup:
    """Return the setup that the formulas are to answer: a trace has no cuBLAS workspaces."""
    return replace(setup, workspace_bytes=0)


def by_formula(setup: Setup) -> dict[str, float]:
    """Return the formulas' phases under the trace's names."""
    sizes = {name: sum(parts.values()) for name, parts in phases(setup).phases.items()}
    return {
        "loss": sizes["loss"],
        "backward": max(sizes["backward_top"], sizes["backward_bottom"]),
        "optimizer": sizes["optimizer"],
    }


def at_depth(
    shallow: Mapping[str, int], deep: Mapping[str, int], num_layers: int
) -> dict[str, float]:
    """Extrapolate the phases of two traced depths to the model's own.

    >>> at_depth({"loss": 30}, {"loss": 50}, num_layers=32)
    {'loss': 330.0}
    """
    span = DEPTHS[1] - DEPTHS[0]
    return {
        name: deep[name] + (deep[name] - shallow[name]) / span * (num_layers - DEPTHS[1])
        for name in deep
    }


def trace_step(config: dict[str, Any], setup: Setup) -> dict[str, int]:
    """Trace one training step, after one that made the optimizer's states.

    Args:
        config: Keys of config.json, with as many layers as are to be traced.
        setup: How the step is run.

    Returns:
        Phase -> bytes: `loss`, `backward` and `optimizer`, resident states included.
    """
    with ExitStack() as stack:
        stack.enter_context(gpu_kernels())
        for owner, name, stand_in in STAND_INS:
            stack.enter_context(patch.object(owner, name, stand_in))
        with torch.device("meta"):
            model, _ = build_model(config, options_of(setup))
        if setup.head == "trl_fused":
            add_fused_lm_head(whole_of(model), outputs=TRL_OUTPUTS)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        live = stack.enter_context(Live())
        give_storage(model, live)
        trained = [p for p in model.parameters() if p.requires_grad]
        foreach = setup.optimizer == "adamw_torch"
        optimizer = torch.optim.AdamW(trained, foreach=foreach, fused=not foreach)
        ids = torch.zeros((setup.sequences, setup.seq_len), dtype=torch.long)
        step(model, optimizer, ids, setup, live)
        gc.collect()
        return step(model, optimizer, ids, setup, live)


def whole_of(model: nn.Module) -> Any:
    """Return the model inside its adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ids: torch.Tensor,
    setup: Setup,
    live: Live,
    mask: torch.Tensor | None = None,
) -> dict[str, int]:
    """Run forward, backward and optimizer, and note the peak of each phase."""
    peaks: dict[str, int] = {}
    final_hidden: list[torch.Tensor] = []
    whole = whole_of(model)
    watch = whole.get_submodule(text_path(whole)).register_forward_hook(
        lambda _, __, output: final_hidden.append(output[0])
    )
    live.restart()
    with autocast(setup.autocast):
        fused = {"fused_lm_head": True} if setup.head == "trl_fused" else {"use_cache": False}
        outputs = [model(input_ids=ids, attention_mask=mask, labels=ids, **fused)]
        is_fused = setup.head == "trl_fused"
        loss = -outputs[0].log_probs.sum() / ids.numel() if is_fused else outputs[0].loss
    watch.remove()

    def head_done(_: torch.Tensor) -> None:
        peaks["loss"] = live.peak
        for output in outputs:
            if "logits" in output:
                # A model output is a dictionary too, which setting an attribute leaves alone.
                output.logits = None
                OrderedDict.__setitem__(output, "logits", None)
        live.restart()

    noted = final_hidden.pop().register_hook(head_done)  # type: ignore[no-untyped-call]
    loss.backward()
    # The hook and the output hold each other, and so the embedding's output and its gradient.
    noted.remove()
    outputs.clear()
    del loss
    peaks["backward"] = live.peak
    live.restart()
    optimizer.step()
    peaks["optimizer"] = live.peak
    optimizer.zero_grad(set_to_none=True)
    return peaks
