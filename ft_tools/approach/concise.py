"""A report within the tokens that an agent should spend on it."""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from ft_tools.approach.path import own_for
from ft_tools.approach.report import ApproachReport
from ft_tools.approach.table import table
from ft_tools.contract import without_empty

MOST_TOKENS = 900
CHARACTERS_PER_TOKEN = 4
"""Of JSON in English; a usual estimate."""

MOST_OPTIONS = 2
MOST_BLOCKS = 3
LONG_CONDITION = 120
"""Characters; shorter ones stay, since what is allowed on a condition has to say it."""


def concise(report: ApproachReport, summaries: Iterable[str] = ()) -> ApproachReport:
    """Drop what is said elsewhere in the report, then what matters least, until it is short enough.

    Evidence, GPU time, rules of thumb, measurements and mistakes are in detailed reports.

    Args:
        report: The whole report.
        summaries: Shorter summaries, for where nothing else is left to drop; the last one has to
            be short enough whatever was asked.
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
    shorter = (_with_summary(each) for each in summaries)
    for shorten in chain(SHORTENINGS, shorter):
        if tokens(short) <= MOST_TOKENS:
            break
        short = short.model_copy(update=shorten(short))
    return short


def _with_summary(summary: str) -> Callable[[ApproachReport], dict[str, object]]:
    return lambda report: {"summary": summary}


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


def _later(report: ApproachReport, **update: str) -> dict[str, object]:
    """Change every step of the path but the first."""
    later = [step.model_copy(update=update) for step in report.path[1:]]
    return {"path": [*report.path[:1], *later]}


def _why_of_the_summary(report: ApproachReport) -> dict[str, object]:
    """Leave out why the first step is first: the summary says it, too."""
    first, *later = report.path
    return {"path": [first.model_copy(update={"why": ""}), *later]}


def _first_lead(report: ApproachReport) -> dict[str, object]:
    """Keep of each question the first approach that an answer would lead to."""
    questions = [
        each.model_copy(update={"would_lead_to": each.would_lead_to[:1]})
        for each in report.questions
    ]
    return {"questions": questions}


def _reasonless_calls(report: ApproachReport) -> dict[str, object]:
    """Leave out what calls are for, and keep which of their files are stand-ins."""
    kept = [step.model_copy(update={"why": own_for(step.arguments)}) for step in report.next_steps]
    return {"next_steps": kept}


def _what_verdicts_leave_open(report: ApproachReport) -> dict[str, object]:
    """Drop blocks and assets where verdicts answer what was asked."""
    return {"blocked": [], "assets": report.assets[:1]} if report.verdicts else {}


def _sources_of_first_verdicts(
    report: ApproachReport, most: int = MOST_BLOCKS
) -> dict[str, object]:
    """Keep the evidence of the first verdicts; all of it is in detailed reports."""
    unsourced = [
        each.model_copy(update={"source": "", "rules": []}) for each in report.verdicts[most:]
    ]
    return {"verdicts": [*report.verdicts[:most], *unsourced]}


def _whys_of_conditions(report: ApproachReport) -> dict[str, object]:
    """Keep the why of what is refused; elsewhere the condition says what to do."""
    kept = [
        each.model_copy(update={"why": "" if each.condition else each.why})
        for each in report.verdicts
    ]
    return {"verdicts": kept}


def _conditions_of_the_summary(
    report: ApproachReport, longer_than: int = LONG_CONDITION
) -> dict[str, object]:
    """Leave out a long condition that the summary has."""
    kept = [
        each.model_copy(update={"condition": ""})
        if len(each.condition) > longer_than and each.condition in report.summary
        else each
        for each in report.verdicts
    ]
    return {"verdicts": kept}


def _unused_without_whys(report: ApproachReport) -> dict[str, object]:
    return {"unused": [each.split(" (")[0] for each in report.unused]}


def _reason_without_values(report: ApproachReport) -> dict[str, object]:
    short = [
        each.model_copy(update={"observed": "", "threshold": None}) for each in report.reasons[:1]
    ]
    return {"reasons": short}


def _answers_without_whys(report: ApproachReport) -> dict[str, object]:
    """Leave the answers to the summary, which says the why of what is refused."""
    return {"verdicts": [each.model_copy(update={"why": ""}) for each in report.verdicts]}


def _cost_without_words(report: ApproachReport) -> dict[str, object]:
    return {"cost_bracket": report.cost_bracket.model_copy(update={"running": ""})}


SHORTENINGS: Sequence[Callable[[ApproachReport], dict[str, object]]] = (
    lambda report: {"alternatives": []},
    lambda report: {"blocked": report.blocked[:1]},
    _first_lead,
    lambda report: {"assets": report.assets[:2]},
    lambda report: {"next_steps": report.next_steps[:1]},
    lambda report: _later(report, data=""),
    _reasonless_calls,
    _what_verdicts_leave_open,
    lambda report: _later(report, effort=""),
    lambda report: {"reasons": report.reasons[:1]},
    _why_of_the_summary,
    lambda report: {"questions": report.questions[:2]},
    lambda report: {"path": report.path[:4]},
    _unused_without_whys,
    _sources_of_first_verdicts,
    lambda report: {"path": report.path[:3]},
    _whys_of_conditions,
    lambda report: {"questions": report.questions[:1]},
    lambda report: {"path": report.path[:2]},
    lambda report: {"assets": [], "blocked": []},
    lambda report: _later(report, data="", cost=""),
    lambda report: {"questions": []},
    _conditions_of_the_summary,
    lambda report: _sources_of_first_verdicts(report, most=1),
    lambda report: {"unused": []},
    lambda report: _later(report, stop_if=""),
    _reason_without_values,
    lambda report: _conditions_of_the_summary(report, longer_than=0),
    lambda report: _sources_of_first_verdicts(report, most=0),
    _answers_without_whys,
    lambda report: {"next_steps": []},
    lambda report: {"decided_by": report.decided_by[:MOST_BLOCKS]},
    _cost_without_words,
    lambda report: {"documents": None},
    lambda report: {"measured": None},
)
"""What is dropped, in this order, until the report is short enough."""
