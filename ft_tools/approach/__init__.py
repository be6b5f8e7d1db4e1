"""recommend_approach: whether to train at all, and how."""

from ft_tools.approach.report import ApproachReport
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.tool import recommend_approach

__all__ = ["ApproachReport", "ApproachRequest", "recommend_approach"]
