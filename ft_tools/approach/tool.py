"""recommend_approach: what was asked, answered; the path from here; what it rests on."""

from collections.abc import Sequence

from ft_tools.approach import advice
from ft_tools.approach.advice import assets, duties, reasons
from ft_tools.approach.concise import concise
from ft_tools.approach.cost import bracket, shortening
from ft_tools.approach.decision import first_row, is_done, others
from ft_tools.approach.documents import documents_cost
from ft_tools.approach.measured import with_measurements
from ft_tools.approach.path import Rung, climb, next_steps, steps
from ft_tools.approach.questions import questions
from ft_tools.approach.report import ApproachReport, ApproachVerdict
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.situation import Situation, situation
from ft_tools.approach.table import Decision, table
from ft_tools.approach.verdicts import UNTRAINED, verdicts

MOST_FORKS = 2
"""Other first steps that a summary names, each with its condition."""

GENERAL = "Nothing says how answers fail, so what follows is the usual order: check that it fits."

ANEW = "New this time: {}."

SHORT = 200
"""A row that says less than this is followed by what always decides whether its approach works."""


def recommend_approach(request: ApproachRequest) -> ApproachReport:
    """Recommend an approach: what was asked, answered; the path from here; what it rests on.

    Raises:
        NotFound: An evaluation, the documents or the dataset is not there.
        OutsideWorkspace: A path leaves the workspace.
    """
    request, measured = with_measurements(request)
    now = situation(request)
    row = first_row(now)
    rungs = climb(row, now)
    answers = verdicts(request, row, rungs, now)
    asked = questions(request, row)
    report = ApproachReport(
        summary=_summary(row, answers, rungs, now),
        approach=row.approach,
        row=row.id,
        verdicts=answers,
        path=steps(rungs),
        questions=asked,
        blocked=advice.blocked(rungs, now),
        assets=assets(request, now),
        measured=measured,
        documents=documents_cost(request),
        cost_bracket=bracket(row.approach, request),
        reasons=[
            *reasons(row, now),
            *advice.terms(request, now),
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
    return report if request.response_format == "detailed" else concise(report)


def _summary(
    row: Decision, answers: Sequence[ApproachVerdict], rungs: Sequence[Rung], now: Situation
) -> str:
    """Answer what was asked, then name the first step, what would change it, and what binds."""
    said = [
        f"{answer.approach}: {answer.verdict}"
        + (f", {answer.condition}" if answer.condition else "")
        + (f" ({answer.why.rstrip('.')})" if answer.verdict == "no" and answer.why else "")
        + "."
        for answer in answers
    ]
    facts = table().approaches[row.approach]
    is_guided = any(answer.approach == row.approach for answer in answers)
    needs_guide = len(row.why) < SHORT and not is_guided
    is_guess = row.is_general and now.choices["stated"] == "no"
    general = [GENERAL] if is_guess else []
    again = [ANEW.format(row.anew)] if is_done(row.approach, now) else []
    first = " ".join(
        [*general, f"{facts.summary}.", row.why, *([facts.guide] if needs_guide else []), *again]
    )
    is_said = any(answer.condition.endswith(UNTRAINED) for answer in answers)
    before = [] if is_said else steps(rungs)[0].measure_first
    measured_first = [f"Before it, measure {'; '.join(before)}."] if before else []
    return " ".join(
        [
            *said,
            first,
            *measured_first,
            *_forks(row, answers, rungs, now),
            *(d.short for d in duties(now)),
        ]
    )


def _forks(
    row: Decision, answers: Sequence[ApproachVerdict], rungs: Sequence[Rung], now: Situation
) -> list[str]:
    """Say what would make another step the first one, where neither a verdict nor the path does."""
    answered = {answer.approach for answer in answers} | {rung.approach for rung in rungs[:2]}
    options = [other for other in others(row, now) if other.approach not in answered]
    return [f"Choose {other.approach} instead if {other.when}." for other in options[:MOST_FORKS]]
