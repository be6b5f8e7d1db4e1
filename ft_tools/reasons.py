"""The reasons that reports give by id: rows of facts/reasons.toml, which `explain` returns, too."""

from ft_tools import facts
from ft_tools.contract import Reason


def reason(
    reason_id: str,
    observed: str | float | bool | None,
    threshold: str | float | None = None,
    **fields: str,
) -> Reason:
    """Return the reason with an id.

    Args:
        reason_id: A row of the table.
        observed: What was observed.
        threshold: The value it was compared with.
        fields: What the row's text names in braces.
    """
    row = facts.table_of("reasons.toml")[reason_id]
    rule, source = (str(row[key]).format(**fields) for key in ("rule", "source"))
    return Reason(id=reason_id, rule=rule, observed=observed, threshold=threshold, source=source)
