"""The ordered steps from here, and the calls that start one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ft_tools.approach.conditions import PROMPTS, UNKNOWN, Kind
from ft_tools.approach.cost import stand_in
from ft_tools.approach.decision import blocks_of, first_row, holds, stages
from ft_tools.approach.measured import learned_from, measured_again
from ft_tools.approach.report import MeasuredSystem, PathStep
from ft_tools.approach.request import TRAINING, Approach, ApproachRequest
from ft_tools.approach.situation import Situation, number_of
from ft_tools.approach.table import TEXT, table
from ft_tools.approach.table_rows import Decision, Later
from ft_tools.contract import NextStep

LONGEST = 5
SHORTEST = 2
END: Approach = "do_nothing"


@dataclass(frozen=True)
class Rung:
    """A step with the situation in which it is taken."""

    approach: Approach
    why: str
    now: Situation
    depends_on: Approach | None
    """The earlier step whose result leads here; None: it would be right without any."""
    stop_if: str = ""
    """Where it is not that of the approach."""


def climb(row: Decision, now: Situation) -> list[Rung]:
    """Return the rungs from the row that decided: the table's answers, each after the one before.

    The table is asked again after each step, with what that step leaves. It ends where the table
    repeats itself, or where nothing is to be done; what the last row or approach names as following
    is appended.
    """
    rungs = [Rung(row.approach, row.why, now, None, row.stop_if)]
    while len(rungs) < LONGEST and row.approach != END:
        now = now.after(table().approaches[row.approach].leaves | row.leaves)
        if row.then:
            break
        row = first_row(now)
        if row.approach == END or row.approach in _taken(rungs):
            break
        if _lasting_block(row.approach, now):
            break
        rungs.append(Rung(row.approach, row.why, now, _dependence(row, rungs), row.stop_if))
    return [*rungs, *_following(rungs, row.then, now)][:LONGEST]


def steps(rungs: Sequence[Rung], best: MeasuredSystem | None = None) -> list[PathStep]:
    """Return the rungs as a report shows them; what was measured is not to be measured again."""
    start = rungs[0].now
    first = next((rung for rung in rungs if rung.approach in TRAINING), None)
    found = [_step(rung, start, trains_first=rung is first) for rung in rungs]
    return [
        step.model_copy(update={"measure_first": [_beside(each, best) for each in first_of]})
        if best and (first_of := step.measure_first)
        else step
        for step in found
    ]


BESIDE = "{} (beside {}, which is measured)"


def _beside(measurement: str, best: MeasuredSystem) -> str:
    return measurement if measurement == COUNT else BESIDE.format(measurement, best.name)


def cost_of(approach: Approach) -> str:
    """Return the one-off cost of an approach in words."""
    facts = table().approaches[approach]
    if facts.usd_high is None:
        return f"from {facts.usd_low:,.0f} USD"
    if facts.usd_high == 0:
        return "nothing"
    return f"{facts.usd_low:,.0f} to {facts.usd_high:,.0f} USD"


def _taken(rungs: Iterable[Rung]) -> set[Approach]:
    """Return the approaches of the rungs, their stages included."""
    parts = {part for rung in rungs for some in stages(rung.approach, rung.now) for part in some}
    return parts | {rung.approach for rung in rungs}


def _following(rungs: Sequence[Rung], named: Sequence[Later], now: Situation) -> Iterator[Rung]:
    """Name what follows the last rung: what its row names, else what its approach names here."""
    taken = _taken(rungs)
    last = rungs[-1].approach
    missing = SHORTEST - len(rungs) if not named else len(named)
    for later in [*named, *table().approaches[last].then]:
        if later.approach in taken or not holds(later.when, now):
            continue
        if (missing <= 0 and not later.when) or _lasting_block(later.approach, now):
            continue
        taken.add(later.approach)
        missing -= 1
        yield Rung(later.approach, later.why, now, last)


def _lasting_block(approach: Approach, now: Situation) -> bool:
    return any(not block.until for block in blocks_of(approach, now))


def _dependence(row: Decision, rungs: Sequence[Rung]) -> Approach | None:
    """Return the step before if its result leads here.

    It does where the row did not hold at the start, or is cheaper than an earlier step and would
    have come first.
    """
    facts = table().approaches
    dearest = max(facts[rung.approach].usd_low for rung in rungs)
    if holds(row.when, rungs[0].now) and facts[row.approach].usd_low >= dearest:
        return None
    return rungs[-1].approach


HOSTED = (
    "audit_dataset, then the provider's training service if it takes this model; else an open one."
)
"""How training starts where the weights are behind an API."""

SMALL_FIRST: frozenset[Approach] = frozenset({"distillation", "small_model_fine_tuning"})


def is_hosted(approach: Approach, now: Situation) -> bool:
    """Tell whether the model to train is only reached over an API."""
    return approach in TRAINING - SMALL_FIRST and now.choices["weights_access"] == "api_only"


ON_CASES = "{}, on 50 held-out cases"
TRAINED = "the model that you trained"
COUNT = "the number of checked examples (no number was given)"
PROMPTED = frozenset({TEXT, "code", "extract"})
"""Tasks whose baseline is a prompt."""


def task_of(now: Situation) -> str:
    """Return the task: as it is named, or as the needs say."""
    if now.choices["task"] != UNKNOWN:
        return now.choices["task"]
    return "label" if "labels" in now.needs else "extract" if "spans" in now.needs else TEXT


def _baseline(now: Situation) -> str:
    kinds = table().kinds
    untrained = kinds[now.kind].baseline or kinds[cast("Kind", task_of(now))].baseline
    return f"{untrained}, and {TRAINED}" if now.choices["checkpoint"] == "sft_run" else untrained


def _step(rung: Rung, start: Situation, *, trains_first: bool) -> PathStep:
    facts = table().approaches[rung.approach]
    first = []
    is_open = start.choices["prompting_tried"] in (UNKNOWN, "none") or start.assumes_prompt
    is_first = rung.now is start
    is_prompt = is_first and rung.approach == "prompting" and "quality" in start.needs
    if is_open and (trains_first or (is_prompt and task_of(start) not in PROMPTED)):
        first.append(ON_CASES.format(_baseline(start)))
    elif trains_first and start.choices["has_eval_set"] == UNKNOWN and is_first:
        first.append("the current model on 50 held-out examples")
    is_small = rung.approach in SMALL_FIRST and "labels" not in start.needs
    if trains_first and is_small and start.choices["small_model"] == UNKNOWN:
        first.append("the small model with its best prompt, on the same test")
    if trains_first and start.presumed and is_first:
        first.append(COUNT)
    return PathStep(
        approach=rung.approach,
        why=rung.why,
        measure_first=first,
        stop_if=rung.stop_if or facts.stop_if,
        effort=facts.time,
        cost=cost_of(rung.approach),
        data=facts.data,
        next_step=HOSTED if is_hosted(rung.approach, start) else facts.start,
        depends_on=rung.depends_on,
        rules=[block.rule for block in blocks_of(rung.approach, start)],
    )


_GOALS = {
    "steps": "reasoning",
    "labels": "classification",
    "taste": "style",
    "jargon": "domain",
    "knowledge": "domain",
    "manner": "style",
    "format": "style",
}
"""Need -> `goal` of suggest_lora_config; the first that is there wins."""


STAND_IN_DATA = "your_data.jsonl"
NEEDS_WEIGHTS = ("suggest_lora_config", "estimate_vram", "launch_sft", "launch_dpo")
STAND_IN_RUN = "your_sft_run"
STAND_INS = {STAND_IN_RUN, STAND_IN_DATA, "held_out.jsonl"}
"""Names in the calls for files that were not named; the table has the second one."""


def next_steps(approach: Approach, request: ApproachRequest, now: Situation) -> list[NextStep]:
    """Return the calls of an approach, filled in from the request."""
    given = request.model_dump(exclude={"problem"}, exclude_defaults=True)
    fillings = {
        "dataset": request.dataset or learned_from(request.evaluations) or STAND_IN_DATA,
        "model": request.model or stand_in(approach, request),
        "gpu": request.gpu,
        "num_demonstrations": number_of(request.num_demonstrations),
        "goal": next((goal for need, goal in _GOALS.items() if need in now.needs), "instruction"),
    }
    steps = []
    for step in table().approaches[approach].next:
        if is_hosted(approach, now) and step.tool in NEEDS_WEIGHTS:
            continue
        arguments = {name: _filled(value, fillings) for name, value in step.arguments.items()}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        if step.tool == "recommend_approach":
            arguments = _asked_again(given, arguments)
            if arguments == given and request.evaluations:
                # The same question of the same measurements has the same answer.
                steps.append(measured_again(request.evaluations[-1]))
                continue
        if step.tool == "launch_dpo" and request.checkpoint == "sft_run" and not request.model:
            arguments["sft_run"] = STAND_IN_RUN
            del arguments["model"]
        named = [arguments["model"]] if "model" in arguments and not request.model else []
        why = " ".join(filter(None, [step.why, own_for(arguments, named)]))
        steps.append(NextStep(tool=step.tool, arguments=arguments, why=why))
    return steps


def own_for(arguments: Mapping[str, Any], named: Sequence[str] = ()) -> str:
    """Ask for the caller's own in the place of stand-ins; empty where there are none."""
    names = [*named, *sorted(STAND_INS.intersection(map(str, arguments.values())))]
    return f"Put your own for {', '.join(names)}." if names else ""


def _asked_again(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request with what the step leaves; examples of people have no teacher."""
    by_people = known.get("data_source") == "human"
    kept = {k: v for k, v in given.items() if not (by_people and k in OF_A_TEACHER)}
    return kept | {name: _at_least(kept.get(name), value) for name, value in known.items()}


def _at_least(given: Any, left: Any) -> Any:
    """Return what a step leaves, or the better prompt that was tried before it."""
    return max(given, left, key=PROMPTS.index) if given in PROMPTS and left in PROMPTS else left


OF_A_TEACHER = ("teacher", "teacher_terms")


def _filled(value: Any, fillings: Mapping[str, Any]) -> Any:
    """Fill in a `{name}`; None drops the argument."""
    if isinstance(value, str) and value.startswith("{"):
        return fillings[value.strip("{}")]
    return value
