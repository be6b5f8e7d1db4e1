"""A PEFT model of torch whose base computes in MLX.

The base has its real class and shapes, but one number for the storage of each weight: PEFT chooses
the layers, makes and saves the adapter, TRL computes every loss from log-probabilities, the trainer
steps, clips, saves and resumes, all as with the torch engine. Only `forward` is replaced.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from types import MethodType
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from huggingface_hub import snapshot_download
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, Trainer
from trl.trainer.utils import FusedCausalLMOutput

from ft_tools.errors import Refused
from ft_tools.training.plan import TrainingPlan
from ft_tools.training.worker.mlx import adapters
from ft_tools.training.worker.mlx.model import Factors, MlxModel

CHECKED_TOKENS = 64
CHECKED_LAYERS = 4
"""Blocks that are compared with torch's before the first step: what differs, differs in each."""
MOST_DIFFERENCE = 2e-3
"""Of logits in float32, relative to their largest: rounding alone gives 1e-5."""


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


def rope_overrides(config: PretrainedConfig) -> dict[str, Any]:
    """Return the rotary base in the spelling of before transformers 5, which mlx-lm reads.

    Of a config.json with the new spelling alone, most of its models take a default instead.
    """
    text = config.get_text_config()
    rope = dict(getattr(text, "rope_parameters", None) or {})
    found: dict[str, Any] = {}
    if "rope_theta" in rope:
        found["rope_theta"] = rope.pop("rope_theta")
        if rope.get("rope_type", "default") != "default":
            found["rope_scaling"] = rope
    elif {"full_attention", "sliding_attention"} <= rope.keys():
        found["rope_theta"] = rope["full_attention"]["rope_theta"]
        found["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        scaling = {k: v for k, v in rope["full_attention"].items() if k != "rope_theta"}
        if scaling.get("rope_type", "default") != "default":
            found["rope_scaling"] = scaling
    return found


def require_same_model(folder: Path) -> None:
    """Refuse a model that MLX reads otherwise than transformers, by the logits of its first blocks.

    Raises:
        Refused: The logits differ.
    """
    config = AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or [])
    # At least one block of each kind.
    least = max((kinds.index(kind) + 1 for kind in kinds), default=0)
    layers = min(max(CHECKED_LAYERS, least), text.num_hidden_layers)
    text.num_hidden_layers = layers
    if kinds:
        text.layer_types = kinds[:layers]
    numbers = np.random.default_rng(0)
    ids = numbers.integers(0, text.vocab_size, (1, CHECKED_TOKENS))
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    with torch.inference_mode():
        wanted = model.eval()(input_ids=torch.from_numpy(ids)).logits.float().numpy()
    del model
    theirs = _first_blocks(folder, config, layers)
    found = np.array(theirs.logits(mx.array(ids)))
    difference = float(np.abs(found - wanted).max() / max(1e-6, np.abs(wanted).max()))
    if not difference < MOST_DIFFERENCE:
        raise Refused(
            f"MLX computes other logits than torch for the model in {folder}: they differ by "
            f'{difference:.2g} of their largest, {MOST_DIFFERENCE:g} is allowed; use engine="torch"'
        )


def _first_blocks(folder: Path, config: PretrainedConfig, layers: int) -> MlxModel:
    overrides = rope_overrides(config) | {"num_hidden_layers": layers}
    kinds = getattr(config.get_text_config(), "layer_types", None)
    overrides |= {"layer_types": kinds} if kinds else {}
    return MlxModel(folder, "float32", config=overrides, strict=False)


def connect(plan: TrainingPlan, trainer: Trainer) -> None:
    """Load the base of a plan in MLX and give it to the trainer's model.

    Raises:
        Refused: MLX computes another model than torch, or has no place for the adapter.
    """
    folder = Path(plan.model.load_from)
    if not folder.is_dir():
        folder = Path(snapshot_download(plan.model.load_from))
    require_same_model(folder)
    overrides = rope_overrides(AutoConfig.from_pretrained(folder))
    bits = (plan.quantization or {}).get("bits")
    base = MlxModel(folder, plan.weights_dtype, bits, overrides)
    trainer.mlx_bridge = Bridge(
        trainer.model,
        base,
        checkpointed=bool(plan.training.get("gradient_checkpointing")),
        sums=plan.task == "sft" and plan.training.get("loss_type", "nll") == "nll",
    )


def peak_memory_gib() -> float:
    """Return the most memory that MLX has held in this process."""
    return round(float(mx.get_peak_memory()) / 2**30, 3)


class Bridge:
    """Give a PEFT model the forward pass of an MLX model.

    Args:
        peft: Around a hollow base.
        base: The real base, not yet wrapped.
        checkpointed: Recompute the blocks in the backward pass.
        sums: The loss is a plain sum of log-probabilities, as in SFT: gradients come with the
            forward pass, and backward only scales them.

    Raises:
        Refused: The adapter needs what this engine has not.
    """

    def __init__(
        self, peft: PeftModel, base: MlxModel, *, checkpointed: bool, sums: bool = False
    ) -> None:
        self.base = base
        self.sums = sums
        self._layers = dict(_adapter_layers(peft))
        self._paths = _match(self._layers, base.linears())
        base.wrap(list(self._paths.values()), checkpointed=checkpointed)
        self._start_magnitudes()
        inner = peft.get_base_model()
        inner.forward = MethodType(self._forward, inner)
        peft.generate = self.generate

    def _start_magnitudes(self) -> None:
        """Start DoRA from the norms of the real weights; a continued adapter has its own."""
        for name, layer in self._layers.items():
            for adapter, vector in layer.lora_magnitude_vector.items():
                if torch.count_nonzero(vector.weight) == 0:
                    norms = np.array(self.base.weight_norms(self._paths[name]))
                    vector.weight.data.copy_(torch.from_numpy(norms))
                    _require_plain(layer, adapter)

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
                if adapter in layer.lora_magnitude_vector:
                    own.append(layer.lora_magnitude_vector[adapter].weight)
                a, b, *rest = map(to_mlx, own)
                dropout = getattr(layer.lora_dropout[adapter], "p", 0.0)
                scale = float(layer.scaling[adapter])
                magnitude = rest[0] if rest else None
                found[self._paths[name]] = Factors(a, b, scale, dropout, magnitude)
                tensors += own
        return found, tensors

    def write_adapter(self, folder: Path) -> None:
        """Write the adapter that is on now as mlx-lm reads it."""
        factors, _ = self.factors()
        adapters.write(folder, factors, len(self.base.model.layers))

    def _forward(
        self,
        model: Any,
        input_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        *,
        fused_lm_head: bool = False,
        num_items_in_batch: Any = None,
        **_: Any,
    ) -> FusedCausalLMOutput:
        """Score the next tokens, as TRL's fused head does."""
        if not fused_lm_head or labels is None:
            raise Refused("the MLX engine computes log-probabilities only, not logits")
        factors, tensors = self.factors()
        # Dropout is drawn from a seed that the trainer's random state decides: resume is exact.
        seed = int(torch.randint(2**31, ()).item()) if model.training else 0
        scored = _Scored.apply(  # type: ignore[no-untyped-call]
            self, factors, input_ids, labels, model.training, seed, *tensors
        )
        log_probs, entropy, log_sum_sq_probs, mean_logits, is_top1 = scored
        mask = labels[:, 1:] != -100
        count = mask.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / count,
            log_probs=log_probs,
            entropy=entropy,
            log_sum_sq_probs=log_sum_sq_probs,
            mean_logits=mean_logits,
            is_top1=is_top1,
            label_mask=mask,
        )

    def generate(self, **given: Any) -> torch.Tensor:
        """Answer prompts greedily, one after the other: what the sampler of a run asks for."""
        factors, _ = self.factors()
        ends = given["eos_token_id"]
        until = time.monotonic() + given.get("max_time", 60.0)
        rows = []
        with self.base.adapted(factors, training=False):
            for ids, mask in zip(given["input_ids"], given["attention_mask"], strict=True):
                prompt = ids[mask.bool()].tolist()
                all_ends = set(ends if isinstance(ends, list) else [ends])
                most = given["max_new_tokens"]
                rows.append(ids.tolist() + self.base.generate(prompt, all_ends, most, until))
        width = max(map(len, rows))
        pad = given["pad_token_id"]
        return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


class _Scored(torch.autograd.Function):
    """Log-probabilities by MLX, differentiable by the adapters' tensors."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, ...]:
        bridge, factors, input_ids, labels, training, seed, *_ = given
        ids, wanted = to_mlx(input_ids), to_mlx(labels)
        ctx.bridge, ctx.factors, ctx.seed, ctx.training = bridge, factors, seed, training
        ctx.ids, ctx.labels, ctx.gradients = ids, wanted, None
        ctx.set_materialize_grads(False)
        with bridge.base.adapted(factors, training=training, seed=seed):
            if bridge.sums and any(ctx.needs_input_grad):
                ones = mx.ones(ids[:, 1:].shape)
                scores, ctx.gradients = bridge.base.gradients(factors, ids, wanted, ones)
            else:
                scores = bridge.base.scores(ids, wanted)
                mx.eval(scores.arrays)
        found = tuple(map(to_torch, scores.arrays))
        ctx.mark_non_differentiable(*found[1:])
        ctx.is_counted = labels[:, 1:] != -100
        return found

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        weights = upstream[0]
        if weights is None:
            return (None,) * len(ctx.needs_input_grad)
        counted = weights[ctx.is_counted]
        is_even = counted.numel() == 0 or bool((counted == counted[0]).all())
        if ctx.gradients is not None and is_even:
            factor = float(counted[0]) if counted.numel() else 0.0
            gradients = [to_torch(gradient) * factor for gradient in ctx.gradients]
        else:
            with ctx.bridge.base.adapted(ctx.factors, training=ctx.training, seed=ctx.seed):
                _, made = ctx.bridge.base.gradients(
                    ctx.factors, ctx.ids, ctx.labels, to_mlx(weights)
                )
            gradients = list(map(to_torch, made))
        # Between steps the buffers of other lengths would only pile up.
        mx.clear_cache()
        return (None,) * 6 + tuple(gradients)


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
                'model; choose other target_modules, or use engine="torch"'
            )
        found[name] = same[0]
    return found


def _require_plain(layer: LoraLayer, adapter: str) -> None:
    if layer.lora_bias.get(adapter):
        raise Refused('the MLX engine trains no lora_bias; set it to false, or use engine="torch"')
