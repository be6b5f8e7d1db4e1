"""Measure what a model's activations take by tracing its text model on fake tensors.

Weights, states and gradients are none of it: only what one forward and backward pass adds. The loss
head is left out; its formula is in `ft_tools/memory/loss_head.py`, and what a class does to its
logits beside that is measured here. One block of each kind is traced, and what it saves counted as
often as the model has it; all blocks where the model does not run so.
"""

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ft_tools.memory.traced_activations import Options
from ft_tools.memory.worker.imitated_kernels import gpu_kernels
from ft_tools.memory.worker.live_tensors import Live
from ft_tools.memory.worker.trace import autocast, build_model, give_storage
from ft_tools.models.worker.answering_parent import serve
from ft_tools.models.worker.build import stack_of, text_path
from ft_tools.models.worker.describe import kinds_of

# Tokens. A scan without its kernel is a loop over tokens: seconds for some hundreds of them.
PROBES = (8, 32)
MOST_SECONDS = 10.0


def profile(question: dict[str, Any]) -> dict[str, Any]:
    """Trace one sequence at each of some lengths.

    Args:
        question: `config`, `options` (of `Options`) and `lengths`, in tokens; `whole` where every
            block is to be traced.

    Returns:
        `points`: per length the bytes that the blocks save, and that they need at most in the
        forward pass, in the backward pass, and in that of the first block; `eager`, whether
        attention builds all scores; and `kept_logits`, the bytes per logit that the class keeps
        beside the output layer's own, because it caps or converts them; None where its logits
        cannot be traced.
    """
    if question.get("whole"):
        return _profile(question, shortened=False)
    try:
        return _profile(question, shortened=True)
    except Exception:  # whose blocks need one another, or are counted elsewhere
        gc.collect()
        return _profile(question, shortened=False)


def _profile(question: dict[str, Any], *, shortened: bool) -> dict[str, Any]:
    options = Options(**question["options"])
    with gpu_kernels(), torch.device("meta"):
        model, eager = build_model(question["config"], options)
    whole: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    text = whole.get_submodule(text_path(whole))
    path, blocks = stack_of(whole)
    config: Any = whole.config
    counts = [1] * len(blocks)
    if shortened and blocks:
        kept, counts = _one_of_each(blocks)
        blocks = [blocks[index] for index in kept]
        parent, _, name = path.rpartition(".")
        setattr(whole.get_submodule(parent), name, nn.ModuleList(blocks))
        config.get_text_config(decoder=True).num_hidden_layers = len(blocks)
        _renumber(text, kept)
    points = []
    with FakeTensorMode(allow_non_fake_inputs=True), gpu_kernels(), Live() as live:
        give_storage(model, live)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_drop)  # type: ignore[no-untyped-call]

        def run(length: int) -> dict[str, int]:
            point = _Pass(blocks, counts, live, options).run(text, length)
            gc.collect()
            return point

        points = [run(length) for length in _affordable(question["lengths"], run)]
        kept_logits = _kept_logits(whole, live, options)
    return {
        "points": points,
        "eager": eager,
        "num_traced": len(blocks),
        "kept_logits": kept_logits,
    }


def _kept_logits(whole: Any, live: Live, options: Options) -> float | None:
    """Return the bytes per logit that are kept from the output layer to the end of the model."""
    head = whole.get_output_embeddings()
    if head is None:
        return None
    noted: list[tuple[int, int]] = []
    hook = head.register_forward_hook(lambda _, __, out: noted.append((live.now, out.numel())))
    ids = torch.zeros((1, PROBES[0]), dtype=torch.long)
    # What cycles hold must not be freed between the two counts.
    gc.collect()
    gc.disable()
    try:
        with autocast(options.autocast):
            output = whole(input_ids=ids, use_cache=False)
            at_end = live.now  # before the casts of weights go that autocast keeps
    except Exception:  # a class that needs more than a text beside its text model
        return None
    finally:
        gc.enable()
        hook.remove()
    del output
    if not noted:
        return None
    before, num_logits = noted[0]
    return round((at_end - before) / num_logits, 1)


def _affordable(lengths: list[int], run: Callable[[int], Any]) -> list[int]:
    """Return the lengths, shorter ones where a Python loop over tokens would take too long."""
    seconds = []
    for probe in PROBES:
        start = time.process_time()
        run(probe)
        seconds.append(time.process_time() - start)
    per_token = (seconds[1] - seconds[0]) / (PROBES[1] - PROBES[0])
    if per_token * sum(lengths) <= MOST_SECONDS:
        return lengths
    return [length * PROBES[1] // lengths[-1] for length in lengths]


def _one_of_each(blocks: list[nn.Module]) -> tuple[list[int], list[int]]:
    """Return the first block of each kind, the second too where all are alike, and their counts."""
    groups = kinds_of(blocks)
    kept = {group["first"]: group["count"] for group in groups}
    if len(kept) == 1 and len(blocks) > 1:
        kept = {0: 1, 1: len(blocks) - 1}
    order = sorted(kept)
    return order, [kept[index] for index in order]


def _renumber(text: nn.Module, kept: list[int]) -> None:
    """Tell a Llama 3.2 Vision which of the blocks left read an image: a text passes them by."""
    numbers: Any = getattr(text, "cross_attention_layers", None)
    if numbers is not None:
        left = [new for new, old in enumerate(kept) if old in numbers]
        text.cross_attention_layers = left  # type: ignore[assignment]


def _drop(parameter: torch.Tensor) -> None:
    parameter.grad = None


class _Pass:
    """One forward and backward pass, and what was alive when."""

    def __init__(
        self, blocks: list[nn.Module], counts: list[int], live: Live, options: Options
    ) -> None:
        self._blocks, self._counts, self._live = blocks, counts, live
        self._autocast = options.autocast
        self._static = live.now
        self._entered = 0
        self._saved = [0] * len(blocks)
        self._before_first = 0

    def run(self, text: nn.Module, length: int) -> dict[str, int]:
        """Run one sequence of zeros."""
        live, static = self._live, self._static
        ids = torch.zeros((1, length), dtype=torch.long)
        hooks = [hook for index in range(len(self._blocks)) for hook in self._watch(index)]
        first: list[torch.Tensor] = []
        if self._blocks:
            note = self._blocks[0].register_forward_hook(lambda _, __, out: _note(first, out))
            hooks.append(note)
        live.restart()
        with autocast(self._autocast):
            hidden = text(input_ids=ids, use_cache=False)[0]
        saved, forward = live.now - static, live.peak - static
        for hook in hooks:
            hook.remove()
        further = sum(s * (n - 1) for s, n in zip(self._saved, self._counts, strict=True))
        if first and first[0].requires_grad:
            first.pop().register_hook(self._at_first)  # type: ignore[no-untyped-call]
        first.clear()
        live.restart()
        gradient = torch.empty_like(hidden)
        torch.autograd.backward([hidden], [gradient])
        bottom = live.peak - static
        del hidden, gradient
        return {
            "length": length,
            "saved": saved + further,
            "forward": forward + further,
            "backward": max(self._before_first, bottom) + further,
            "bottom": bottom,
        }

    def _watch(self, index: int) -> list[Any]:
        block = self._blocks[index]

        def enter(*_: Any) -> None:
            self._entered = self._live.now

        def leave(*_: Any) -> None:
            self._saved[index] += self._live.now - self._entered

        return [block.register_forward_pre_hook(enter), block.register_forward_hook(leave)]

    def _at_first(self, _: torch.Tensor) -> None:
        self._before_first = self._live.peak - self._static
        self._live.restart()


def _note(first: list[torch.Tensor], output: Any) -> None:
    if not first:
        first.append(output[0] if isinstance(output, tuple) else output)


if __name__ == "__main__":
    serve(sys.stdin.fileno(), sys.stdout.fileno(), profile)
