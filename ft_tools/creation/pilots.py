"""Earlier creations that asked the same teacher: known replies, the pilot, and its forecast.

The interval of a total covers both what the pilot's mean may be off, and what so few or many
further rows scatter by themselves: error = sd sqrt(1/n + 1/m) for the mean of m more, from n.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import Field

from ft_tools.contract import Report
from ft_tools.creation.findings import refusal
from ft_tools.creation.request import CreateRequest
from ft_tools.endpoints.budget import spent_in
from ft_tools.endpoints.spec import Price
from ft_tools.facts import number
from ft_tools.formats.training_rows import read_examples
from ft_tools.metrics.verdicts import ALPHA, normal_quantile
from ft_tools.publish import read_rows
from ft_tools.runs.state import directory

REPLIES, MEASURED, JUDGES = "replies.jsonl", "measured.jsonl", "judges.json"
CALLS = "calls.jsonl"
"""Where attempts are counted, those of judges too."""
SEARCHED_RUNS = 50
"""Newest creations that are looked at."""
UNKEYED: Mapping[str, Any] = {
    "price": True,
    "name": True,
    "endpoint": {"max_calls", "max_usd", "max_concurrency", "timeout_seconds", "key_variable"},
}
"""Of a teacher: what no reply depends on."""
UNMEASURED = {
    *("name", "request_id", "confirm", "budget_hours", "teacher", "test", "test_similarity"),
    *("output_dir", "budget_usd", "num_rows", "pilot_rows", "provider", "product_use"),
    *("validation_fraction", "accept_findings", "accept_reason"),
}
"""Of a request: what changes neither yield nor price of a prompt; the other key has the teacher."""
MARKS = {"good": True, "bad": False}


class Estimate(Report):
    """A number, and its 95% interval."""

    likely: float
    low: float
    high: float

    def plus(self, more: float) -> "Estimate":
        """Return it with a known number added."""
        return Estimate(likely=self.likely + more, low=self.low + more, high=self.high + more)


class Forecast(Report):
    """What the requests that are left will take, from a pilot."""

    CONCISE = ("kept", "completion_tokens", "usd", "usd_spent")

    pilot_run: str
    num_pilot_prompts: int
    kept: Estimate = Field(description="Rows that pass the checks, those of the pilot included.")
    completion_tokens: Estimate = Field(description="Of what is left.")
    usd: Estimate | None = Field(None, description="Of what is left; null: a price is unknown.")
    seconds: Estimate = Field(description="Of what is left, judges included.")
    usd_spent: float | None = Field(
        None, description="By earlier runs with this teacher and source: pilots and judges too."
    )


class Agreement(Report):
    """How often a judge and the user agree."""

    num_rows: int
    accuracy: Estimate
    kappa: Estimate = Field(description="Agreement beyond chance: 0 none, 1 always (Cohen).")


@dataclass(frozen=True)
class Earlier:
    """What earlier runs asked and measured."""

    key: str
    """Hash of teacher and source."""
    pilot_key: str
    """Hash of all that yield and price depend on."""
    runs: Sequence[Path] = ()
    """That asked under the first key, the newest first."""
    pilot: Path | None = None
    """That ended well, under both keys."""

    @property
    def judges(self) -> dict[str, Agreement]:
        """Return how far each judge agreed with the user in the pilot."""
        found = directory.whole_json(self.pilot / JUDGES) if self.pilot else {}
        return {name: Agreement.model_validate(one) for name, one in found.items()}

    def forecast(
        self, price: Price | None, num_prompts: int, num_more: int, at_once: int, *, is_priced: bool
    ) -> tuple[Forecast | None, float | None]:
        """Return what further prompts will take, and which part of it judges will cost.

        Args:
            price: Of the teacher.
            num_prompts: All of the plan; checks and judges read those that are not the pilot's.
            num_more: Of them, those that the teacher has to be asked.
            at_once: Requests.
            is_priced: Whether all prices are known.

        Returns:
            Null without a pilot of at least two prompts.
        """
        measured = read_rows(self.pilot / MEASURED) if self.pilot else []
        if self.pilot is None or len(measured) < 2:
            return None, None
        price, kept = price or Price(), [float(row["kept"]) for row in measured]
        costs = [price.usd_of(row["prompt_tokens"], row["tokens"]) for row in measured]
        usd, seconds, tokens = (
            total_of(values, num_more)
            for values in (
                costs,
                [row["seconds"] / at_once for row in measured],
                [float(row["tokens"]) for row in measured],
            )
        )
        num_further = max(0, num_prompts - len(measured))
        judge_usd, judge_seconds = (
            num_further * fmean(row[name] for row in measured)
            for name in ("judge_usd", "judge_seconds")
        )
        spent = sum(sum(spent_in(run / CALLS).values()) for run in self.runs)
        forecast = Forecast(
            pilot_run=self.pilot.name,
            num_pilot_prompts=len(measured),
            kept=kept_of(kept, num_further, sum(kept)),
            completion_tokens=tokens,
            usd=usd.plus(judge_usd) if is_priced else None,
            seconds=seconds.plus(judge_seconds),
            usd_spent=spent if is_priced else None,
        )
        return forecast, judge_usd / (usd.likely + judge_usd) if judge_usd else 0.0


def find_earlier(request: CreateRequest, files: Mapping[str, str]) -> Earlier:
    """Return the creations whose replies, or whose pilot, serve a request that reads some files."""
    teacher = request.teacher.model_dump(mode="json", exclude=UNKEYED) if request.teacher else None
    key = _hash([request.kind, files[request.source], teacher])
    asked = request.model_dump(mode="json", exclude=UNMEASURED)
    measured = {name: digest for name, digest in files.items() if name != request.test}
    pilot_key, runs, pilot = _hash([key, asked, measured]), list[Path](), None
    found = [run for run in directory.all_runs() if run.name.startswith("create-")]
    for run in found[:SEARCHED_RUNS]:
        plan = directory.whole_json(run / "plan.json")
        asking = plan.get("asking") or {}
        if asking.get("key") != key or not (run / REPLIES).is_file():
            continue
        runs.append(run)
        is_pilot = plan.get("pilot") and asking.get("pilot_key") == pilot_key
        if pilot is None and is_pilot and directory.read_status(run).state == "succeeded":
            pilot = run
    return Earlier(key, pilot_key, runs, pilot)


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def read_marked(path: Path) -> list[tuple[str, str, bool]]:
    """Return questions and answers that the user marked, and whether they are good.

    Raises:
        BadInput: They are too few, a label is neither good nor bad, or all are the same.
    """
    rows = []
    for line, row in read_examples(path):
        question, answer, mark = (row.get(name) for name in ("question", "answer", "label"))
        if not isinstance(question, str) or not isinstance(answer, str) or mark not in MARKS:
            raise refusal("marked_row", path=path, line=line)
        rows.append((question, answer, MARKS[str(mark)]))
    needed, good = int(number("creation.marked_rows")), sum(is_good for *_, is_good in rows)
    if len(rows) < needed or good in {0, len(rows)}:
        raise refusal("marked_too_few", path=path, num=len(rows), good=good, needed=needed)
    return rows


def total_of(values: Sequence[float], num_more: int) -> Estimate:
    """Return the sum over so many more draws like some values; at least two are needed.

    >>> total_of([2.0, 2.0, 2.0], 10)
    Estimate(likely=20.0, low=20.0, high=20.0)
    """
    # They import scipy, which a plan without a forecast does without.
    import numpy as np

    from ft_tools.metrics.means import spread_interval

    n, mean = len(values), fmean(values)
    rests = np.array(values) - mean
    spread = math.sqrt(float((rests**2).sum()) / (n - 1))
    low = high = mean
    if num_more and spread > 1e-12 * abs(mean):
        error = spread * math.sqrt(1 / n + 1 / num_more)
        low, high = spread_interval(mean, error, rests)
    return Estimate(likely=num_more * mean, low=num_more * max(0.0, low), high=num_more * high)


def kept_of(values: Sequence[float], num_more: int, num_known: float = 0) -> Estimate:
    """Return how many rows so many more prompts will yield, beside those that are known.

    The interval is Wilson's where each yields 0 or 1.

    >>> found = kept_of([1.0] * 15 + [0.0] * 5, 100)
    >>> (found.likely, round(found.low), round(found.high))
    (75.0, 51, 90)
    """
    from ft_tools.metrics.means import wilson_interval

    total = total_of(values, num_more)
    if num_more and {0.0, 1.0}.issuperset(values):
        independent = len(values) * num_more / (len(values) + num_more)
        rates = wilson_interval(fmean(values), independent, normal_quantile(1 - ALPHA / 2))
        low, high = (num_more * rate for rate in rates)
        total = Estimate(likely=total.likely, low=low, high=high)
    return total.plus(num_known)


def agreement(marks: Sequence[bool], verdicts: Sequence[bool | None]) -> Agreement:
    """Return how far verdicts agree with marks; no verdict agrees with none.

    kappa = (po - pe) / (1 - pe), with po the rate of agreement and pe that by chance.

    Source: J. Cohen, Educational and Psychological Measurement 20 (1960), 37-46

    >>> found = agreement([True] * 25 + [False] * 25, [True] * 20 + [False] * 30)
    >>> found.accuracy.likely, round(found.kappa.likely, 2)
    (0.9, 0.8)
    """
    from ft_tools.metrics.means import wilson_interval

    n, z = len(marks), normal_quantile(1 - ALPHA / 2)
    observed = sum(a == b for a, b in zip(marks, verdicts, strict=True)) / n
    good, passed, failed = sum(marks) / n, verdicts.count(True) / n, verdicts.count(False) / n
    chance = good * passed + (1 - good) * failed
    kappa = (observed - chance) / (1 - chance)
    reach = z * math.sqrt(observed * (1 - observed) / n) / (1 - chance)
    low, high = wilson_interval(observed, n, z)
    ends = {"low": max(-1.0, kappa - reach), "high": min(1.0, kappa + reach)}
    accuracy = Estimate(likely=observed, low=low, high=high)
    return Agreement(num_rows=n, accuracy=accuracy, kappa=Estimate(likely=kappa, **ends))
