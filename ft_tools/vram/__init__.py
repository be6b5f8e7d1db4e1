"""estimate_vram: states, activations, sharding, phases, and the search for what fits."""

from ft_tools.vram.report import VramReport
from ft_tools.vram.request import VramRequest
from ft_tools.vram.tool import estimate_vram

__all__ = ["VramReport", "VramRequest", "estimate_vram"]
