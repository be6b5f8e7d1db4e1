"""The fused loss of other trainers: what a plan's memory estimate takes for granted."""

from collections.abc import Collection

from ft_tools.errors import FineTuningError
from ft_tools.models.shape_of_model import config_of
from ft_tools.training.checks import memory
from ft_tools.training.plan import TrainingPlan

# Families whose loss Liger fuses in both trainers. Source: Axolotl, integrations/liger/plugin.py;
# LLaMA-Factory, model/model_utils/liger_kernel.py.
FAMILIES = {"gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo2",
            "phi3", "qwen2", "qwen3", "qwen3_moe"}  # fmt: skip
TRAINERS = ("axolotl.yaml", "llama_factory.yaml")


def is_fused(plan: TrainingPlan) -> bool:
    """Tell whether Axolotl and LLaMA-Factory can compute this loss without whole logits.

    Both do it for supervised training alone, with Liger on a GPU.
    """
    if plan.task != "sft" or plan.device.name == "cpu":
        return False
    try:
        return config_of(plan.model.load_from).get("model_type") in FAMILIES
    except FineTuningError:
        return False


def about_memory(plan: TrainingPlan, written: Collection[str]) -> list[str]:
    """Say what memory the exported files need where they compute the loss in another way."""
    names = " and ".join(name for name in TRAINERS if name in written)
    fused = plan.estimate.vram
    if not names or fused is None:
        return []
    whole = memory.estimated(_with_whole_logits(plan))
    if whole is None:
        return []
    needed = (
        f"about {whole.peak_allocated_gib:.1f} GiB of {whole.usable_gib or 0:.1f} usable, instead "
        f"of {fused['peak_allocated_gib']:.1f}"
    )
    if is_fused(plan):
        return [f"{names} use Liger's fused loss: pip install liger-kernel; without it: {needed}"]
    return [
        f"{names} compute the loss over whole logits, not with TRL's fused head: {needed}; lower "
        "the micro-batch there and accumulate more if that does not fit"
    ]


def _with_whole_logits(plan: TrainingPlan) -> memory.Planned:
    return memory.Planned(
        model=plan.model.load_from,
        task=plan.task,
        method=plan.method,
        peft=plan.peft,
        training=plan.training,
        device=plan.device,
        dtype=plan.weights_dtype,
        place=plan.place,
        loss_head="full_logits",
    )
