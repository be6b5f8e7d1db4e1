"""Ids in `accept_findings` of a launch: a misspelt one accepts nothing, and nobody would notice."""

from collections.abc import Sequence

from ft_tools import anti_patterns
from ft_tools.data.judge.findings import RULES
from ft_tools.errors import UnknownName

LAUNCHES = {"launch_sft", "launch_dpo", "launch_grpo"}
REASONS = ("contradictions",)
"""Of a verdict on data, beside the audit's findings."""


def require_known(ids: Sequence[str]) -> None:
    """Refuse an id that is no rule that a launch asks about, and no finding of an audit.

    Raises:
        UnknownName: With the nearest ids, and the rules by which launches are refused.
    """
    overridable = [
        rule for rule in anti_patterns.rules().values() if "accept_findings" in rule.override
    ]
    known = {*(rule.id for rule in overridable), *RULES, *REASONS}
    asked = sorted(rule.id for rule in overridable if LAUNCHES & set(rule.tools))
    for one in ids:
        if one not in known:
            kinds = f"rules of launches: {', '.join(asked)}; or ids of the audit's findings"
            raise UnknownName("id in accept_findings", one, known, kinds)
