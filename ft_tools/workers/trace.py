"""Trace the memory of a training step: real classes, fake tensors, live storage counted.

The model class, PEFT, the loss and the optimizer are the libraries' own, run on tensors that have
a shape and no data, so it needs neither a GPU nor weights. It shares no formula with
`ft_tools.vram`, and is the referee where no published measurement is.
"""

import contextlib
import copy
import math
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from pydantic import BaseModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, PretrainedConfig

from ft_tools.errors import BadInput
from ft_tools.models.catalog import config_of
from ft_tools.runs.session import Session, Stopped, main
from ft_tools.vram.decide import setup_of, shape_of_request
from ft_tools.vram.phases import phases
from ft_tools.vram.request import VramRequest
from ft_tools.vram.setup import Setup
from ft_tools.vram.states import QUANTIZED_BYTES
from ft_tools.vram.trace import DEPTHS, at_depth, compared

ATTENTION = "traced"
ALIGNMENT = 512  # the allocator's smallest block


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


class _Flash(torch.autograd.Function):
    """Attention that keeps what FlashAttention keeps: its inputs, output and a log-sum."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(q)
        log_sum = q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, log_sum)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v, _, _ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_: Any,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    out: torch.Tensor = _Flash.apply(query, key, value)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2), None


@contextlib.contextmanager
def _flash_for_sdpa() -> Iterator[None]:
    """Let PyTorch's own attention keep what its flash kernel keeps.

    On fake CPU tensors with a mask it would take the textbook kernel, and build all scores.
    """
    original = functional.scaled_dot_product_attention

    def flash(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        out: torch.Tensor = _Flash.apply(query, key, value)  # type: ignore[no-untyped-call]
        return out

    functional.scaled_dot_product_attention = flash
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


class _Dequantized(torch.autograd.Function):
    """A product with a weight that is expanded for each use, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, module: "_Quantized") -> torch.Tensor:
        ctx.module = module
        return x @ module.expanded(x.dtype).t()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0] @ ctx.module.expanded(grads[0].dtype), None


class _Quantized(nn.Linear):
    """A linear layer that stores as many bytes as a quantized one."""

    def __init__(self, original: nn.Linear, bytes_each: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = original.in_features, original.out_features
        stored = round(bytes_each * self.in_features * self.out_features)
        packed = torch.empty(stored, dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = original.bias

    def expanded(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight, as its kernel expands it."""
        return torch.empty(self.out_features, self.in_features, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply, in 16 bits under autocast."""
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        out: torch.Tensor = _Dequantized.apply(x, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias


def work(session: Session) -> BaseModel:
    """Trace the step of a request, at two depths, and compare it with the formulas."""
    request = VramRequest.model_validate_json(session.request_json())
    if request.model is None:
        raise BadInput("a trace needs a model by name or folder, not shapes alone")
    shape = shape_of_request(request)
    setup = replace(setup_of(request, shape), head="full_logits", attention="flash", padded=False)
    config = config_of(request.model)
    traced: list[dict[str, int]] = []
    for step, depth in enumerate(DEPTHS, start=1):
        session.phase(f"tracing {depth} of {shape.num_layers} layers")
        traced.append(trace_step(with_layers(config, depth), options_of(setup)))
        session.progress(step, len(DEPTHS))
        if session.should_stop:
            raise Stopped
    return compared(setup, at_depth(traced[0], traced[1], shape.num_layers), phases(setup))


def options_of(setup: Setup) -> "Options":
    """Return the options that trace what the formulas were asked about."""
    return Options(
        method=setup.method,
        rank=setup.rank,
        target_modules=tuple(target.name for target in setup.targets),
        dropout=0.1 if setup.dropout else 0.0,
        adapter_bytes=setup.adapter_bytes,
        dtype=setup.dtype,
        quantization=setup.quantization,
        checkpointing=setup.checkpointing,
        autocast=setup.autocast,
        sequences=setup.sequences,
        seq_len=setup.seq_len,
        foreach=setup.optimizer == "adamw_torch",
    )


def with_layers(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return the config of the same model with fewer blocks."""
    shallow = dict(config)
    shallow["n_layer" if "n_layer" in config else "num_hidden_layers"] = depth
    if config.get("layer_types"):
        shallow["layer_types"] = list(config["layer_types"])[:depth]
    return shallow


@dataclass(frozen=True)
class Options:
    """How the step is run; the words are those of estimate_vram."""

    method: str
    rank: int
    target_modules: tuple[str, ...]
    dropout: float
    adapter_bytes: int
    dtype: str
    quantization: str | None
    checkpointing: bool
    autocast: bool
    sequences: int
    seq_len: int
    foreach: bool


def trace_step(config: dict[str, Any], options: Options) -> dict[str, int]:
    """Trace one training step, after one that made the optimizer's states.

    Args:
        config: Keys of config.json, with as many layers as are to be traced.
        options: How the step is run.

    Returns:
        Phase -> bytes: `loss`, `backward` and `optimizer`, resident states included.
    """
    AttentionInterface.register(ATTENTION, _attend)
    with torch.device("meta"):
        model = _model(config, options)
    with FakeTensorMode(allow_non_fake_inputs=True), _flash_for_sdpa(), Live() as live:
        _give_storage(model, live)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, foreach=options.foreach)
        ids = torch.zeros((options.sequences, options.seq_len), dtype=torch.long)
        _step(model, optimizer, ids, options, live)
        return _step(model, optimizer, ids, options, live)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ids: torch.Tensor,
    options: Options,
    live: Live,
) -> dict[str, int]:
    """Run forward, backward and optimizer, and note the peak of each phase."""
    peaks: dict[str, int] = {}
    final_hidden: list[torch.Tensor] = []
    head = model.get_output_embeddings()  # type: ignore[operator]
    watch = head.register_forward_pre_hook(lambda _, inputs: final_hidden.append(inputs[0]))
    live.restart()
    with _autocast(options.autocast):
        output = model(input_ids=ids, labels=ids, use_cache=False)
    watch.remove()

    def head_done(_: torch.Tensor) -> None:
        peaks["loss"] = live.peak
        # A model output is a dictionary too, which setting an attribute to None leaves alone.
        output.logits = None
        OrderedDict.__setitem__(output, "logits", None)
        live.restart()

    final_hidden.pop().register_hook(head_done)  # type: ignore[no-untyped-call]
    output.loss.backward()
    peaks["backward"] = live.peak
    live.restart()
    optimizer.step()
    peaks["optimizer"] = live.peak
    optimizer.zero_grad(set_to_none=True)
    return peaks


@contextlib.contextmanager
def _autocast(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


def _model(config: dict[str, Any], options: Options) -> nn.Module:
    real: PretrainedConfig = AutoConfig.for_model(**copy.deepcopy(config))
    model_type = AutoModelForCausalLM._model_mapping[type(real)]
    pluggable = getattr(model_type, "_supports_attention_backend", False)
    # Falcon has attention classes of its own, whose call of SDPA is replaced while it is traced.
    real._attn_implementation = ATTENTION if pluggable else "sdpa"
    model = AutoModelForCausalLM.from_config(real, dtype=getattr(torch, options.dtype))
    model.train()
    if options.quantization:
        _quantize(model, model.get_output_embeddings(), QUANTIZED_BYTES[options.quantization])
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    traced: nn.Module = model if options.method == "full" else _adapted(model, options)
    return traced


def _adapted(model: Any, options: Options) -> nn.Module:
    if options.checkpointing:
        model.enable_input_require_grads()
    config = LoraConfig(
        r=options.rank,
        lora_dropout=options.dropout,
        target_modules=list(options.target_modules),
        task_type="CAUSAL_LM",
    )
    adapted: nn.Module = get_peft_model(model, config, autocast_adapter_dtype=False)
    dtype = torch.float32 if options.adapter_bytes == 4 else torch.bfloat16
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return adapted


def _give_storage(model: nn.Module, live: Live) -> None:
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


def _quantize(model: nn.Module, head: nn.Module, bytes_each: float) -> None:
    """Put quantized layers in the place of all linear ones but the head, as bitsandbytes does."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not head:
                setattr(parent, name, _Quantized(child, bytes_each))


if __name__ == "__main__":
    main(work)
