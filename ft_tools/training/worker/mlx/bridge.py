"""A PEFT model of torch whose base computes in MLX.

The base has its real class and shapes, but one number for the storage of each weight: PEFT chooses
the layers, makes and saves the adapter, TRL computes every loss from log-probabilities, the trainer
steps, clips, saves and resumes, all as with the torch engine. Only `forward` is replaced.
"""

from types import MethodType
from typing import Any

import mlx.core as mx
import torch
from peft import PeftModel
from transformers import Trainer
from trl.trainer.utils import FusedCausalLMOutput

from ft_tools.errors import Refused
from ft_tools.models.worker.loading import fetched
from ft_tools.models.worker.mlx.model import MlxModel
from ft_tools.models.worker.mlx.peft_adapter import Adapter, to_mlx, to_torch
from ft_tools.models.worker.mlx.reading import open_model
from ft_tools.training.training_plan import TrainingPlan


def connect(plan: TrainingPlan, trainer: Trainer) -> None:
    """Load the base of a plan in MLX and give it to the trainer's model."""
    folder = fetched(plan.model.load_from, plan.model.revision or None)
    base = open_model(folder, plan.weights_dtype, (plan.quantization or {}).get("bits"))
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
    """

    def __init__(
        self, peft: PeftModel, base: MlxModel, *, checkpointed: bool, sums: bool = False
    ) -> None:
        self.base = base
        self.sums = sums
        self.adapter = Adapter(peft, base, checkpointed=checkpointed)
        inner = peft.get_base_model()
        inner.forward = MethodType(self._forward, inner)

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
        factors, tensors = self.adapter.factors()
        # Dropout is drawn from a seed that the trainer's random state decides: resume is exact.
        seed = int(torch.randint(2**31, ()).item()) if model.training else 0
        scored = _ScoreFunction.apply(  # type: ignore[no-untyped-call]
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


class _ScoreFunction(torch.autograd.Function):
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
