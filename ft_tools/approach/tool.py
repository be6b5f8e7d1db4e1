"""recommend_approach: the cheapest approach that is likely to be enough, and what it rests on."""

from ft_tools.approach.advice import alternatives, blocked, classics, measurements, mistakes
from ft_tools.approach.cost import bracket, shortening
from ft_tools.approach.decision import first_row
from ft_tools.approach.next_steps import next_steps
from ft_tools.approach.questions import questions
from ft_tools.approach.reasons import reasons
from ft_tools.approach.report import ApproachReport
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.situation import situation
from ft_tools.approach.table import table


def recommend_approach(request: ApproachRequest) -> ApproachReport:
    """Recommend the cheapest approach likely to fix the model's answers, training or not.

    Returns one approach with its evidence and cost bracket, alternatives and when they are better,
    what not to do, and the questions whose answers would change it. Does not read data; use
    audit_dataset for that.
    """
    now = situation(request, table().needs)
    row = first_row(now)
    facts = table().approaches[row.approach]
    asked = questions(request, row)
    return ApproachReport(
        approach=row.approach,
        row=row.id,
        summary=f"{facts.summary}. {row.why}",
        actions=facts.actions,
        alternatives=alternatives(request, row, now),
        blocked=blocked(row, now),
        questions=asked,
        classic_rules=classics(now),
        measurements=measurements(row.approach, now),
        mistakes=mistakes(row.approach, now, {question.field for question in asked}),
        cost_bracket=bracket(row.approach, request),
        reasons=[*reasons(row, now), *filter(None, [shortening(request)])],
        next_steps=next_steps(row.approach, request, now),
    )
