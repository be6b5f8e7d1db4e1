"""What stands in, while a step is traced, for kernels that exist on a GPU only.

Each makes and keeps as many bytes as its kernel does: FlashAttention, and the product with a 4-bit
weight.
"""

import contextlib
from collections.abc import Iterator, Set
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

ATTENTION = "traced"
_original_layer_norm = functional.layer_norm


class _Flash(torch.autograd.Function):
    """Attention that keeps what FlashAttention keeps: its inputs, output and a log-sum."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # Written heads last, as the kernel does, so that no copy follows.
        out = q.new_empty(q.transpose(1, 2).shape).transpose(1, 2)
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


def _flash_for_sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> torch.Tensor:
    out: torch.Tensor = _Flash.apply(query, key, value)  # type: ignore[no-untyped-call]
    return out


def _layer_norm(
    x: torch.Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> torch.Tensor:
    """Normalise in fp32 under autocast, which is so on CUDA and not on the CPU."""
    if torch.is_autocast_enabled("cpu"):
        x = x.float()
        weight = None if weight is None else weight.float()
        bias = None if bias is None else bias.float()
    return _original_layer_norm(x, shape, weight, bias, eps)


STAND_INS: tuple[tuple[Any, str, Any], ...] = (
    (functional, "scaled_dot_product_attention", _flash_for_sdpa),
    (functional, "layer_norm", _layer_norm),
)


@contextlib.contextmanager
def gpu_kernels() -> Iterator[None]:
    """Let PyTorch and transformers keep what their GPU kernels keep.

    On fake CPU tensors PyTorch's attention would build all scores.
    """
    AttentionInterface.register(ATTENTION, _attend)
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in STAND_INS]
    for owner, name, stand_in in STAND_INS:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


class _DequantizedProduct(torch.autograd.Function):
    """A product with a weight that is expanded for each use, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, module: "QuantizedLinear") -> torch.Tensor:
        ctx.module = module
        return x @ module.expanded(x.dtype).t()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0] @ ctx.module.expanded(grads[0].dtype), None


class QuantizedLinear(nn.Linear):
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
        out: torch.Tensor = _DequantizedProduct.apply(x, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias


def quantize(model: nn.Module, head: nn.Module, bytes_each: float, whole: Set[str]) -> None:
    """Put quantized layers in the place of linear ones, as bitsandbytes does."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in whole or child is head:
                continue
            if type(child) is nn.Linear and child.weight.dim() == 2:
                setattr(parent, name, QuantizedLinear(child, bytes_each))
