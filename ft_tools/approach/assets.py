"""What each thing that the asker has is good for here."""

from ft_tools.approach.decision import holds
from ft_tools.approach.report import Asset
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.situation import Situation
from ft_tools.approach.table import table

NOTHING: tuple[object, ...] = (None, [], False, "none", 0)
PRESUMED = "Not counted, taken as about {:,.0f}: count it first. "


def assets(request: ApproachRequest, now: Situation) -> list[Asset]:
    """Return one line for each asset that is named; the first row of it that holds."""
    found: dict[str, Asset] = {}
    for row in table().assets:
        taken = now.presumed.get(row.asset)
        if (taken or getattr(request, row.asset) not in NOTHING) and holds(row.when, now):
            use = PRESUMED.format(taken) + row.use if taken else row.use
            found.setdefault(row.asset, Asset(asset=row.asset, use=use))
    return list(found.values())
