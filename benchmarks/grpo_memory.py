"""Compare what estimate_vram says of a GRPO step with a trace of the real classes.

    python -m benchmarks.grpo_memory [--output benchmarks/grpo_memory.json] [--model NAME ...]

Three families at their real size and depth, with LoRA and with QLoRA, in three shapes of prompts
and answers: transformers' own `generate` writes the answers with its cache (the prompts' pass, and
the last two tokens with the cache filled up to there), then a micro-batch of them runs forward,
through TRL's loss head, and backward, then AdamW. SDPA with a padding mask, as launch_grpo trains.
On fake tensors: no GPU and no weights. What a kernel allocates inside itself is not seen, and is
stood in for from its source where it is large. A row takes half a minute.
"""

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig
from transformers.generation import utils as generation
from transformers.utils import logging
from trl.trainer.utils import add_fused_lm_head

from benchmarks.step_trace import STAND_INS, by_formula, step, whole_of, without_workspace
from ft_tools import facts
from ft_tools.memory.phases import phases
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.setup import Setup
from ft_tools.memory.traced import options_of
from ft_tools.memory.worker.imitated_kernels import gpu_kernels
from ft_tools.memory.worker.trace import Live, build_model, give_storage
from ft_tools.models.shape_of_model import shape_of

MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-4B", "google/gemma-3-1b-pt")
SHAPES = (
    {"prompt_len": 256, "seq_len": 768, "generated": 64, "micro_batch": 8},
    {"prompt_len": 512, "seq_len": 2560, "generated": 64, "micro_batch": 1},
    {"prompt_len": 1536, "seq_len": 1792, "generated": 32, "micro_batch": 4},
)
PROMISED = 0.08
LIBRARIES = ("torch", "transformers", "peft", "trl")


class Undecided(Live):
    """Counts as `Live`, and says no where `generate` asks what is in a tensor without data."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count what it made."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0
        return super().__torch_dispatch__(func, types, args, kwargs)


class MaskedAttention(torch.autograd.Function):
    """SDPA's memory-efficient kernel: it keeps its inputs, its output, a log-sum and the mask.

    A boolean mask becomes one in the queries' numbers first. Source: PyTorch 2.13,
    aten/src/ATen/native/transformers/attention.cpp, convert_boolean_attn_mask.
    """

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Make what the kernel makes."""
        numbers = None if mask is None else torch.empty_like(mask, dtype=q.dtype)
        out = q.new_empty(q.transpose(1, 2).shape).transpose(1, 2)
        log_sum = q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, log_sum, numbers)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Make the gradients."""
        q, k, v, *_ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    **_: Any,
) -> torch.Tensor:
    out: torch.Tensor = MaskedAttention.apply(q, k, v, attn_mask)  # type: ignore[no-untyped-call]
    return out


def _multinomial(probs: torch.Tensor, num_samples: int) -> torch.Tensor:
    """Sample as PyTorch does. Source: 2.13, aten/src/ATen/native/Distributions.cpp."""
    assert num_samples == 1
    noise = torch.empty_like(probs).exponential_(1)
    return torch.div(probs, noise, out=noise).argmax(dim=-1, keepdim=True)


def trace(config: dict[str, Any], setup: Setup) -> dict[str, int]:
    """Trace the answers of a step and the step on a micro-batch of them.

    Returns:
        Phase -> bytes, what stays from step to step included.
    """
    with ExitStack() as stack:
        stack.enter_context(gpu_kernels())
        for owner, name, stand_in in STAND_INS:
            stack.enter_context(patch.object(owner, name, stand_in))
        stack.enter_context(patch.object(functional, "scaled_dot_product_attention", _attend))
        stack.enter_context(patch.object(torch, "multinomial", _multinomial))
        with torch.device("meta"):
            model, _ = build_model(config, options_of(setup))
        whole = whole_of(model)
        whole.set_attn_implementation("sdpa")
        add_fused_lm_head(whole, outputs=("log_probs", "entropy"))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        live = stack.enter_context(Undecided())
        give_storage(model, live)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=True)
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        # Makes its states.
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with outside_autocast(model):
            prompts = setup.prompt_len
            written = {
                "prefill": _write(whole, live, setup, prompts, 0),
                "generation": _write(whole, live, setup, setup.seq_len - 2, setup.seq_len - 3),
            }
        ids = torch.zeros((setup.sequences, setup.seq_len), dtype=torch.long)
        return written | step(model, optimizer, ids, setup, live, torch.ones_like(ids))


@contextmanager
def outside_autocast(model: nn.Module) -> Iterator[None]:
    """Let adapters cast their inputs, as PEFT's layers over bitsandbytes' do without autocast."""
    layers = [one for one in model.modules() if isinstance(one, LoraLayer)]
    before = [one.cast_input_dtype_enabled for one in layers]
    for one in layers:
        one.cast_input_dtype_enabled = True
    yield
    for one, was in zip(layers, before, strict=True):
        one.cast_input_dtype_enabled = was


def _write(whole: Any, live: Live, setup: Setup, length: int, cached: int) -> int:
    """Return the peak of writing two tokens after so many, of which some are in the cache."""
    count, ends_at = setup.generated, length + 2
    was_checkpointing = whole.is_gradient_checkpointing
    whole.gradient_checkpointing_disable()
    cache = DynamicCache(config=whole.config)
    text = whole.config.get_text_config(decoder=True)
    heads = text.num_key_value_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    for layer in range(text.num_hidden_layers if cached else 0):
        shape = (count, heads, cached, width)
        cache.update(
            torch.empty(shape, dtype=whole.dtype), torch.empty(shape, dtype=whole.dtype), layer
        )
        one = cache.layers[layer]
        # A view of a window would keep what is before it.
        one.keys, one.values = one.keys.clone(), one.values.clone()
    ids = torch.zeros((count, length), dtype=torch.long)
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        max_new_tokens=2, pad_token_id=0, eos_token_id=1, use_cache=True,
    )  # fmt: skip
    live.restart()
    # Whether all have ended is a number that fake tensors do not have.
    with (
        torch.no_grad(),
        patch.object(generation.StopCheck, "__call__", lambda _, __, ___, at: at >= ends_at),
    ):
        whole.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            cache=cache,
            generation_config=settings,
        )
    peak = live.peak
    if was_checkpointing:
        whole.gradient_checkpointing_enable({"use_reentrant": False})
    return peak


def compare(model: str, method: str, sizes: dict[str, int]) -> dict[str, Any]:
    """Trace one way to train, and return how far the estimate is from it."""
    shape = shape_of(model)
    request = VramRequest(
        model=model, task="grpo", method=method, lora_rank=16, padded_batches=True, **sizes
    )
    setup = without_workspace(setup_of(request, shape))
    began = time.monotonic()
    traced = trace(dict(facts.model(model).config), setup)
    found = {name: sum(parts.values()) for name, parts in phases(setup).phases.items()}
    estimated = by_formula(setup) | {name: found[name] for name in ("prefill", "generation")}
    return {
        "model": model,
        "method": method,
        **sizes,
        "traced_gib": {name: round(size / 2**30, 4) for name, size in traced.items()},
        "difference": round(max(estimated.values()) / max(traced.values()) - 1, 4),
        "phases": {name: round(estimated[name] / size - 1, 4) for name, size in traced.items()},
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    """Compare every model in every way; print the rows, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="one of the catalog; default: three")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/grpo_memory.json"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    rows = []
    models = arguments.model or MODELS
    for model, method, sizes in itertools.product(models, ("lora", "qlora"), SHAPES):
        row = compare(model, method, sizes)
        rows.append(row)
        print(json.dumps(row), flush=True)
    apart = [abs(row["difference"]) for row in rows]
    of_phases = [abs(part) for row in rows for part in row["phases"].values()]
    written = {
        "mean": statistics.mean(apart),
        "worst": max(apart),
        "worst_of_a_phase": max(of_phases),
        "rows": [{k: v for k, v in row.items() if k != "seconds"} for row in rows],
        "versions": {library: version(library) for library in LIBRARIES},
        "machine": platform.machine(),
    }
    arguments.output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"mean {statistics.mean(apart):.2%}, worst {max(apart):.2%}")
    return 1 if max(apart) > PROMISED else 0


if __name__ == "__main__":
    sys.exit(main())
