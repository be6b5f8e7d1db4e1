"""suggest_lora_config: what to train, how, and why."""

from ft_tools.lora.request import LoraReport, LoraRequest
from ft_tools.lora.suggest import suggest_lora_config

__all__ = ["LoraReport", "LoraRequest", "suggest_lora_config"]
