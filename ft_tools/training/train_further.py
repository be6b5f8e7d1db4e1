"""More epochs of a finished run: the same files and arguments, a schedule that starts anew.

What a run leaves is its best model; the optimizer's state is gone. So the learning rate is warmed
up again, to where one schedule over both runs together would be at this point.
"""

import math

from pydantic import ValidationError

from ft_tools.errors import BadData
from ft_tools.runs.state import directory
from ft_tools.training.findings import refusal
from ft_tools.training.request import SftRequest
from ft_tools.training.training_plan import SftPlan

KEPT = ("method", "engine", "accept_findings", "accept_reason")
"""Of the earlier run's request, as far as it has them: an older version's may not."""
NOT_KEPT = {"max_steps", "learning_rate", "num_train_epochs", "eval_steps", "eval_delay",
            "save_steps"}  # fmt: skip
"""Of the earlier run's arguments: they belong to its schedule."""


def continued(request: SftRequest) -> SftRequest:
    """Return the request that trains a finished run's result further.

    What the request gives holds; dataset, validation and arguments that it leaves out are those of
    the earlier run. Epochs left out are as many again.
    """
    if request.from_run is None:
        return request
    run_dir = directory.find(request.from_run)
    info, state = directory.read_info(run_dir), directory.read_status(run_dir).state
    if info.kind != "sft":
        raise refusal("not_an_sft_run", field="from_run", run=request.from_run, kind=info.kind)
    if state != "succeeded":
        raise refusal("run_not_finished", run=request.from_run, state=state)
    try:
        plan = SftPlan.model_validate_json((run_dir / "plan.json").read_bytes(), extra="ignore")
        asked = directory.read_json(run_dir / "request.json") or {}
        given = asked["training"]
        arguments = {name: asked[name] for name in KEPT if name in asked}
        training = {name: value for name, value in given.items() if name not in NOT_KEPT}
    except (ValidationError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        cure = "pass it as `model` with a dataset"
        raise BadData(run_dir, "has no plan and request that can be read", cure) from error
    arguments["dataset"] = plan.dataset.path
    arguments["validation"] = plan.validation.path if plan.validation else None
    training |= request.training
    if (training.get("max_steps") or -1) <= 0:
        by_steps = (plan.training.get("max_steps") or 0) > 0
        epochs = round(plan.epochs, 2) if by_steps else float(plan.training["num_train_epochs"])
        training.setdefault("num_train_epochs", epochs)
        share = share_of_peak(epochs, float(training["num_train_epochs"]))
        peak = float(plan.training["learning_rate"])
        training.setdefault("learning_rate", float(f"{peak * share:.2g}"))
    asked_now = request.model_dump(exclude_unset=True, exclude={"from_run"})
    start = {"model": request.from_run, "training": training}
    return SftRequest.model_validate(arguments | asked_now | start)


def share_of_peak(before: float, more: float) -> float:
    """Return the share of the peak rate that a cosine over both runs has where the second begins.

    0.5 (1 + cos(pi b / (b + m))), with b the epochs of the first run and m those of the second.

    Source: the cosine schedule, arXiv 1608.03983; warming up again, arXiv 2403.08763.

    >>> share_of_peak(3, 3), round(share_of_peak(3, 6), 3)
    (0.5, 0.75)
    """
    return round(0.5 * (1 + math.cos(math.pi * before / (before + more))), 3)
