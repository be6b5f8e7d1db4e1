"""Trace the activations of a model's blocks: real classes, fake tensors, live storage counted.

The model class and PEFT are the libraries' own, run on tensors that have a shape and no data, so
it needs neither a GPU nor weights.
"""

import gc
import math
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ft_tools.memory.setup import BITSANDBYTES
from ft_tools.memory.states import QUANTIZED_BYTES
from ft_tools.memory.traced import Options
from ft_tools.memory.worker.imitated_kernels import (
    ATTENTION,
    QuantizedLinear,
    gpu_kernels,
    quantize,
)
from ft_tools.models.quantized import NEVER_PACKED
from ft_tools.models.worker.build import build, load_config, loader_of, stack_of, text_path
from ft_tools.models.worker.describe import kinds_of

ALIGNMENT = 512  # the allocator's smallest block
# Tokens. A scan without its kernel is a loop over tokens: seconds for some hundreds of them.
PROBES = (8, 32)
MOST_SECONDS = 10.0


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that are alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._seen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return result

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once, until it is freed."""
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        size = math.ceil(storage.nbytes() / ALIGNMENT) * ALIGNMENT
        self._seen[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak = self.now


def autocast(wanted: bool) -> torch.autocast:
    """Compute in bf16 where that is wanted, as on a GPU."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=wanted)


def build_model(config: dict[str, Any], options: Options) -> tuple[nn.Module, bool]:
    """Build a model as it is trained, on the meta device.

    Returns:
        The model, and whether its attention builds all scores: where that is asked for, and where
        the class has no other that a GPU without further packages runs.
    """
    real = load_config(config)
    auto: Any = getattr(transformers, loader_of(real))
    model_type = auto._model_mapping[type(real)]
    pluggable = getattr(model_type, "_supports_attention_backend", False)
    eager = options.eager or not (pluggable or model_type._supports_sdpa)
    eager = eager or (not model_type._supports_sdpa and not options.flash)
    # Falcon has attention classes of its own, whose call of SDPA is replaced while it is traced.
    attention = "eager" if eager else ATTENTION if pluggable else "sdpa"
    _, model = build(config, attention)
    model.to(getattr(torch, options.dtype))
    model.train()
    if options.quantization:
        whole = {*NEVER_PACKED.get(str(config.get("model_type")), ())}
        head = model.get_output_embeddings()
        quantize(model, head, QUANTIZED_BYTES[options.quantization], whole)
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    traced: nn.Module = model if options.method == "full" else _adapted(model, options)
    return traced, eager


def _adapted(model: Any, options: Options) -> nn.Module:
    if options.checkpointing:
        model.enable_input_require_grads()
    names = options.target_modules
    config = LoraConfig(
        r=options.rank,
        lora_dropout=options.dropout,
        target_modules=names if isinstance(names, str) else list(names),
        target_parameters=list(options.target_parameters) or None,
        exclude_modules=options.excluded or None,
        task_type="CAUSAL_LM" if hasattr(model, "prepare_inputs_for_generation") else None,
    )
    adapted: nn.Module = get_peft_model(model, config, autocast_adapter_dtype=False)
    for module in adapted.modules():
        if isinstance(module, LoraLayer) and isinstance(module.get_base_layer(), QuantizedLinear):
            # As PEFT's own class over bitsandbytes' layers, which leaves the type to autocast.
            by_autocast = options.autocast and options.quantization in BITSANDBYTES
            module.cast_input_dtype_enabled = not by_autocast
    dtype = torch.float32 if options.adapter_bytes == 4 else torch.bfloat16
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return adapted


def give_storage(model: nn.Module, live: Live) -> None:
    """Put tensors with a storage in the place of those on the meta device; tied ones stay tied."""
    made: dict[torch.Tensor, Any] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, old in table.items():
                if old is None:
                    continue
                if old not in made:
                    new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                    live.add(new)
                    is_parameter = isinstance(old, nn.Parameter)
                    made[old] = nn.Parameter(new, old.requires_grad) if is_parameter else new
                table[name] = made[old]


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Trace one sequence at each of some lengths.

    Returns:
        `points`: per length the bytes that the blocks save, and that they need at most in the
        forward pass, in the backward pass, and in that of the first block; and `eager`, whether
        attention builds all scores.
    """
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
    return {"points": points, "eager": eager}


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
    kept = {group.first: group.count for group in groups}
    if len(kept) == 1 and len(blocks) > 1:
        kept = {0: 1, 1: len(blocks) - 1}
    order = sorted(kept)
    return order, [kept[index] for index in order]


def _renumber(text: nn.Module, kept: list[int]) -> None:
    """Set which of the remaining blocks of a Llama 3.2 Vision read an image: a text skips them."""
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
