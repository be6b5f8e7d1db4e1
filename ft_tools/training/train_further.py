"""More epochs of a finished run: the same files and arguments, a schedule that starts anew.

What a run leaves is its best model; the optimizer's state is gone. So the learning rate is warmed
up again, to where one schedule over both runs together would be at this point.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ft_tools.errors import BadData
from ft_tools.runs.state import directory
from ft_tools.training.defaults import steps_an_epoch
from ft_tools.training.findings import refusal
from ft_tools.training.request import SftRequest

KEPT = ("method", "engine", "accept_findings", "accept_reason")
"""Of the earlier run's request, as far as it has them: an older version's may not."""
NOT_KEPT = {"max_steps", "learning_rate", "num_train_epochs", "eval_steps", "eval_delay",
            "save_steps"}  # fmt: skip
"""Of the earlier run's arguments: they belong to its schedule."""


def continued(request: SftRequest) -> SftRequest:
    """Return the request that trains a finished run's result further.

    What the request gives holds; dataset, validation and arguments that it leaves out are those of
    the earlier run. Epochs left out are as many again.

    Raises:
        NotFound: There is no such run.
        BadInput: It is no finished SFT run, or its plan or request is damaged.
    """
    if request.from_run is None:
        return request
    run_dir = directory.find(request.from_run)
    info, plan = directory.read_info(run_dir), directory.read_json(run_dir / "plan.json")
    state = directory.read_status(run_dir).state
    if info.kind != "sft":
        raise refusal("not_an_sft_run", field="from_run", run=request.from_run, kind=info.kind)
    if state != "succeeded":
        raise refusal("run_not_finished", run=request.from_run, state=state)
    try:
        earlier = _earlier(plan or {}, directory.read_json(run_dir / "request.json") or {})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        cure = "pass it as `model` with a dataset"
        raise BadData(run_dir, "has no plan and request that can be read", cure) from error
    training = earlier.kept | dict(request.training)
    if (training.get("max_steps") or -1) <= 0:
        training.setdefault("num_train_epochs", earlier.epochs)
        share = share_of_peak(earlier.epochs, float(training["num_train_epochs"]))
        training.setdefault("learning_rate", float(f"{earlier.peak * share:.2g}"))
    given = request.model_dump(exclude_unset=True, exclude={"from_run"})
    return SftRequest.model_validate(
        earlier.arguments | given | {"model": request.from_run, "training": training}
    )


@dataclass(frozen=True)
class _Earlier:
    """What of a finished run the next one goes by."""

    arguments: dict[str, Any]
    """Of its launch."""
    kept: dict[str, Any]
    """Arguments of its trainer that do not belong to its schedule."""
    epochs: float
    peak: float
    """Learning rate."""


def _earlier(plan: Mapping[str, Any], asked: Mapping[str, Any]) -> _Earlier:
    """Read a run's plan and request."""
    arguments = {name: asked[name] for name in KEPT if name in asked}
    validation = plan["validation"]["path"] if plan["validation"] else None
    files = {"dataset": plan["dataset"]["path"], "validation": validation}
    kept = {name: value for name, value in asked["training"].items() if name not in NOT_KEPT}
    peak = float(plan["training"]["learning_rate"])
    return _Earlier(arguments | files, kept, _epochs(plan), peak)


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
    training, counts, place = (plan.get(part) or {} for part in ("training", "counts", "place"))
    steps = training.get("max_steps") or 0
    if steps <= 0:
        return float(training["num_train_epochs"])
    rows = counts.get("num_rows", plan["dataset"]["num_examples"])
    processes = place.get("nodes", 1) * place.get("processes", 1)
    return round(float(steps / steps_an_epoch(training, rows, processes)), 2)
