"""What the asker proposes or asks about: now, later or no."""

from collections.abc import Mapping, Sequence

from ft_tools.approach.decision import blocks_of, holds, others, stages
from ft_tools.approach.path import Rung
from ft_tools.approach.report import ApproachVerdict
from ft_tools.approach.request import TRAINING, Approach, ApproachRequest
from ft_tools.approach.situation import Situation
from ft_tools.approach.table import UNKNOWN, BlockRow, Decision, table

NOT_CALLED_FOR = "nothing that was said calls for it"
BASELINES: Mapping[Approach, str] = {"prompting": "zero_shot", "few_shot": "few_shot"}
"""Approach -> the best prompt where it is what is used today."""

BEYOND_PROMPTS = TRAINING | {"prompt_optimization"}
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
    is_in_path = asked in [rung.approach for rung in rungs]
    if any(block.is_firm or not (block.until or is_in_path) for block in against):
        return _against(asked, against, first)
    other = next((each for each in others(row, now) if each.approach == asked), None)
    place = next((i for i, rung in enumerate(rungs) if _has(rung, asked)), None)
    if other is None and place is None and against:
        return _against(asked, against, first)
    if place is None and first in BEYOND_PROMPTS and _is_baseline(asked, now):
        return ApproachVerdict(
            approach=asked, verdict="now", condition=BASELINE, why=row.why, source=evidence
        )
    named = any(each.approach == asked for each in row.alternatives)
    own = _own_row(asked, now)
    condition = ""
    if other is not None:
        condition = f"if {other.when}"
    elif place is not None:
        condition = f"after {rungs[place - 1].approach}, if the target is still missed"
    elif own is not None and not named:
        condition = f"after {first}, if the target is still missed"
    return ApproachVerdict(
        approach=asked,
        verdict="later" if condition else "no",
        condition=condition,
        why=_why(rungs, place) or (row.why if named else own.why if own else NOT_CALLED_FOR),
        rules=rules,
        instead=first,
        source=against[0].evidence_source if against else evidence,
    )


def _own_row(asked: Approach, now: Situation) -> Decision | None:
    """Return a row for this approach whose conditions hold although another row decided.

    Training is not offered beside what decided: its last row holds wherever there are examples.
    """
    rows = (row for row in table().rows if row.approach == asked and asked not in TRAINING)
    return next((row for row in rows if holds(row.when, now)), None)


def _why(rungs: Sequence[Rung], place: int | None) -> str:
    return "" if place is None else rungs[place].why


def _has(rung: Rung, asked: Approach) -> bool:
    at_once, afterwards = stages(rung.approach, rung.now)
    return asked == rung.approach or asked in at_once or asked in afterwards


def _is_baseline(asked: Approach, now: Situation) -> bool:
    """Tell whether it is a prompt that is in use today, or none was measured yet."""
    tried = UNKNOWN if now.assumes_prompt else now.choices["prompting_tried"]
    return asked in BASELINES and tried in (UNKNOWN, BASELINES[asked])


def _against(asked: Approach, against: Sequence[BlockRow], first: Approach) -> ApproachVerdict:
    """Refuse for good if anything speaks against it for good; else name what would lift it."""
    worst = min(against, key=lambda block: (bool(block.until), not block.is_firm))
    condition = f"{'until' if worst.is_firm else 'when'} {worst.until}" if worst.until else ""
    return ApproachVerdict(
        approach=asked,
        verdict="later" if worst.until and not worst.is_firm else "no",
        condition=condition,
        why=worst.why,
        rules=[block.rule for block in against],
        instead=first,
        source=worst.evidence_source,
    )
