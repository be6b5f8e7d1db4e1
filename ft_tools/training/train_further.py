"""More epochs of a finished run: the same files and arguments, a schedule that starts anew.

What a run leaves is its best model; the optimizer's state is gone. So the learning rate is warmed
up again, to where one schedule over both runs together would be at this point.
"""

import math
from collections.abc import Mapping
from typing import Any

from ft_tools.errors import BadData, BadInput
from ft_tools.runs import directory
from ft_tools.training.request import SftRequest

NOT_KEPT = {"max_steps", "learning_rate", "num_train_epochs"}
"""Of the earlier run's arguments: they belong to its schedule."""


def continued(request: SftRequest) -> SftRequest:
    """Return the request that trains a finished run's result further.

    What the request gives holds; dataset, validation and arguments that it leaves out are those of
    the earlier run. Epochs left out are as many again.

    Raises:
        NotFound: There is no such run.
        BadInput: It is no finished SFT run.
    """
    if request.from_run is None:
        return request
    run_dir = directory.find(request.from_run)
    info, plan = directory.read_info(run_dir), directory.read_json(run_dir / "plan.json")
    state = directory.read_status(run_dir).state
    if info.kind != "sft":
        raise BadInput(
            f"from_run={request.from_run!r} is a run of kind {info.kind}, not an SFT run; "
            "list_runs names those"
        )
    if state != "succeeded":
        raise BadInput(
            f"from_run={request.from_run!r} is in state {state}, and only a run that succeeded is "
            "trained further; resume_run continues an unfinished run"
        )
    asked = directory.read_json(run_dir / "request.json")
    if plan is None or asked is None:
        raise BadData(run_dir, "has no plan or request", "pass it as `model` with a dataset")
    kept = {k: v for k, v in asked["training"].items() if k not in NOT_KEPT}
    training = kept | dict(request.training)
    earlier = _epochs(plan)
    if (training.get("max_steps") or -1) <= 0:
        training.setdefault("num_train_epochs", earlier)
        share = share_of_peak(earlier, float(training["num_train_epochs"]))
        peak = float(plan["training"]["learning_rate"])
        training.setdefault("learning_rate", float(f"{peak * share:.2g}"))
    validation = plan["validation"]["path"] if plan["validation"] else None
    given = request.model_dump(exclude_unset=True, exclude={"from_run"})
    return SftRequest.model_validate(
        {
            "method": asked["method"],
            "dataset": plan["dataset"]["path"],
            "validation": validation,
            "accept_findings": asked["accept_findings"],
            "accept_reason": asked["accept_reason"],
        }
        | given
        | {"model": request.from_run, "training": training}
    )


def share_of_peak(before: float, more: float) -> float:
    """Return the share of the peak rate that a cosine over both runs has where the second begins.

    0.5 (1 + cos(pi b / (b + m))), with b the epochs of the first run and m those of the second.

    Source: the cosine schedule, arXiv 1608.03983; warming up again, arXiv 2403.08763.

    >>> share_of_peak(3, 3), round(share_of_peak(3, 6), 3)
    (0.5, 0.75)
    """
    return round(0.5 * (1 + math.cos(math.pi * before / (before + more))), 3)


def _epochs(plan: Mapping[str, Any]) -> float:
    """Return the epochs that the earlier run was planned for."""
    training, rows = plan["training"], plan["dataset"]["num_examples"]
    steps = training.get("max_steps") or 0
    if steps <= 0:
        return float(training["num_train_epochs"])
    batch = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]
    return round(float(steps * batch / rows), 2)
