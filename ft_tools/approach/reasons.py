"""The row that decided, and its evidence."""

from ft_tools.approach.situation import Situation
from ft_tools.approach.table import Condition, Decision, Range, table
from ft_tools.approach.vocabulary import CONSIDERS, SETS, TRIED, UNKNOWN
from ft_tools.contract import Reason


def reasons(row: Decision, now: Situation) -> list[Reason]:
    """Return the row that decided, then its evidence."""
    facts = table()
    seen = [text for field in row.when if (text := _seen(field, now))]
    lines = [text for field, condition in row.when.items() if (text := _line(field, condition))]
    first = facts.evidence[row.evidence[0]]
    decided = Reason(
        rule=row.why,
        observed="; ".join(seen) or "no row above applies",
        threshold="; ".join(lines) or None,
        source=first.source,
    )
    cited = (facts.evidence[key] for key in row.evidence)
    return [
        decided,
        *(
            Reason(rule=each.claim, observed=f"evidence, {each.grade}", source=each.source)
            for each in cited
        ),
    ]


def _seen(field: str, now: Situation) -> str:
    if field in ("all", "any"):
        return "needs: " + ", ".join(sorted(now.needs)) if now.needs else ""
    if field == CONSIDERS:
        return "considering: " + ", ".join(sorted(now.considers))
    if field == TRIED:
        return "tried: " + ", ".join(sorted(now.tried))
    if field in SETS:
        return ""
    if field in now.choices:
        return f"{field} = {now.choices[field]}"
    value = now.numbers[field]
    return f"{field} = {UNKNOWN if value is None else f'{value:g}'}"


def _line(field: str, condition: Condition) -> str:
    if not isinstance(condition, Range):
        return ""
    thresholds = table().thresholds
    bounds = {"at least": condition.at_least, "below": condition.below}
    parts = [f"{word} {thresholds[name].value:g}" for word, name in bounds.items() if name]
    return f"{field} {' and '.join(parts)}"
