"""suggest_lora_config: what to train, how, and why."""

from ft_tools.lora.report import LoraReport
from ft_tools.lora.request import LoraRequest
from ft_tools.lora.tool import suggest_lora_config

__all__ = ["LoraReport", "LoraRequest", "suggest_lora_config"]
