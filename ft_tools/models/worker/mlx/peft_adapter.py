"""A PEFT adapter on an MLX base: PEFT chooses the layers, names and scales, MLX computes them."""

from collections.abc import Iterable
from types import MethodType
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, PretrainedConfig

from ft_tools.errors import Refused
from ft_tools.models.worker.mlx.model import TORCH_INSTEAD, Factors, MlxModel


def hollow(config: PretrainedConfig, dtype: torch.dtype) -> Any:
    """Return a model of real class and shapes, whose weights take no memory and mean nothing."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                empty = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
                module._parameters[name] = torch.nn.Parameter(empty, requires_grad=False)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.zeros((), dtype=buffer.dtype).expand(buffer.shape)
    model.tie_weights()
    model.forward = MethodType(_refuse, model)
    return model


def _refuse(*_: Any, **__: Any) -> None:
    raise Refused("a model without weights cannot compute; this is a defect of the MLX engine")


class Adapter:
    """The adapters of a PEFT model, computed by an MLX model.

    Args:
        peft: Around a hollow base.
        base: The real base, not yet wrapped.
        checkpointed: Recompute the blocks in the backward pass.

    Raises:
        Refused: The base has no place for it, or it has parts that MLX does not compute.
    """

    def __init__(self, peft: PeftModel, base: MlxModel, *, checkpointed: bool = False) -> None:
        self.base = base
        self._layers = dict(_adapter_layers(peft))
        self._paths = _match(self._layers, base.linears())
        base.wrap(list(self._paths.values()), checkpointed=checkpointed)
        for layer in self._layers.values():
            if any(layer.lora_bias.values()):
                raise Refused(f"MLX computes no lora_bias of an adapter; {TORCH_INSTEAD}")

    def factors(self) -> tuple[dict[str, Factors], list[torch.Tensor]]:
        """Return the adapters that PEFT has on now, and their tensors in the same order."""
        found, tensors = {}, []
        for name, layer in self._layers.items():
            if layer.disable_adapters:
                continue
            for adapter in layer.active_adapters:
                if adapter not in layer.lora_A:
                    continue
                own = [layer.lora_A[adapter].weight, layer.lora_B[adapter].weight]
                a, b = map(to_mlx, own)
                dropout = getattr(layer.lora_dropout[adapter], "p", 0.0)
                scale = float(layer.scaling[adapter])
                found[self._paths[name]] = Factors(a, b, scale, dropout)
                tensors += own
        return found, tensors


def to_mlx(tensor: torch.Tensor) -> mx.array:
    """Copy a tensor to MLX."""
    return mx.array(tensor.detach().contiguous().numpy())


def to_torch(array: mx.array) -> torch.Tensor:
    """Copy an array to torch, in float32 unless it is of truth values."""
    kind = array if array.dtype == mx.bool_ else array.astype(mx.float32)
    return torch.from_numpy(np.array(kind))


def _adapter_layers(peft: PeftModel) -> Iterable[tuple[str, LoraLayer]]:
    for name, module in peft.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _match(layers: dict[str, LoraLayer], linears: dict[str, tuple[int, int]]) -> dict[str, str]:
    """Return the MLX path of each layer that PEFT has adapted.

    Raises:
        Refused: One has no counterpart of its shape.
    """
    found = {}
    for name, layer in layers.items():
        tail = name[name.find("layers.") :] if "layers." in name else name
        same = [path for path in linears if path == name or path.endswith(f".{tail}")]
        shape = (layer.out_features, layer.in_features)
        same = [path for path in same if linears[path] == shape]
        if len(same) != 1:
            raise Refused(
                f"the layer {name} ({shape[0]} by {shape[1]}) has no counterpart in mlx-lm's "
                f"model; {TORCH_INSTEAD}, or train other target_modules"
            )
        found[name] = same[0]
    return found
