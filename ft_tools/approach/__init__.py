"""recommend_approach: whether to train at all, and how."""

from ft_tools.approach.decide import recommend_approach
from ft_tools.approach.request import ApproachReport, ApproachRequest

__all__ = ["ApproachReport", "ApproachRequest", "recommend_approach"]
