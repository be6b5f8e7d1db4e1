"""The phases of one training step; the peak is the largest of them, never their sum."""

from dataclasses import dataclass

from ft_tools.memory import activations, apple, block_temporaries, generation, states
from ft_tools.memory.setup import Profile, Setup

Components = dict[str, float]
# While a quantized weight is expanded, its product, 2i bytes a token, is yet to come.
EXPANDED_NARROWER = 2.0
# bf16 logits, fp32 copy, log-softmax and gradient (14); before transformers 4.46 the copy was made
# in the model's forward (12). Without autocast the logits of an fp32 head are 4 bytes themselves.
FULL_LOGITS_BYTES = 14
FULL_LOGITS_OLD_BYTES = 12
FULL_LOGITS_FP32_BYTES = 16
# Gemma 2 caps its logits too, and the hyperbolic tangent keeps what it made.
SOFTCAP_BYTES = 2
# TRL's fused head works on tiles of at most 4,096 tokens and 32,768 entries of the vocabulary.
TILE_TOKENS = 4096
TILE_VOCAB = 32768


@dataclass(frozen=True)
class Phases:
    """Bytes of each phase on one GPU, by component."""

    phases: dict[str, Components]

    @property
    def dominant(self) -> str:
        """Return the name of the largest phase."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def peak(self) -> float:
        """Return the bytes of the largest phase."""
        return sum(self.phases[self.dominant].values())


def phases(setup: Setup) -> Phases:
    """Work out the bytes of each phase.

    loss: everything saved by the blocks, and the loss head;
    backward_top: the same without the head, and the last block's working set;
    backward_bottom: the first block's working set beside all gradients;
    optimizer: gradients, and the optimizer's temporaries;
    prefill, generation: of GRPO, the completions that a step trains on.
    """
    if setup.engine == "mlx":
        return _nonzero(apple.phases(setup))
    states_of_step = states.resident_bytes(setup)
    resident = states_of_step | {
        "workspace": float(setup.workspace_bytes),
        "unsharded_root": states.root_unit_bytes(setup),
    }
    gradients = states.gradient_bytes(setup)
    backward = {
        "unsharded_block": states.layer_unit_bytes(setup),
        "retained_gradients": activations.retained_bytes(setup) * setup.tokens,
    }
    parts = _by_formula(setup, gradients)
    if setup.profile is not None:
        # The trace sees what a block's forward pass gathers, too.
        parts = _by_trace(setup, setup.profile, gradients)
        resident |= backward
    loss, top, bottom = ({"gradients": 0.0} | part for part in parts)
    if setup.accumulation > 1:
        loss["gradients"] = top["gradients"] = bottom["gradients"] = gradients
    written = generation.phases(setup)
    return _nonzero(
        {name: states_of_step | parts for name, parts in written.items()}
        | {
            "loss": resident | loss,
            "backward_top": resident | top | backward,
            "backward_bottom": resident | bottom | backward,
            # In the step, FSDP's units are sharded again.
            "optimizer": states_of_step
            | {
                "workspace": float(setup.workspace_bytes),
                "gradients": gradients,
                "optimizer_temporaries": states.step_temporary_bytes(setup),
            },
        }
    )


def _nonzero(by_phase: dict[str, Components]) -> Phases:
    return Phases({name: {k: v for k, v in parts.items() if v} for name, parts in by_phase.items()})


def _by_formula(setup: Setup, gradients: float) -> tuple[Components, Components, Components]:
    """Return activations and gradients of loss, last block and first block, by the formulas."""
    saved, head = _saved(setup), head_bytes(setup)
    if not setup.checkpointing:
        # Or the last block's transients in the forward pass, if they are more.
        head = max(head, block_temporaries.forward_bytes(setup) * setup.tokens)
    deltas = {"expert_deltas": _expert_delta_bytes(setup)}
    top, top_gradients = _widest(setup, gradients, blocks_done=0)
    bottom, bottom_gradients = _widest(setup, gradients, setup.shape.num_layers - 1)
    return (
        saved | {"loss_head": head},
        saved | deltas | {"gradients": top_gradients, "block_working_set": top},
        _saved(setup, num_layers=1)
        | deltas
        | {"gradients": bottom_gradients, "block_working_set": bottom},
    )


def _by_trace(
    setup: Setup, profile: Profile, gradients: float
) -> tuple[Components, Components, Components]:
    """Return the same of a model whose activations were traced.

    Under full fine-tuning the first gradients are the head's and the last block's; at the first
    block all are there but its own.
    """
    n, seq_len = setup.rows
    shape = setup.shape
    block = shape.layer_params / shape.total_params
    first, last = 0.0, gradients * (1 - 1 / shape.num_layers)
    if setup.method == "full":
        first = gradients * (shape.embedding_params / shape.total_params + block)
        last = gradients * (1 - block)
    kept = 1 if setup.checkpointing else shape.num_layers
    # SDPA with a mask has keys and values repeated, in one block or in all that are kept.
    repeated = activations.kept_scores_bytes(setup) if setup.repeats_kv else 0.0
    padded = repeated * setup.tokens * kept
    saved = profile.saved.at(n, seq_len)
    forward = max(0.0, profile.forward.at(n, seq_len) - saved)
    mask = {"attention_mask": activations.mask_bytes(setup, num_kept=kept)}
    at_top, at_bottom = profile.backward.at(n, seq_len), profile.bottom.at(n, seq_len)
    return (
        mask | {"saved_activations": saved + padded, "loss_head": max(head_bytes(setup), forward)},
        mask | {"gradients": first, "activations": at_top + padded},
        mask | {"gradients": last, "activations": at_bottom + padded},
    )


def _saved(setup: Setup, num_layers: int | None = None) -> Components:
    count = setup.shape.num_layers if num_layers is None else num_layers
    if not setup.checkpointing:
        per_block = activations.saved_bytes(setup) + activations.kept_scores_bytes(setup)
        per_token = count * per_block - activations.unsaved_bytes(setup)
        return {
            "saved_activations": per_token * setup.tokens,
            "saved_expert_deltas": count * _expert_delta_bytes(setup) / 2,
            "saved_weight_copies": count * states.cast_weight_bytes(setup),
            "attention_mask": activations.mask_bytes(setup, num_kept=count),
        }
    per_token = count * activations.checkpoint_bytes(setup)
    return {
        "checkpoints": per_token * setup.tokens,
        "attention_mask": activations.mask_bytes(setup),
    }


def _widest(setup: Setup, gradients: float, blocks_done: int) -> tuple[float, float]:
    """Find the moment of one block's backward pass that takes most, gradients included.

    A quantized weight is expanded for its product. That is not at the widest moment, so it counts
    only where few tokens leave the expanded weight the larger part.

    Returns:
        Bytes of the block's working set, and of the gradients that exist then.
    """
    shape = setup.shape
    expanded = setup.quantization is not None and setup.linears_quantized
    found: list[tuple[float, float]] = []
    for moment in (
        block_temporaries.moments if setup.checkpointing else block_temporaries.kept_moments
    )(setup):
        widest = moment.per_token * setup.tokens
        if expanded and moment.gradient_params:
            at_product = widest - EXPANDED_NARROWER * shape.intermediate_size * setup.tokens
            widest = max(widest, max(0.0, at_product) + states.expanded_bytes(setup))
        if setup.method == "full":
            # The head's own gradient is the first; that of an embedding of its own is the last.
            params = blocks_done * shape.layer_params + moment.gradient_params
            present = gradients * (params + shape.embedding_params) / shape.total_params
        else:
            present = gradients * blocks_done / shape.num_layers
        found.append((widest, present))
    return max(found, key=sum)


def head_bytes(setup: Setup) -> float:
    """Return the peak of the loss head on one GPU: its forward and its backward, the larger.

    Symbols: V vocabulary, h hidden size, T tokens of one forward pass.

    Source: transformers `loss/loss_utils.py` by version, Liger-Kernel, and TRL 1.16
    `kernels/chunked_logprob.py`; the bytes per logit confirmed by fms-acceleration's slopes.
    """
    vocab, h, tokens = setup.shape.vocab_size, setup.shape.hidden_size, setup.tokens
    if setup.head == "full_logits":
        fp32_head = setup.residual_bytes == 4 and not setup.autocast
        per_logit: float = FULL_LOGITS_FP32_BYTES if fp32_head else FULL_LOGITS_BYTES
        per_logit += SOFTCAP_BYTES if setup.shape.softcap else 0
        return (per_logit * vocab + 6.0 * h) * tokens
    if setup.head == "full_logits_old":
        return (FULL_LOGITS_OLD_BYTES * vocab + 8.0 * h) * tokens
    if setup.head == "fused_logits":
        return (setup.fused_logits_bytes * vocab + 4.0 * h) * tokens
    if setup.head == "fused_linear":
        # Chunks hold about h logits per token of the batch; gradients of input and head follow.
        return 8.0 * h * tokens + _head_gradient(setup, 2.0)
    tile = 2.0 * min(tokens, TILE_TOKENS) * min(vocab, TILE_VOCAB)
    # Final norm 4h, hidden state and its unmasked copy 4h, fp32 gradient 4h and its cast 2h.
    return tile + (14.0 * h + 28.0) * tokens + _head_gradient(setup, 6.0)


def _head_gradient(setup: Setup, per_weight: float) -> float:
    """A trained head gets its gradient before any block: fp32 and cast in TRL's, 16-bit else."""
    if setup.method != "full":
        return 0.0
    return per_weight * setup.shape.embedding_params


def _expert_delta_bytes(setup: Setup) -> float:
    """PEFT adapts fused experts by adding a whole delta to them, once per block and pass.

    The sum is kept for the backward pass, in every block where nothing is recomputed.

    Source: peft/tuners/lora/layer.py, ParamWrapper
    """
    if not setup.adapts_experts:
        return 0.0
    return 2.0 * setup.shape.layer_expert_weights * setup.weight_bytes
