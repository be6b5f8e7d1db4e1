"""The tables of references/choosing.md, out of approaches.toml and the rules."""

from collections.abc import Callable, Iterable, Sequence

from ft_tools.anti_patterns import ANTI_PATTERNS
from ft_tools.approach.conditions import Condition, Range
from ft_tools.approach.table import table


def rendered(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def rules() -> str:
    """Give the rules: what each says, where it fires, and how it is overridden."""
    return rendered(
        ("id", "rule", "fires in", "", "override", "source"),
        [
            (
                f"`{each.id}`",
                each.rule,
                ", ".join(f"`{tool}`" for tool in each.tools),
                each.strength,
                each.override,
                f"[source]({each.source})",
            )
            for each in ANTI_PATTERNS
        ],
    )


def rows() -> str:
    """Give the decision table: conditions, approach and why."""
    lines = [(f"`{row.id}`", _when(row.when), f"`{row.approach}`", row.why) for row in table().rows]
    return rendered(("row", "if", "then", "because"), lines)


def _when(when: dict[str, Condition]) -> str:
    parts = [_condition(field, condition) for field, condition in when.items()]
    return "; ".join(parts) or "nothing above holds"


def _condition(field: str, condition: Condition) -> str:
    if isinstance(condition, Range):
        bounds = {">=": condition.at_least, "<": condition.below}
        text = " and ".join(f"{field} {sign} {name}" for sign, name in bounds.items() if name)
        return text + (" (or unknown)" if condition.unknown else "")
    if field in ("all", "any", "none"):
        return f"{field} of {', '.join(condition)}"
    return f"{field} is {' or '.join(condition)}"


def thresholds() -> str:
    """Give the thresholds of the decision table."""
    lines = [
        (f"`{name}`", f"{each.value:,.10g} {each.units}", each.why, _source(each.source))
        for name, each in table().thresholds.items()
    ]
    return rendered(("threshold", "value", "why", "source"), lines)


def evidence() -> str:
    """Give each finding, how it was read, and its source."""
    lines = [
        (each.claim, each.grade.replace("_", "-"), _source(each.source))
        for each in table().evidence.values()
    ]
    return rendered(("finding", "how read", "source"), lines)


def classics() -> str:
    """Give rules of thumb and their limits."""
    evidence = table().evidence
    lines = [
        (row.rule, row.limit, _source(evidence[row.evidence].source)) for row in table().classics
    ]
    return rendered(("rule of thumb", "its limit", "source"), lines)


def measurements() -> str:
    """Give the measurements that change a decision."""
    evidence = table().evidence
    lines = [
        (row.measure, row.result, row.then, _source(evidence[row.evidence].source))
        for row in table().measurements
    ]
    return rendered(("measure", "if it is", "then", "source"), lines)


def mistakes() -> str:
    """Give mistakes and the question that catches each."""
    evidence = table().evidence
    lines = [
        (row.mistake, row.ask, _source(evidence[row.evidence].source)) for row in table().mistakes
    ]
    return rendered(("mistake", "ask", "source"), lines)


def _source(source: str) -> str:
    return f"[source]({source})" if source.startswith("https://") else source


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each
    for each in (measurements, classics, mistakes, rules, rows, thresholds, evidence)
}
