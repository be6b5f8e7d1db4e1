"""What CI requires of an evaluation: read before the run, checked against the report after it.

`improved:METRIC`, `not_regressed:METRIC`, `at_least:METRIC:VALUE`, `at_most:METRIC:VALUE`, and
`not_regressed` alone, which applies to every metric, general ability included unless its loss was
accepted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ft_tools.errors import BadInput
from ft_tools.evaluation.report import GENERAL_LOSS, EvaluationReport
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

    def holds(self, value: float, verdict: str = "") -> bool:
        """Return whether a measured value, or the verdict on a change, is as required."""
        if self.rule in BOUNDS:
            return value >= self.value if self.rule == "at_least" else value <= self.value
        return verdict == "improved" if self.rule == "improved" else verdict != "regressed"

    def require_measured(self, measured: Iterable[str]) -> None:
        """Raise where the metric is not among those that were measured."""
        names = sorted(measured)
        if self.metric and self.metric not in names:
            raise BadInput(
                f"requirement {self.text!r}: {self.metric!r} was not measured; measured: "
                f"{', '.join(names) or 'none'}"
            )


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
        scores = report.systems[0].scores
        found = {name: (score.value, "", score.words) for name, score in scores.items()}
    else:
        rows = [*report.general_ability, *report.decisive]
        found = {r.metric: (r.tuned, r.verdict, f"{r.words}, {r.change}") for r in rows}
    has_accepted = GENERAL_LOSS in report.accepted
    accepted = {row.metric for row in report.general_ability if has_accepted}
    lines = []
    for one in requirements:
        if report.alone and one.rule in VERDICTS:
            raise BadInput(
                f"requirement {one.text!r}: one system was measured and nothing compared; pass "
                "`baseline`, or require at_least:METRIC:VALUE"
            )
        one.require_measured(found)
        for name in [one.metric] if one.metric else found:
            value, verdict, words = found[name]
            if not one.holds(value, verdict) and (one.metric or name not in accepted):
                lines.append(f"{one.text}: {name} {words}")
    return lines
