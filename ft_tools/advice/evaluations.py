"""Facts of evaluations: what was tried, what meets the target, what is still open."""

from collections.abc import Mapping, Sequence
from typing import Any

from ft_tools.advice.facts import Facts
from ft_tools.advice.report import Fact
from ft_tools.contract import NextStep
from ft_tools.errors import BadInput, FineTuningError
from ft_tools.evaluation.report import PROMPTED
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo

CONSTANT = "majority"
"""Kind of the baseline that gives one answer to everything, which nobody could use."""


def evaluation_facts(run_ids: Sequence[str]) -> Facts:
    """Return what finished evaluations showed.

    Raises:
        NotFound: A run is not there.
        BadInput: A run is no finished evaluation.
    """
    found = Facts()
    for run_id in run_ids:
        one = _of_report(run_id, _report(run_id))
        if found.words.get("target") == "met":
            one = Facts(one.numbers, {}, one.tried, one.rows, one.next_steps)
        found = Facts(
            {**found.numbers, **one.numbers, "eval_rows": _most(found, one)},
            {**found.words, **one.words},
            found.tried | one.tried,
            (*found.rows, *one.rows),
            (*found.next_steps, *one.next_steps),
        )
    return found


def _most(found: Facts, one: Facts) -> float:
    return max(found.numbers.get("eval_rows", 0.0), one.numbers.get("eval_rows", 0.0))


def _of_report(run_id: str, report: Mapping[str, Any]) -> Facts:
    systems = [each for each in report.get("systems") or [] if each.get("kind") != CONSTANT]
    counts = [each["num_examples"] for each in report.get("comparisons") or []]
    # A system that is measured alone is compared with nothing.
    num_rows = max(report.get("num_examples") or 0, *counts, 0)
    met = [each["name"] for each in systems if each.get("target") == "met"]
    ranked = [each["name"] for each in report.get("ranking") or []]
    cheapest = next((name for name in ranked if name in met), met[0] if met else "")
    verdicts = {each.get("target") for each in systems}
    words = {"target": "met"} if met else {}
    if not met and verdicts and verdicts <= {"not_met"}:
        words = {"target": "missed"}
    says = [f"{num_rows} rows" if num_rows else "finished", *_scores(systems, report)]
    if cheapest:
        says.append(f"cheapest that meets the target: {cheapest}")
    elif words:
        says.append("no system meets the target")
    open_ones = [
        each["system"]
        for each in report.get("comparisons") or []
        if each.get("verdict") == "underpowered"
    ]
    if open_ones:
        says.append(f"underpowered: {', '.join(dict.fromkeys(open_ones))}")
    if report.get("num_fresh") == 0:
        says.append("all held-out questions resemble training questions: use new wordings")
    steps = _still_learning(systems)
    tried = {
        _rung_of(each)
        for each in systems
        if each.get("target") == "not_met" and each.get("model") not in steps
    }
    says += [f"{run} was still learning when it ended" for run in steps]
    return Facts(
        {"eval_rows": float(num_rows)} if num_rows else {},
        words,
        frozenset(tried),
        (Fact(about="evaluations", says="; ".join(says), source=run_id),),
        tuple(steps.values()),
    )


def _scores(systems: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> list[str]:
    """Return the score of each system on the metric that decides."""
    metric = report.get("main_metric", "")
    shown = [
        f"{each['name']} {each['scores'][metric]['value']:.3g}"
        for each in systems
        if metric in each.get("scores", {})
    ]
    return [f"{metric}: {', '.join(shown[:6])}"] if shown else []


def _rung_of(system: Mapping[str, Any]) -> str:
    """Return the rung that a system is."""
    if system.get("kind") not in PROMPTED:
        return "small_model_fine_tuning"
    if system.get("is_trained"):
        return "sft"
    return "few_shot" if system.get("has_examples") else "prompting"


def _still_learning(systems: Sequence[Mapping[str, Any]]) -> dict[str, NextStep]:
    """Return the trained runs that miss and would learn more, each with the call that does it."""
    runs = {
        str(each.get("model"))
        for each in systems
        if each.get("is_trained") and each.get("target") != "met"
    }
    found = {run: trained_further(run) for run in sorted(runs)}
    return {run: step for run, step in found.items() if step is not None}


def trained_further(run_id: str) -> NextStep | None:
    """Return the call that a run's diagnosis proposes where its result would learn more."""
    if not directory.RUN_ID.fullmatch(run_id):
        return None
    try:
        made = directory.read_json(directory.find(run_id) / "report.json") or {}
    except FineTuningError:
        return None
    found = next((each for each in made.get("diagnosis") or [] if each.get("continues")), None)
    step = next(
        (
            each
            for each in made.get("next_steps") or []
            if each.get("tool") == "launch_sft" and "from_run" in (each.get("arguments") or {})
        ),
        None,
    )
    if found is None or step is None:
        return None
    why = f"{run_id} ended while it was still learning ({found['id']}): {found['advice']}"
    return NextStep(tool="launch_sft", arguments=step["arguments"], why=why)


def _report(run_id: str) -> dict[str, Any]:
    """Return the report of a finished evaluation."""
    run_dir = directory.find(run_id)
    info = RunInfo.model_validate(directory.read_json(run_dir / "run.json"))
    if info.kind != "evaluate":
        raise BadInput(f"run {run_id} is of kind {info.kind!r}, not an evaluation; pass its id")
    path = run_dir / "report.json"
    if not path.is_file():
        raise BadInput(f"evaluation {run_id} has no report yet; wait until get_run says succeeded")
    if report := directory.whole_json(path):
        return report
    raise BadInput(f"the report of evaluation {run_id} is damaged; evaluate again, or leave it out")
