"""Facts of evaluations: what was tried, what meets the target, what is still open."""

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from ft_tools.advice.facts import Facts, one_fact
from ft_tools.contract import NextStep
from ft_tools.errors import BadInput, FineTuningError
from ft_tools.evaluation.report import PROMPTED, EvaluationReport, SystemResult
from ft_tools.next_steps import next_step
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo

CONSTANT = "majority"
"""Kind of the baseline that gives one answer to everything, which nobody could use."""
MOST_SCORES = 6


def evaluation_facts(run_ids: Sequence[str]) -> Facts:
    """Return what finished evaluations showed; a target that one of them met is met.

    Raises:
        NotFound: A run is not there.
        BadInput: A run is no finished evaluation.
    """
    found = [_of_report(run_id, _report(run_id)) for run_id in run_ids]
    targets = [{"target": word} for each in found for word in each.words.values()]
    return Facts(
        max((each.numbers for each in found), key=lambda one: one.get("eval_rows", 0), default={}),
        min(targets, key=lambda one: one["target"] != "met", default={}),
        frozenset(rung for each in found for rung in each.tried),
        tuple(row for each in found for row in each.rows),
        tuple(step for each in found for step in each.next_steps),
    )


def _of_report(run_id: str, report: EvaluationReport) -> Facts:
    systems = [each for each in report.systems if each.kind != CONSTANT]
    met = [each.name for each in systems if each.target == "met"]
    ranked = [each.name for each in report.ranking if each.name in met]
    further = _still_learning(systems)
    missed = [each for each in systems if each.target == "not_met" and each.model not in further]
    words = {"target": "met"} if met else {}
    says = [f"{report.num_examples} rows", *_scores(report, systems)]
    if met:
        says.append(f"cheapest that meets the target: {(ranked or met)[0]}")
    elif systems and all(each.target == "not_met" for each in systems):
        words = {"target": "missed"}
        says.append("no system meets the target")
    says += [f"{run} was still learning when it ended" for run in further]
    return one_fact(
        "evaluations",
        "; ".join(says),
        run_id,
        numbers={"eval_rows": float(report.num_examples)} if report.num_examples else {},
        words=words,
        tried=frozenset(map(_rung_of, missed)),
        next_steps=tuple(further.values()),
    )


def _scores(report: EvaluationReport, systems: Sequence[SystemResult]) -> Iterator[str]:
    """Yield what was scored, and what of it decides nothing."""
    metric = report.main_metric
    scores = [f"{s.name} {s.scores[metric].value:.3g}" for s in systems if metric in s.scores]
    if scores:
        yield f"{metric}: {', '.join(scores[:MOST_SCORES])}"
    open_ones = [each.system for each in report.comparisons if each.verdict == "underpowered"]
    if open_ones:
        yield f"underpowered: {', '.join(dict.fromkeys(open_ones))}"
    if report.num_fresh is not None:
        alike = report.num_examples - report.num_fresh
        yield f"{alike} of the held-out questions resemble training questions"


def _rung_of(system: SystemResult) -> str:
    """Return the rung that a system is."""
    if system.kind not in PROMPTED:
        return "small_model_fine_tuning"
    if system.is_trained:
        return "sft"
    return "few_shot" if system.has_examples else "prompting"


def _still_learning(systems: Sequence[SystemResult]) -> dict[str, NextStep]:
    """Return the trained runs that miss and would learn more, each with the call that does it."""
    runs = sorted({each.model for each in systems if each.is_trained and each.target != "met"})
    found = {run: trained_further(run) for run in runs}
    return {run: step for run, step in found.items() if step is not None}


def trained_further(run_id: str) -> NextStep | None:
    """Return the call that a run's diagnosis proposes where its result would learn more."""
    if not directory.RUN_ID.fullmatch(run_id):
        return None
    try:
        made = directory.read_json(directory.find(run_id) / "report.json") or {}
    except FineTuningError:
        return None
    steps = [each.get("arguments") or {} for each in made.get("next_steps") or []]
    further = next((arguments for arguments in steps if "from_run" in arguments), None)
    found = next((each for each in made.get("diagnosis") or [] if each.get("continues")), None)
    if found is None or further is None:
        return None
    return next_step("still_learning", further, run=run_id, id=found["id"], advice=found["advice"])


def _report(run_id: str) -> EvaluationReport:
    """Return the report of a finished evaluation."""
    run_dir = directory.find(run_id)
    info = RunInfo.model_validate(directory.read_json(run_dir / "run.json"))
    if info.kind != "evaluate":
        raise BadInput(f"run {run_id} is of kind {info.kind!r}, not an evaluation; pass its id")
    path = run_dir / "report.json"
    if not path.is_file():
        raise BadInput(f"evaluation {run_id} has no report yet; wait until get_run says succeeded")
    try:
        return EvaluationReport.model_validate(directory.whole_json(path))
    except ValidationError:
        raise BadInput(
            f"the report of evaluation {run_id} is damaged or of an older version; evaluate again, "
            "or leave it out"
        ) from None
