"""How an evaluation asked the model that is shipped: what is shipped has to be asked the same way.

The newest evaluation of a run is found by itself; another one is named in the request.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ft_tools import workspace
from ft_tools.contract import Report
from ft_tools.errors import BadInput, FineTuningError
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.metrics.table import METRICS
from ft_tools.metrics.verdicts import TargetVerdict
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import sha256
from ft_tools.runs.state import directory

# How many evaluations are searched, the newest first.
SEARCHED_RUNS = 50


class MeasuredAs(Report):
    """The evaluation whose settings are shipped. No text of it is in here."""

    evaluation: str = Field(description="Run id.")
    system: str = Field(description="Name of the system there.")
    max_new_tokens: int = Field(description="Longest answer, in tokens.")
    json_schema: str | None = Field(None, description="JSON Schema file of its answers.")
    json_schema_sha256: str | None = None
    num_shots: int = Field(0, description="Few-shot examples in each prompt; not shipped.")
    metric: str = Field("", description="The evaluation's main metric.")
    value: float | None = Field(None, description="What the model scored there.")
    ci_low: float | None = None
    ci_high: float | None = None
    num_examples: int = 0
    target: dict[str, float] = Field(default_factory=dict, description="Metric -> needed value.")
    verdict: TargetVerdict | None = Field(None, description="Of the target; null: there was none.")

    def sentence(self) -> str:
        """Return what the tuned model scored, and whether that met the target; empty if unknown."""
        if self.value is None:
            return ""
        interval = f" [{self.ci_low:.3g}, {self.ci_high:.3g}]" if self.ci_low is not None else ""
        said = f"{self.evaluation} measured {self.metric} {self.value:.3g}{interval} on "
        said += f"{self.num_examples} held-out examples"
        if self.verdict is None:
            return f"{said}."
        wanted = ", ".join(f"{name} {value:g}" for name, value in self.target.items())
        verdict = {"met": "is met", "not_met": "is NOT met", "not_shown": "is not shown to be met"}
        return f"{said}; the target ({wanted}) {verdict[self.verdict]}."


def dataset_of(measured: MeasuredAs) -> str | None:
    """Return the file that an evaluation measured on; None where it is no longer there."""
    with contextlib.suppress(FineTuningError):
        request = directory.whole_json(directory.find(measured.evaluation) / "request.json")
        path = request.get("dataset")
        if isinstance(path, str) and workspace.existing(path).is_file():
            return path
    return None


def measured_as(source: ModelSource, evaluation: str | None) -> MeasuredAs | None:
    """Find how a model was asked when it was measured.

    Args:
        source: What is shipped.
        evaluation: Run id of an evaluation; None: the newest one of a run, if there is any.

    Raises:
        BadInput: The evaluation did not measure this model, or its schema changed since.
        NotFound: There is no such run.
    """
    if evaluation is not None:
        found = next(_systems(directory.find(evaluation), source), None)
        if found is None:
            raise BadInput(
                f"evaluation {evaluation!r} has no result for {source.name!r}, or its schema file "
                "changed since; pass a finished evaluation of this model, or leave `evaluation` out"
            )
        return found
    if source.run_id is None:
        return None
    reports = workspace.runs_dir().glob("evaluate-*/report.json")
    newest = sorted(reports, key=lambda path: -path.stat().st_mtime)[:SEARCHED_RUNS]
    return next((one for path in newest for one in _systems(path.parent, source)), None)


def spec_of(measured: MeasuredAs) -> SystemSpec:
    """Return the system as the evaluation's request has it."""
    text = (directory.find(measured.evaluation) / "request.json").read_text(encoding="utf-8")
    request = EvaluateRequest.model_validate_json(text)
    return next(spec for spec in request.all_systems() if spec.name == measured.system)


def _systems(run_dir: Path, source: ModelSource) -> Iterator[MeasuredAs]:
    """Give the systems of an evaluation that are this model, the best one first."""
    plan, report = (directory.whole_json(run_dir / f"{name}.json") for name in ("plan", "report"))
    count = int(plan.get("num_examples") or 0)
    systems = (plan.get("systems") or ()) if report else ()
    own = [system for system in systems if _is_source(system, source)]
    for system in sorted(own, key=lambda one: -_score(report, str(one.get("name")))):
        try:
            yield _described(run_dir.name, system).model_copy(
                update=_scored(report, str(system["name"])) | {"num_examples": count}
            )
        except (FineTuningError, OSError, ValidationError, StopIteration):
            # A run of an older version, or its schema is not what it was.
            continue


def _is_source(system: Any, source: ModelSource) -> bool:
    model = system.get("model") if isinstance(system, dict) else None
    if not isinstance(model, dict):
        return False
    return (model.get("load_from"), model.get("adapter")) == (source.load_from, source.adapter)


def _score(report: dict[str, Any], name: str) -> float:
    """Return a system's main metric, larger for better; 0 where there is none."""
    found = _scored(report, name)
    metric = found.get("metric")
    sign = METRICS[str(metric)].sign if metric in METRICS else 1.0
    return sign * float(found.get("value") or 0.0)


def _scored(report: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what a report says of a system: its main metric, and the target's verdict."""
    metric = str(report.get("main_metric") or "")
    for system in report.get("systems") or ():
        score = (system.get("scores") or {}).get(metric)
        if system.get("name") == name and isinstance(score, dict):
            found = {key: score.get(key) for key in ("value", "ci_low", "ci_high")}
            target = {"target": report.get("target") or {}, "verdict": system.get("target")}
            return {"metric": metric, **found, **target}
    return {}


def _described(evaluation: str, system: dict[str, Any]) -> MeasuredAs:
    found = MeasuredAs(
        evaluation=evaluation,
        system=str(system["name"]),
        max_new_tokens=int(system["max_new_tokens"]),
    )
    spec = spec_of(found)
    schema = spec.decoding.json_schema
    digest = None
    if schema is not None:
        path = workspace.existing(schema)
        digest = sha256(path)
        json.loads(path.read_bytes())
        if digest != (system.get("files_sha256") or {}).get(schema):
            raise BadInput(f"{schema} changed since {evaluation}")
    shots = spec.examples.num if spec.examples else 0
    update = {"json_schema": schema, "json_schema_sha256": digest, "num_shots": shots}
    return found.model_copy(update=update)
