"""The phases of one training step; the peak is the largest of them, never their sum."""

from dataclasses import dataclass

from ft_tools.vram import activations, states
from ft_tools.vram.heads import head_bytes
from ft_tools.vram.setup import Setup

Components = dict[str, float]


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
        "loss": resident | carried | saved | {"loss_head": head_bytes(setup)},
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
    if not setup.checkpointing:
        return activations.backward_bytes(setup) * setup.tokens
    scores = activations.attention_scores_bytes(setup)
    return (activations.working_bytes(setup) + scores) * setup.tokens


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
