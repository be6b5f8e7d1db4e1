"""What an approach costs, in orders of magnitude."""

from ft_tools.approach.request import Approach, ApproachRequest, CostBracket
from ft_tools.approach.table import table


def bracket(approach: Approach, request: ApproachRequest) -> CostBracket:
    """Return the bracket of an approach; the bounds are not a quote."""
    facts = table().approaches[approach]
    return CostBracket(
        usd_low=facts.usd_low,
        usd_high=facts.usd_high,
        time=facts.time,
        data=facts.data,
        running=facts.running,
        source=facts.source,
    )
