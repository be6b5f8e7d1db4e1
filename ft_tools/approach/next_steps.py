"""The calls that start an approach."""

from collections.abc import Mapping
from typing import Any

from ft_tools.approach.gpu_time import stand_in
from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.approach.situation import Situation, number_of
from ft_tools.approach.table import table
from ft_tools.contract import NextStep

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


STAND_IN_DATA = "data.jsonl"
STAND_INS = {STAND_IN_DATA, "held_out.jsonl"}
"""Names in the calls for files that were not named; the table has the second one."""


def next_steps(approach: Approach, request: ApproachRequest, now: Situation) -> list[NextStep]:
    """Return the calls of an approach, filled in from the request."""
    given = request.model_dump(exclude={"problem"}, exclude_none=True, exclude_unset=True)
    fillings = {
        "dataset": request.dataset or STAND_IN_DATA,
        "model": request.model or stand_in(approach, request),
        "gpu": request.gpu,
        "num_demonstrations": number_of(request.num_demonstrations),
        "goal": next((goal for need, goal in _GOALS.items() if need in now.needs), "instruction"),
    }
    steps = []
    for step in table().approaches[approach].next:
        arguments = {name: _filled(value, fillings) for name, value in step.arguments.items()}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        if step.tool == "recommend_approach":
            arguments = given | arguments
        stands_in = STAND_INS.intersection(map(str, arguments.values()))
        why = f"{step.why} {stands_in.pop()} stands for your file." if stands_in else step.why
        steps.append(NextStep(tool=step.tool, arguments=arguments, why=why))
    return steps


def _filled(value: Any, fillings: Mapping[str, Any]) -> Any:
    """Fill in a `{name}`; None drops the argument."""
    if isinstance(value, str) and value.startswith("{"):
        return fillings[value.strip("{}")]
    return value
