"""The phases of one training step; the peak is the largest of them, never their sum."""

from dataclasses import dataclass

from ft_tools.vram import activations, states
from ft_tools.vram.heads import head_bytes
from ft_tools.vram.setup import Setup

Components = dict[str, float]
# How much narrower, in bytes per token and intermediate width, a block's working set is while a
# quantized weight is expanded than at its widest; with checkpointing, and without. From traces of
# Llama 3.2 1B, Mistral 7B and Qwen2.5 1.5B by ft_tools/workers/trace.py.
EXPANDED_NARROWER = 1.5
EXPANDED_NARROWER_KEPT = 4.5


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
    optimizer: gradients, and the optimizer's temporaries.
    """
    resident = states.resident_bytes(setup)
    resident["workspace"] = float(setup.workspace_bytes)
    root = states.root_unit_bytes(setup)
    if root:
        resident["unsharded_root"] = root
    saved = _saved(setup)
    gradients = states.gradient_bytes(setup)
    carried: Components = {"gradients": gradients} if setup.accumulation > 1 else {}
    backward = {
        "block_working_set": _working(setup),
        "unsharded_block": states.layer_unit_bytes(setup),
        "expert_deltas": _expert_delta_bytes(setup),
        "retained_gradients": activations.retained_bytes(setup) * setup.tokens,
    }
    top_gradients = gradients / setup.shape.num_layers if setup.method == "full" else 0.0
    head_gradient = _head_gradient(setup)
    by_phase = {
        "loss": resident | carried | saved | {"loss_head": _head(setup)},
        "backward_top": resident
        | (carried or {"gradients": top_gradients + head_gradient})
        | saved
        | backward,
        "backward_bottom": resident
        | {"gradients": gradients}
        | _saved(setup, num_layers=1)
        | backward,
        "optimizer": _stepped(setup, gradients),
    }
    nonzero = {name: {k: v for k, v in parts.items() if v} for name, parts in by_phase.items()}
    return Phases(nonzero)


def _saved(setup: Setup, num_layers: int | None = None) -> Components:
    count = setup.shape.num_layers if num_layers is None else num_layers
    if not setup.checkpointing:
        per_token = activations.saved_bytes(setup) + activations.attention_scores_bytes(setup)
        return {
            "saved_activations": count * per_token * setup.tokens,
            "attention_mask": activations.mask_bytes(setup),
        }
    per_token = count * activations.checkpoint_bytes(setup)
    return {
        "checkpoints": per_token * setup.tokens,
        "attention_mask": activations.mask_bytes(setup),
    }


def _working(setup: Setup) -> float:
    """Return what running one block backward takes, recomputing it first if it was not kept.

    A quantized weight is expanded for its product. That is not at the widest moment, so it counts
    only where few tokens leave the expanded weight the larger part.
    """
    if setup.checkpointing:
        scores = activations.attention_scores_bytes(setup)
        widest = (activations.working_bytes(setup) + scores) * setup.tokens
        narrower = EXPANDED_NARROWER
    else:
        widest = activations.backward_bytes(setup) * setup.tokens
        narrower = EXPANDED_NARROWER_KEPT
    if setup.quantization is None or not setup.linears_quantized:
        return widest
    at_product = widest - narrower * setup.shape.intermediate_size * setup.tokens
    return max(widest, max(0.0, at_product) + states.expanded_bytes(setup))


def _head(setup: Setup) -> float:
    """Return the loss head, or the last block's transients in the forward pass if they are more."""
    head = head_bytes(setup)
    if setup.checkpointing:
        return head
    return max(head, activations.forward_bytes(setup) * setup.tokens)


def _expert_delta_bytes(setup: Setup) -> float:
    """PEFT adapts fused experts by adding a whole delta to them, once per block and pass.

    Source: peft/tuners/lora/layer.py, ParamWrapper
    """
    if not setup.adapts_experts:
        return 0.0
    return 2.0 * setup.shape.expert_params * setup.weight_bytes


def _head_gradient(setup: Setup) -> float:
    """The trained head's own gradient is there before the blocks' are."""
    if setup.method != "full" or setup.accumulation > 1:
        return 0.0
    share = setup.shape.embedding_params / setup.shape.total_params
    return states.gradient_bytes(setup) * share


def _stepped(setup: Setup, gradients: float) -> Components:
    """In the step, FSDP's units are sharded again."""
    resident = states.resident_bytes(setup)
    return resident | {
        "workspace": float(setup.workspace_bytes),
        "gradients": gradients,
        "optimizer_temporaries": states.step_temporary_bytes(setup),
    }
