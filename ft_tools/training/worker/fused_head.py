"""TRL's fused head in the classes that name its parts in another way."""

from typing import Any

from peft import PeftModel

from ft_tools.models.worker.build import text_path

# What a configuration calls its experts, where it is not `num_experts`.
OTHER_COUNTS = ("num_local_experts", "n_routed_experts", "moe_num_experts")


def fit(model: Any) -> None:
    """Let TRL's fused head find the language model and the number of experts.

    It asks for `base_model`, which is the whole model in Llama 4's and Mllama's text classes, and
    for `num_experts`, which Granite's hybrid has under another name. Nothing of it is saved.

    Source: trl 1.16, trainer/utils.py, add_fused_lm_head
    """
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    path = text_path(whole)
    if whole.base_model is whole and "." not in path:
        whole.base_model_prefix = path
    config = whole.config.get_text_config(decoder=True)
    other = next((name for name in OTHER_COUNTS if getattr(config, name, None)), None)
    if other and not hasattr(config, "num_experts"):
        type(config).num_experts = property(lambda self: getattr(self, other))
