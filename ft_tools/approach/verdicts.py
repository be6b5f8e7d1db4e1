"""What the asker proposes or asks about: now, later or no."""

from collections.abc import Sequence

from ft_tools.approach.decision import blocks_of
from ft_tools.approach.path import Rung
from ft_tools.approach.report import ApproachVerdict
from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.approach.situation import Situation
from ft_tools.approach.table import BlockRow, Decision, table

NOT_CALLED_FOR = "nothing that was said calls for it"


def verdicts(
    request: ApproachRequest, row: Decision, rungs: Sequence[Rung], now: Situation
) -> list[ApproachVerdict]:
    """Answer each approach that is considered, in the order asked."""
    return [_verdict(asked, row, rungs, now) for asked in dict.fromkeys(request.considering)]


def _verdict(
    asked: Approach, row: Decision, rungs: Sequence[Rung], now: Situation
) -> ApproachVerdict:
    against = blocks_of(asked, now)
    rules = [block.rule for block in against]
    evidence = table().evidence[row.evidence[0]].source
    first = rungs[0].approach
    parts = table().approaches[first].parts
    if asked == first or asked in parts.now:
        what = "" if asked == first else f"as part of {first}"
        return ApproachVerdict(
            approach=asked, verdict="now", condition=what, why=row.why, rules=rules, source=evidence
        )
    if asked in parts.later:
        return ApproachVerdict(
            approach=asked,
            verdict="later",
            condition=f"after the first stage of {first}",
            why=row.why,
            rules=rules,
            source=evidence,
        )
    lasting = [block for block in against if not block.until]
    if lasting and asked not in [rung.approach for rung in rungs]:
        return _against(asked, against, first)
    other = next((each for each in row.alternatives if each.approach == asked), None)
    place = next((i for i, rung in enumerate(rungs) if _has(rung.approach, asked)), None)
    if other is None and place is None and against:
        return _against(asked, against, first)
    condition = ""
    if other is not None:
        condition = f"if {other.when}"
    elif place is not None:
        condition = f"after {rungs[place - 1].approach}, if the target is still missed"
    return ApproachVerdict(
        approach=asked,
        verdict="later" if condition else "no",
        condition=condition,
        why=rungs[place].why if place is not None else row.why if other else NOT_CALLED_FOR,
        rules=rules,
        instead=first,
        source=against[0].evidence_source if against else evidence,
    )


def _has(approach: Approach, asked: Approach) -> bool:
    parts = table().approaches[approach].parts
    return asked == approach or asked in parts.now or asked in parts.later


def _against(asked: Approach, against: Sequence[BlockRow], first: Approach) -> ApproachVerdict:
    """Refuse for good if anything speaks against it for good; else name what would lift it."""
    worst = next((block for block in against if not block.until), against[0])
    return ApproachVerdict(
        approach=asked,
        verdict="later" if worst.until else "no",
        condition=f"when {worst.until}" if worst.until else "",
        why=worst.why,
        rules=[block.rule for block in against],
        instead=first,
        source=worst.evidence_source,
    )
