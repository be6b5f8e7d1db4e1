"""A report within the tokens that an agent should spend on it."""

import json
from collections.abc import Callable, Sequence

from ft_tools.approach.report import ApproachReport
from ft_tools.approach.table import table
from ft_tools.contract import without_empty

MOST_TOKENS = 900
CHARACTERS_PER_TOKEN = 4
"""Of JSON in English; a usual estimate."""

MOST_OPTIONS = 2
MOST_BLOCKS = 3


def concise(report: ApproachReport) -> ApproachReport:
    """Drop what is said elsewhere in the report, then what matters least, until it is short enough.

    Evidence, GPU time, rules of thumb, measurements and mistakes are in detailed reports.
    """
    bracket = {"gpu_time": None, "time": "", "data": "", "source": ""}
    short = report.model_copy(
        update={
            "blocked": _blocked(report),
            "alternatives": report.alternatives[:MOST_OPTIONS],
            "cost_bracket": report.cost_bracket.model_copy(update=bracket),
            "reasons": [_short_reason(report), *report.reasons[1 + _num_evidence(report) :]],
            "verdicts": _verdicts(report),
            "actions": [],
            "classic_rules": [],
            "measurements": [],
            "mistakes": [],
        }
    )
    for shorten in SHORTENINGS:
        if tokens(short) <= MOST_TOKENS:
            break
        short = shorten(short)
    return short


def tokens(report: ApproachReport) -> float:
    """Estimate the tokens of a report as an agent receives it."""
    text = json.dumps(without_empty(report.model_dump(mode="json")))
    return len(text) / CHARACTERS_PER_TOKEN


def _blocked(report: ApproachReport) -> list[object]:
    """Keep one block for each approach that no verdict covers."""
    answered = {answer.approach for answer in report.verdicts}
    first = {block.approach: block for block in reversed(report.blocked)}
    kept = [block for block in reversed(first.values()) if block.approach not in answered]
    return [block.model_copy(update={"source": ""}) for block in kept[:MOST_BLOCKS]]


def _short_reason(report: ApproachReport) -> object:
    """Name the row that decided; its sentence is the first step's `why`."""
    first = report.reasons[0]
    seen = [part for part in str(first.observed).split("; ") if not part.startswith("needs: ")]
    return first.model_copy(
        update={"rule": f"row {report.row}", "observed": "; ".join(seen) or first.observed}
    )


def _num_evidence(report: ApproachReport) -> int:
    return next(len(row.evidence) for row in table().rows if row.id == report.row)


def _verdicts(report: ApproachReport) -> list[object]:
    """Leave out a `why` that the path has."""
    said = {step.why for step in report.path}
    return [
        answer.model_copy(update={"why": "" if answer.why in said else answer.why})
        for answer in report.verdicts
    ]


def _without_options(report: ApproachReport) -> ApproachReport:
    return report.model_copy(update={"alternatives": []})


def _with_one_block(report: ApproachReport) -> ApproachReport:
    return report.model_copy(update={"blocked": report.blocked[:1]})


def _with_two_assets(report: ApproachReport) -> ApproachReport:
    return report.model_copy(update={"assets": report.assets[:2]})


def _with_one_next_step(report: ApproachReport) -> ApproachReport:
    return report.model_copy(update={"next_steps": report.next_steps[:1]})


def _with_short_questions(report: ApproachReport) -> ApproachReport:
    """Keep of each question the first approach that an answer would lead to."""
    short = [
        each.model_copy(update={"would_lead_to": each.would_lead_to[:1]})
        for each in report.questions
    ]
    return report.model_copy(update={"questions": short})


def _with_two_questions(report: ApproachReport) -> ApproachReport:
    return report.model_copy(update={"questions": report.questions[:2]})


def _with_what_verdicts_leave_open(report: ApproachReport) -> ApproachReport:
    """Drop blocks and assets where verdicts answer what was asked."""
    if not report.verdicts:
        return report
    return report.model_copy(update={"blocked": [], "assets": report.assets[:1]})


def _with_three_verdict_sources(report: ApproachReport) -> ApproachReport:
    """Keep the evidence of the first verdicts; all of it is in detailed reports."""
    short = [
        each if place < MOST_BLOCKS else each.model_copy(update={"source": "", "rules": []})
        for place, each in enumerate(report.verdicts)
    ]
    return report.model_copy(update={"verdicts": short})


def _with_data_of_the_first_step(report: ApproachReport) -> ApproachReport:
    later = [step.model_copy(update={"data": ""}) for step in report.path[1:]]
    return report.model_copy(update={"path": [*report.path[:1], *later]})


def _with_effort_of_the_first_step(report: ApproachReport) -> ApproachReport:
    later = [step.model_copy(update={"effort": ""}) for step in report.path[1:]]
    return report.model_copy(update={"path": [*report.path[:1], *later]})


def _without_reasons_of_calls(report: ApproachReport) -> ApproachReport:
    calls = [step.model_copy(update={"why": ""}) for step in report.next_steps]
    return report.model_copy(update={"next_steps": calls})


def _with_four_steps(report: ApproachReport) -> ApproachReport:
    return report.model_copy(update={"path": report.path[:4]})


def _with_three_steps(report: ApproachReport) -> ApproachReport:
    return report.model_copy(update={"path": report.path[:3]})


SHORTENINGS: Sequence[Callable[[ApproachReport], ApproachReport]] = (
    _without_options,
    _with_one_block,
    _with_short_questions,
    _with_two_assets,
    _with_one_next_step,
    _with_data_of_the_first_step,
    _without_reasons_of_calls,
    _with_what_verdicts_leave_open,
    _with_two_questions,
    _with_three_verdict_sources,
    _with_effort_of_the_first_step,
    _with_four_steps,
    _with_three_steps,
)
