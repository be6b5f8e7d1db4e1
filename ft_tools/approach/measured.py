"""What evaluations, documents and a dataset show, put in the place of what is claimed."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ft_tools import workspace
from ft_tools.approach.conditions import PROMPTS
from ft_tools.approach.counted_rows import CountedRows, counted_rows
from ft_tools.approach.documents import count_tokens
from ft_tools.approach.presumed import STILL_LEARNING
from ft_tools.approach.report import Measured, MeasuredSystem
from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.contract import NextStep
from ft_tools.errors import BadInput, FineTuningError, NotFound, OutsideWorkspace
from ft_tools.evaluation.report import PROMPTED
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo

CONSTANT = "majority"
"""Kind of the baseline that gives one answer to everything."""


REMEMBERED = (
    "the held-out questions of {} are training questions but for digits and names: what learned "
    "from those is not shown to meet a target; measure it on new wordings"
)


def with_measurements(request: ApproachRequest) -> tuple[ApproachRequest, Measured | None]:
    """Return the request with what was measured filled in, and a record of it.

    A measurement wins over a claim; where they differ, the record says so.

    Raises:
        NotFound: An evaluation, the documents or the dataset are not there.
        BadInput: A run is no finished evaluation.
        OutsideWorkspace: The documents or the dataset leave the workspace.
    """
    if not (request.evaluations or request.documents or request.dataset):
        return request, None
    found: dict[str, Any] = {}
    notes: list[str] = []
    systems: list[MeasuredSystem] = []
    steps: list[NextStep] = []
    for run_id in request.evaluations:
        report = _evaluation(run_id)
        systems += filter(None, [_best(run_id, report)])
        _keep_best(found, evaluated(report))
        for trained in still_learning(report):
            found["observed"] = [*dict.fromkeys([*request.observed, STILL_LEARNING])]
            found["tried_training"] = [*dict.fromkeys([*request.tried_training, "sft"])]
            notes.append(trained.why)
            steps.append(trained)
        notes += [f"{name} of {run_id} meets the target: use it" for name in _met(report)[:1]]
        notes += [REMEMBERED.format(run_id)] if report.get("num_fresh") == 0 else []
    if request.documents is not None:
        found |= {"corpus_tokens": count_tokens(request.documents)[1], "has_documents": True}
    dataset = counted_rows(request) if request.dataset is not None else CountedRows()
    found |= dataset.counted
    notes += [dataset.note] if dataset.note else []
    said = request.model_dump()
    if said["prompting_tried"] == PROMPTS[-1]:
        # A report shows prompts and their examples, not whether they are the best of many.
        found.pop("prompting_tried", None)
    contradictions = [
        f"{name}={said[name]!r} was given, {value!r} was measured"
        for name, value in found.items()
        if _differ(said[name], value)
    ]
    filled = {name: _shown(value) for name, value in found.items() if said[name] != value}
    best = next((each for each in systems if each.meets_target), systems[-1] if systems else None)
    if not (filled or notes or best):
        return request, None
    record = Measured(
        filled_in=filled,
        contradictions=contradictions,
        best=best,
        notes=notes,
        lacks=dataset.lacks,
        next_steps=[*steps, *dataset.next_steps],
    )
    return ApproachRequest.model_validate(said | found), record


def evaluated(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report of an evaluation says of prompts, of the target and of two models.

    Only systems that ask a model as it is count as prompts: no trained ones, no simple baselines.
    A target that one of those meets is met, too.
    """
    found: dict[str, Any] = {"has_eval_set": True}
    if _met(report):
        found["target_met"] = True
    prompted = [
        each
        for each in report.get("systems") or []
        if each.get("kind") in PROMPTED and not each.get("is_trained")
    ]
    if not prompted:
        return found
    shown = any(each.get("has_examples") for each in prompted)
    found["prompting_tried"] = "few_shot" if shown else "zero_shot"
    if {each.get("target") for each in prompted} == {"not_met"}:
        found.setdefault("target_met", False)
    return found | _two_scores(prompted, report.get("main_metric", ""))


def learned_from(run_ids: Sequence[str]) -> str | None:
    """Return the file that what was measured last learned from or was shown; None if not there."""
    for run_id in reversed(run_ids):
        seen = _evaluation(run_id).get("contamination") or {}
        for path in (*seen.get("checked_against", ()), *seen.get("learned_from", ())):
            with contextlib.suppress(NotFound, OutsideWorkspace):
                workspace.existing(str(path))
                return str(path)
    return None


STILL = "{} ended while it was still learning, so it has not missed yet: {}"


def still_learning(report: Mapping[str, Any]) -> list[NextStep]:
    """Return the calls that train further what an evaluation measured: it misses, and was learning.

    What a run's diagnosis says of its curves decides: the rows may be good, and it was too short.
    """
    trained = (
        str(each.get("model"))
        for each in report.get("systems") or []
        if each.get("is_trained") and each.get("target") != "met"
    )
    return [step for run_id in dict.fromkeys(trained) for step in trained_further(run_id)]


def trained_further(run_id: str) -> list[NextStep]:
    """Return the call that a run's diagnosis proposes where its result would learn more."""
    if not directory.RUN_ID.fullmatch(run_id):
        return []
    try:
        made = directory.read_json(directory.find(run_id) / "report.json") or {}
    except FineTuningError:
        return []
    found = next((each for each in made.get("diagnosis") or [] if each.get("continues")), None)
    step = next((each for each in made.get("next_steps") or [] if _continues(each)), None)
    if found is None or step is None:
        return []
    said = STILL.format(run_id, f"{found['id']}, {found['advice']}")
    return [NextStep(tool="launch_sft", arguments=step["arguments"], why=said)]


def _continues(step: Mapping[str, Any]) -> bool:
    return step.get("tool") == "launch_sft" and "from_run" in (step.get("arguments") or {})


def _shown(value: Any) -> str | int | float | bool:
    return ", ".join(value) if isinstance(value, list) else value


def _met(report: Mapping[str, Any]) -> list[str]:
    """Return the names of the systems that meet the target, the cheapest first.

    The commonest answer to everything is none that could be used, whatever it scores.
    """
    met = {
        each["name"]
        for each in report.get("systems") or []
        if each.get("target") == "met" and each.get("kind") != CONSTANT
    }
    ranked = [each["name"] for each in report.get("ranking") or []]
    return [name for name in ranked if name in met] or sorted(met)


def _best(run_id: str, report: Mapping[str, Any]) -> MeasuredSystem | None:
    """Return the cheapest system that meets the target, or the cheapest that nothing beats.

    None without a ranking: then nothing says which is cheapest.
    """
    if not report.get("ranking"):
        return None
    systems = {
        each["name"]: each for each in report.get("systems") or [] if each.get("kind") != CONSTANT
    }
    metric = report.get("main_metric", "")
    met = _met(report)
    unbeaten = [
        each["name"]
        for each in report.get("ranking") or []
        if each.get("versus_best") in ("best", "not_distinguishable")
    ]
    scores = {
        name: each["scores"][metric]["value"]
        for name, each in systems.items()
        if metric in each.get("scores", {})
    }
    name = next((each for each in (*met, *unbeaten) if each in systems), None)
    if name is None:
        return None
    has_target = any(each.get("target") for each in systems.values())
    return MeasuredSystem(
        name=name,
        evaluation=run_id,
        approach=_approach_of(systems[name]),
        metric=metric,
        score=scores.get(name),
        meets_target=name in met if has_target else None,
    )


def _approach_of(system: Mapping[str, Any]) -> Approach:
    if system.get("kind") not in PROMPTED:
        return "small_model_fine_tuning"
    if system.get("is_trained"):
        return "sft"
    return "few_shot" if system.get("has_examples") else "prompting"


def _two_scores(prompted: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """Return the scores of the cheapest and of the most expensive prompted system."""
    priced = [
        (each["usd_per_1000_calls"], each["scores"][metric]["value"])
        for each in prompted
        if each.get("usd_per_1000_calls") is not None and metric in each.get("scores", {})
    ]
    small, large = (min(priced), max(priced)) if priced else ((0, 0), (0, 0))
    scores = {"small_model_score": small[1], "large_model_score": large[1]}
    is_usable = small[0] < large[0] and all(0 <= score <= 1 for score in scores.values())
    return scores if is_usable else {}


def _evaluation(run_id: str) -> dict[str, Any]:
    """Return the report of a finished evaluation."""
    run_dir = directory.find(run_id)
    info = RunInfo.model_validate(directory.read_json(run_dir / "run.json"))
    if info.kind != "evaluate":
        raise BadInput(
            f"run {run_id} is of kind {info.kind!r}, not an evaluation; get_run lists them"
        )
    path = run_dir / "report.json"
    if not path.is_file():
        raise BadInput(f"evaluation {run_id} has no report yet; wait until get_run says succeeded")
    if report := directory.whole_json(path):
        return report
    raise BadInput(f"the report of evaluation {run_id} is damaged; evaluate again, or leave it out")


AGAIN = (
    "Put your own for your_system_text: what is changed is asked beside these systems, which are "
    "not asked again; then call recommend_approach with the new run's id."
)


def measured_again(run_id: str) -> NextStep:
    """Return the call that measures another prompt beside what an evaluation measured."""
    asked = directory.whole_json(directory.find(run_id) / "request.json")
    kept = {name: asked[name] for name in ("dataset", "target") if asked.get(name)}
    models = [
        {name: value for name, value in each.items() if value is not None}
        for each in asked.get("systems") or []
        if isinstance(each, dict) and not each.get("baseline")
    ] or [{"model": asked.get("model") or "your_model"}]
    changed = {"name": f"changed_{len(models)}", "system": "your_system_text"}
    systems = [run_id, {**models[-1], **changed}]
    return NextStep(tool="evaluate", arguments={**kept, "systems": systems}, why=AGAIN)


def _keep_best(found: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Add an evaluation: the best prompt of all, and the target if any reached it."""
    for name, value in new.items():
        if name == "prompting_tried" and name in found:
            found[name] = max(found[name], value, key=PROMPTS.index)
        elif name == "target_met":
            found[name] = bool(found.get(name)) or value
        else:
            found[name] = value


def _differ(said: object, value: object) -> bool:
    """Tell whether a claim and a measurement contradict each other; nothing said is no claim."""
    if said in (None, []) or (isinstance(said, str) and isinstance(value, int)):
        return False
    if isinstance(said, int) and isinstance(value, int) and not isinstance(said, bool):
        return abs(said - value) > max(said, value) / 10
    return said != value
