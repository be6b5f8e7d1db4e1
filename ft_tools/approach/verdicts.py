"""What the asker proposes or asks about: now, later or no."""

from collections.abc import Sequence

from ft_tools.approach.decision import blocks_of, others, stages
from ft_tools.approach.path import Rung
from ft_tools.approach.report import ApproachVerdict
from ft_tools.approach.request import TRAINING, Approach, ApproachRequest
from ft_tools.approach.situation import Situation
from ft_tools.approach.table import BlockRow, Decision, table
from ft_tools.approach.vocabulary import UNKNOWN

NOT_CALLED_FOR = "nothing that was said calls for it"
BASELINES: frozenset[Approach] = frozenset({"prompting", "few_shot"})
BASELINE = "as the baseline, measured before anything is trained"


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
    at_once, afterwards = stages(first, now)
    if asked == first or asked in at_once:
        what = "" if asked == first else f"as part of {first}"
        return ApproachVerdict(
            approach=asked, verdict="now", condition=what, why=row.why, rules=rules, source=evidence
        )
    if asked in afterwards:
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
    other = next((each for each in others(row, now) if each.approach == asked), None)
    place = next((i for i, rung in enumerate(rungs) if _has(rung, asked)), None)
    if other is None and place is None and against:
        return _against(asked, against, first)
    if asked in BASELINES and place is None and first in TRAINING and _is_unmeasured(now):
        return ApproachVerdict(
            approach=asked, verdict="now", condition=BASELINE, why=row.why, source=evidence
        )
    named = any(each.approach == asked for each in row.alternatives)
    condition = ""
    if other is not None:
        condition = f"if {other.when}"
    elif place is not None:
        condition = f"after {rungs[place - 1].approach}, if the target is still missed"
    return ApproachVerdict(
        approach=asked,
        verdict="later" if condition else "no",
        condition=condition,
        why=rungs[place].why if place is not None else row.why if named else NOT_CALLED_FOR,
        rules=rules,
        instead=first,
        source=against[0].evidence_source if against else evidence,
    )


def _has(rung: Rung, asked: Approach) -> bool:
    at_once, afterwards = stages(rung.approach, rung.now)
    return asked == rung.approach or asked in at_once or asked in afterwards


def _is_unmeasured(now: Situation) -> bool:
    return now.assumes_prompt or now.choices["prompting_tried"] == UNKNOWN


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
