"""recommend_approach: what was asked, answered; the path from here; what it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ft_tools.approach import advice
from ft_tools.approach.advice import MOST_NOTES, assets, duties, note_reasons, notes, reasons
from ft_tools.approach.concise import concise
from ft_tools.approach.cost import bracket, shortening
from ft_tools.approach.decision import decide, first_row, is_done, others
from ft_tools.approach.documents import documents_cost
from ft_tools.approach.facts_that_decide import weigh
from ft_tools.approach.measured import with_measurements
from ft_tools.approach.path import Rung, climb, next_steps, steps
from ft_tools.approach.questions import questions
from ft_tools.approach.report import ApproachReport, ApproachVerdict, MeasuredSystem, PathStep
from ft_tools.approach.request import MOST_CONSIDERED, ApproachRequest
from ft_tools.approach.situation import Situation, situation
from ft_tools.approach.table import table
from ft_tools.approach.table_rows import Decision
from ft_tools.approach.verdicts import beside_measured, guide, measured_words, placed, verdicts

MOST_FORKS = 2
"""Other first steps that a summary names, each with its condition."""

USUAL = "No fact decides what comes first: check that this usual order fits."

FIRST_MEASURE = "Unless it is done, first measure {}."
IF_MISSED = "{}, if what is measured first misses the target"
DECIDED_BY = "Decided by {}."

ANEW = "new this time: {}"
"""Said of a step that was done before: what was tried is not proposed again."""

HOW = "How: {}"

SHORT = 200
"""A row that says less than this is followed by what always decides whether its approach works."""


def recommend_approach(request: ApproachRequest) -> ApproachReport:
    """Recommend an approach: what was asked, answered; the path from here; what it rests on.

    Raises:
        NotFound: An evaluation, the documents or the dataset is not there.
        OutsideWorkspace: A path leaves the workspace.
    """
    request, measured = with_measurements(request)
    best = measured.best if measured else None
    answer = replace(_answer(request, best), lacks=measured.lacks if measured else "")
    row, rungs, now = answer.row, answer.rungs, answer.now
    weighed = weigh(request, decide, _reads)
    asked = questions(request, row)
    report = ApproachReport(
        summary=_summary(answer, weighed.decided_by),
        approach=row.approach,
        row=row.id,
        verdicts=answer.verdicts,
        path=steps(rungs, best),
        decided_by=list(weighed.decided_by),
        unused=[f"{fact} ({why})" for fact, why in weighed.unused.items()],
        questions=asked,
        blocked=advice.blocked(rungs, now),
        assets=assets(request, now),
        measured=measured,
        documents=documents_cost(request),
        cost_bracket=bracket(row.approach, request),
        reasons=[
            *reasons(row, now),
            *advice.terms(request, now),
            *(note_reasons(rungs, now) if request.response_format == "detailed" else []),
            *filter(None, [shortening(request)]),
        ],
        next_steps=[
            *(measured.next_steps if measured else []),
            *next_steps(row.approach, request, now),
        ],
        actions=table().approaches[row.approach].actions,
        alternatives=advice.alternatives(request, row, now),
        classic_rules=advice.classics(now),
        measurements=advice.measurements(row.approach, now),
        mistakes=advice.mistakes(row.approach, now, {question.field for question in asked}),
    )
    shorter = (_summary(answer, weighed.decided_by, each) for each in SHORTER)
    return report if request.response_format == "detailed" else concise(report, shorter)


@dataclass(frozen=True)
class Length:
    """How much a summary says beside the first step and the verdicts."""

    num_forks: int
    num_notes: int
    num_conditions: int
    """Verdicts, in the order asked, of which condition and why are said."""
    num_facts: int = 0
    """Facts that decided."""


FULL = Length(
    num_forks=MOST_FORKS, num_notes=MOST_NOTES, num_conditions=MOST_CONSIDERED, num_facts=2
)
SHORTER = [
    Length(num_forks=forks, num_notes=notes, num_conditions=conditions)
    for forks, notes, conditions in [(0, 3, 6), (0, 1, 6), (0, 1, 4), (0, 1, 2), (0, 0, 1)]
]
"""Of summaries of reports that are too long otherwise, one after the other."""

ELSEWHERE = "see response_format = detailed"


@dataclass(frozen=True)
class _Answer:
    """What a request is answered, before it is written down."""

    row: Decision
    rungs: Sequence[Rung]
    verdicts: Sequence[ApproachVerdict]
    now: Situation
    best: MeasuredSystem | None
    lacks: str = ""
    """What is asked and the dataset shows nowhere."""


def _reads(request: ApproachRequest) -> tuple[str, list[PathStep]]:
    """Return all that a reader sees of an answer."""
    answer = _answer(request)
    return _summary(answer), steps(answer.rungs)


def _answer(request: ApproachRequest, best: MeasuredSystem | None = None) -> _Answer:
    now = situation(request)
    row = first_row(now)
    rungs = climb(row, now)
    answers = verdicts(request, row, rungs, now)
    return _Answer(row, rungs, placed(beside_measured(answers, best), rungs), now, best)


def _summary(
    answer: _Answer, decided_by: Sequence[str] | None = None, length: Length = FULL
) -> str:
    """Say what to do now, why and what to measure first; answer what was asked; then say how."""
    row, rungs, now, answers = answer.row, answer.rungs, answer.now, answer.verdicts
    is_guided = any(each.approach == row.approach for each in answers)
    needs_guide = len(row.why) < SHORT and not is_guided
    return " ".join(
        [
            *filter(None, [answer.lacks]),
            *([measured_words(answer.best)] if answer.best else []),
            *_lead(answer, decided_by, length),
            *[
                _said(each, is_whole=place < length.num_conditions)
                for place, each in enumerate(answers)
            ],
            *[note.says for note in notes(rungs, now, is_last=False)[: length.num_notes]],
            HOW.format(row.why),
            *([guide(row.approach, now)] if needs_guide else []),
            *_forks(row, answers, rungs, now)[: length.num_forks],
            *[note.says for note in notes(rungs, now, is_last=True)[: length.num_notes]],
            *(d.short for d in duties(now)),
        ]
    )


def _lead(answer: _Answer, decided_by: Sequence[str] | None, length: Length) -> Sequence[str]:
    """Return at most three sentences: the first step, what decides it, what is measured first."""
    first = steps(answer.rungs, answer.best)[0]
    row = answer.row
    what = table().approaches[row.approach].summary
    if is_done(row.approach, answer.now):
        what += f" ({ANEW.format(row.anew)})"
    measured = "; ".join(first.measure_first)
    if decided_by is None:
        why = ""
    elif decided_by:
        why = DECIDED_BY.format(", ".join(decided_by[: length.num_facts]))
    else:
        why = USUAL
    said = [
        f"{IF_MISSED.format(what) if measured else what}.",
        why if length.num_facts or not decided_by else "",
        FIRST_MEASURE.format(measured) if measured else "",
    ]
    return [each for each in said if each]


def _said(answer: ApproachVerdict, *, is_whole: bool) -> str:
    """Say a verdict: on what condition, or why not; or that another report says it."""
    when = answer.condition if is_whole or not answer.condition else ELSEWHERE
    why = answer.why.rstrip(".") if answer.verdict == "no" and is_whole else ""
    return (
        f"{answer.approach}: {answer.verdict}"
        + (f", {when}" if when else "")
        + (f" ({why})." if why else ".")
    )


def _forks(
    row: Decision, answers: Sequence[ApproachVerdict], rungs: Sequence[Rung], now: Situation
) -> list[str]:
    """Say what would make another step the first one, where neither a verdict nor the path does."""
    answered = {answer.approach for answer in answers} | {rung.approach for rung in rungs[:2]}
    options = [other for other in others(row, now) if other.approach not in answered]
    return [f"Choose {other.approach} instead if {other.when}." for other in options[:MOST_FORKS]]
