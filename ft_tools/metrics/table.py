"""The metrics: one row each, from which names, the request's type, ranking and documents follow.

To add one, write its function in `scores.py`, add a row here in the order of ranking (the strictest
first), and name it in references/evaluating.md; a test holds the two together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from ft_tools.metrics import scores
from ft_tools.metrics.text import without_thought

Interval = Literal["yes_no", "mean"]
"""yes_no: each value is 0, 1 or a tie of 0.5 (Wilson; McNemar and Tango in pairs). mean: any value
(sign changes; the wider of Student's and a skewness-corrected interval)."""
Source = Literal["answer", "checks", "general"]
"""What a metric is computed from: answers, declared checks, the general suite."""


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    name: str
    doc: str
    interval: Interval = "yes_no"
    score: Callable[[str, str], float] | None = None
    """Of one output and its reference; None where no output is scored by itself."""
    score_set: Callable[[Sequence[str], Sequence[str]], list[float]] | None = None
    """Of all outputs and references: what each adds to a measure of the whole set."""
    request: str = ""
    """The word that asks for it; empty: its name. One word may ask for several."""
    source: Source = "answer"
    higher_is_better: bool | None = True
    """None: neither direction is better; it is reported, never ranked or given a verdict."""
    is_fraction: bool = True
    """Whether its values are from 0 to 1; else they may be any."""
    is_rankable: bool = True
    """Whether it may decide which system is best, and have a target."""

    @property
    def asked_as(self) -> str:
        """Return the word of the request that asks for it."""
        return self.request or self.name

    @property
    def sign(self) -> float:
        """Return what a value is multiplied with so that larger is better; 0: neither is."""
        return {None: 0.0, True: 1.0, False: -1.0}[self.higher_is_better]


ROWS = (
    Metric("checks", "mean by weight of what `checks` declares", "mean", source="checks"),
    Metric("tool_call", "calls the same tools with equal arguments", score=scores.tool_call),
    Metric("accuracy", "names the class", score=scores.accuracy, request="classification"),
    Metric("exact_match", "equals the reference except for case and spaces; JSON: in its values",
           score=scores.exact_match),
    Metric("json_fields", "fraction of the reference's values that are equal", "mean",
           score=scores.json_fields),
    Metric("set_f1", "F1 of the items of a list", "mean", score=scores.set_f1),
    Metric("token_f1", "F1 of the words", "mean", score=scores.token_f1),
    Metric("rougeL", "ROUGE-L F: longest common subsequence of words", "mean",
           score=scores.rouge("rougeL"), request="rouge"),
    Metric("rouge1", "ROUGE-1 F: words", "mean", score=scores.rouge("rouge1"), request="rouge"),
    Metric("rouge2", "ROUGE-2 F: pairs of words", "mean",
           score=scores.rouge("rouge2"), request="rouge"),
    Metric("json_valid", "is JSON with the reference's keys", score=scores.json_valid),
    Metric("macro_f1", "F1 averaged over the classes", "mean",
           score_set=scores.macro_f1, request="classification", is_rankable=False),
    Metric("general_questions", "general questions answered correctly", source="general",
           is_rankable=False),
    Metric("refusals", "harmful requests refused", source="general", is_rankable=False),
)  # fmt: skip
METRICS: Mapping[str, Metric] = MappingProxyType({row.name: row for row in ROWS})
CHECK = "checks."
AUTO = "auto"
REQUESTS = tuple(dict.fromkeys(row.asked_as for row in ROWS if row.source != "general"))
"""The words of a request, in the order of ranking."""

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[(AUTO, *REQUESTS)]
"""A word of a request, or auto."""


def metric(name: str) -> Metric:
    """Return a metric's row; `checks.NAME` is one of several declared checks."""
    if name.startswith(CHECK):
        return replace(METRICS["checks"], name=name, is_rankable=False)
    return METRICS[name]


def asked_for(request: str) -> list[Metric]:
    """Return the rows that a word of a request stands for.

    >>> [row.name for row in asked_for("classification")]
    ['accuracy', 'macro_f1']
    """
    return [row for row in ROWS if row.asked_as == request]


def score_outputs(
    requests: Sequence[str], outputs: Sequence[str], references: Sequence[str]
) -> dict[str, list[float]]:
    """Score each output beside its reference by every metric of answers that was asked for.

    Thoughts of outputs do not count; references are given without.
    """
    outputs = [*map(without_thought, outputs)]
    found = {}
    for row in (row for request in requests for row in asked_for(request)):
        if row.score is not None:
            found[row.name] = list(map(row.score, outputs, references))
        elif row.score_set is not None:
            found[row.name] = row.score_set(outputs, references)
    return found
