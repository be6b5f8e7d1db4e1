"""What CI requires of an evaluation: read before the run, checked against the report after it.

`improved:METRIC`, `not_regressed:METRIC`, `at_least:METRIC:VALUE`, `at_most:METRIC:VALUE`, and
`not_regressed` alone, which applies to every metric, general ability included unless its loss was
accepted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ft_tools.errors import BadInput
from ft_tools.evaluation.report import GENERAL_LOSS, Comparison, EvaluationReport
from ft_tools.metrics.table import named

VERDICTS = {"improved", "not_regressed"}
BOUNDS = {"at_least", "at_most"}


@dataclass(frozen=True)
class Requirement:
    """One condition; `metric` is empty for all of them, `value` is the bound where there is one."""

    text: str
    rule: str
    metric: str
    value: float = 0.0


def read_requirement(text: str) -> Requirement:
    """Read a requirement.

    Raises:
        BadInput: It has none of the allowed forms.

    >>> read_requirement("at_least:rouge:0.4")
    Requirement(text='at_least:rouge:0.4', rule='at_least', metric='rougeL', value=0.4)
    """
    rule, _, rest = text.partition(":")
    # A task of lm-eval may have colons in its name; a bound is what follows the last one.
    metric, _, bound = rest.rpartition(":") if rule in BOUNDS else (rest, "", "")
    try:
        value = float(bound or 0)
    except ValueError:
        value = float("nan")
    complete = (metric and bound) if rule in BOUNDS else (metric or rule == "not_regressed")
    if rule not in VERDICTS | BOUNDS or not complete or value != value:
        raise BadInput(
            f"requirement {text!r} is not valid; allowed: improved:METRIC, "
            "not_regressed[:METRIC], at_least:METRIC:VALUE, at_most:METRIC:VALUE"
        )
    return Requirement(text, rule, named(metric), value)


def unmet(report: EvaluationReport, requirements: Sequence[Requirement]) -> list[str]:
    """Check the requirements.

    Returns:
        One line per requirement that is not met.

    Raises:
        BadInput: A requirement names a metric that was not measured, or a change where nothing was
            compared.
    """
    if report.alone:
        return _unmet_alone(report, requirements)
    rows = {r.metric: r for r in [*report.general_ability, *report.benchmarks, *report.comparisons]}
    has_accepted = GENERAL_LOSS in report.accepted
    accepted = {row.metric for row in report.general_ability if has_accepted}
    return [
        f"{one.text}: {row.metric} {row.verdict.replace('_', ' ')}, {row.change}"
        for one in requirements
        for row in _asked(one, rows)
        if not _holds(one, row) and (one.metric or row.metric not in accepted)
    ]


def _unmet_alone(report: EvaluationReport, requirements: Sequence[Requirement]) -> list[str]:
    """Check the bounds on the scores of one system."""
    scores = report.systems[0].scores if report.systems else {}
    lines = []
    for one in requirements:
        if one.rule in VERDICTS:
            raise BadInput(
                f"requirement {one.text!r}: one system was measured and nothing compared; pass "
                "`baseline`, or require at_least:METRIC:VALUE"
            )
        _require_measured(one, scores)
        score = scores[one.metric]
        if not _is_within(one, score.value):
            lines.append(f"{one.text}: {one.metric} {score.words}")
    return lines


def _require_measured(one: Requirement, measured: Iterable[str]) -> None:
    if one.metric not in measured:
        known = ", ".join(sorted(measured)) or "none"
        raise BadInput(
            f"requirement {one.text!r}: {one.metric!r} was not measured; measured: {known}"
        )


def _is_within(one: Requirement, value: float) -> bool:
    return value >= one.value if one.rule == "at_least" else value <= one.value


def _asked(one: Requirement, rows: Mapping[str, Comparison]) -> list[Comparison]:
    if not one.metric:
        return list(rows.values())
    _require_measured(one, rows)
    return [rows[one.metric]]


def _holds(one: Requirement, row: Comparison) -> bool:
    if one.rule in BOUNDS:
        return _is_within(one, row.tuned)
    return row.verdict == "improved" if one.rule == "improved" else row.verdict != "regressed"
