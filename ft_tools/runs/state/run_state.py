"""The state of a run: what its files say, checked against its locks and the clock."""

import contextlib
import time
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.errors import BadData, FineTuningError
from ft_tools.formats.remembered_test_sets import remembered_for
from ft_tools.runs.state import directory, locks, ranks
from ft_tools.runs.state.records import ENDED, Health, RunEvent, State, Status

STALLED_SECONDS = 300.0
"""Silence that is too long where the worker has not said what is."""
LOOKS = 3
EVENTS = 20
"""Events in a report."""
EVALUATIONS = 20
TEST_PART = "test.jsonl"
"""As prepare_dataset names it."""
ADD_ROWS = "add `dataset`, with rows that no training has seen"
EVALUATED = ("step", "epoch", "eval_loss", "eval_mean_token_accuracy", "eval_rewards/margins")
TRAINING = (
    "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "max_length", "packing",
    "per_device_train_batch_size", "gradient_accumulation_steps", "beta",
)  # fmt: skip
ADAPTER = ("r", "lora_alpha", "target_modules", "use_rslora")


def settled(run_dir: Path) -> tuple[Status, State]:
    """Return what a run wrote, and the state that follows from it, the locks and the clock.

    An end counts once nobody holds the run: its processes are gone then, and it can be resumed.
    Whoever wrote the end, or if nobody did, no time is left in it.
    Writers may write between two looks, so an answer that needs both is looked at again.
    """
    for _ in range(LOOKS):
        held = _is_held(run_dir)
        status = directory.read_status(run_dir)
        if held == (status.state not in ENDED):
            break
    if held:
        return status, _living_state(run_dir, status)
    if status.progress is not None:
        status = status.model_copy(update={"progress": status.progress.ended()})
    if status.state in ENDED:
        return status, status.state
    return status, "cancelled" if (run_dir / "cancel").exists() else "interrupted"


def _is_held(run_dir: Path) -> bool:
    """Tell whether a run has a worker or a job, or somebody who looks after what it left."""
    names = (locks.OWNER, locks.SUPERVISOR, locks.WORKER)
    return ranks.has_job(run_dir) or any(locks.is_held(run_dir / name) for name in names)


def _living_state(run_dir: Path, status: Status) -> State:
    if (run_dir / "cancel").exists():
        return "cancelling"
    # Monotonic, because clocks are set. Whoever holds the lock was started since this boot.
    allowed = status.stalled_after_seconds or STALLED_SECONDS
    silent = time.monotonic() - status.heartbeat > allowed
    if ranks.has_job(run_dir):
        # Another machine's monotonic clock says nothing here.
        silent = time.time() - status.updated_at > allowed
        if status.state == "interrupted":
            return "interrupted"
    if status.state in ENDED:
        return "running"
    if status.state == "running" and silent:
        return "queued" if _waits_for_a_machine(run_dir) else "stalled"
    return status.state


def _waits_for_a_machine(run_dir: Path) -> bool:
    """Tell whether the scheduler says so, and somebody asks it still."""
    return (run_dir / ranks.WAITING).exists() and locks.is_held(run_dir / locks.SUPERVISOR)


def read_result(run_dir: Path) -> tuple[dict[str, Any] | None, list[Health]]:
    """Return the finished run's own report, or the signal that it is damaged."""
    try:
        return directory.read_json(run_dir / "report.json"), []
    except BadData as error:
        advice = "restore the file, or run it again"
        signal = "damaged_report"
        return None, [Health(signal=signal, severity="error", observed=str(error), advice=advice)]


def shown_events(run_dir: Path, after: int | None) -> list[RunEvent]:
    """Return the first 20 events after a number, or the last 20 of all."""
    if after is None:
        return directory.read_events(run_dir)[-EVENTS:]
    return directory.read_events(run_dir, after)[:EVENTS]


def evaluations(run_dir: Path) -> list[dict[str, float]]:
    """Return a training run's values on validation by step, the first and the last among them."""
    rows = [row for row in directory.read_metrics(run_dir) if "eval_loss" in row]
    shown = [
        {name: row[name] for name in EVALUATED if isinstance(row.get(name), int | float)}
        for row in rows
    ]
    if len(shown) <= EVALUATIONS:
        return shown
    last = len(shown) - 1
    return [shown[round(i * last / (EVALUATIONS - 1))] for i in range(EVALUATIONS)]


def held_out_file(run_dir: Path) -> tuple[str, str]:
    """Return a file to measure a training run on, and what to know of it; the file may be "".

    The test part of a preparation lies beside the file that was asked to be trained on, or the
    workspace remembers it; validation rows chose the checkpoint. Pairs of answers have no wanted
    answer to compare with.
    """
    plan = directory.whole_json(run_dir / "plan.json")
    dataset, validation = (_file(plan.get(part)) for part in ("dataset", "validation"))
    if plan.get("task") != "dpo":
        asked = _file({"path": directory.whole_json(run_dir / "request.json").get("dataset")})
        trained = [part for part in (dataset, asked) if part]
        if test := unseen_file(trained, [validation] if validation else []):
            return str(test), f"{test.name} has rows that no training has seen"
    if plan.get("task") == "sft" and validation:
        return str(validation), (
            "these rows chose the checkpoint, so rows that no training has seen tell more: pass "
            "those as `dataset` if there are any"
        )
    return "", ADD_ROWS


def unseen_file(trained: Sequence[Path], validated: Sequence[Path] = ()) -> Path | None:
    """Return the test part of the preparation that files were made by; None if there is none.

    It lies beside a file that was trained on, or the workspace remembers it. What is a copy of a
    used file is not one.
    """
    tests = [part.with_name(TEST_PART) for part in trained]
    tests += [found for part in trained if (found := remembered_for(part))]
    for test in tests:
        if test.is_file() and not any(
            cmp(test, part, shallow=False) for part in (*trained, *validated)
        ):
            return test
    return None


def _file(part: Any) -> Path | None:
    """Return the file of a part of a plan; None where it is not there any more."""
    path = part.get("path") if isinstance(part, dict) else None
    if not isinstance(path, str):
        return None
    with contextlib.suppress(FineTuningError):
        return found if (found := workspace.resolve(path)).is_file() else None
    return None


def plan_settings(run_dir: Path) -> dict[str, Any]:
    """Return the settings of a training run's plan that people ask for first."""
    plan = directory.whole_json(run_dir / "plan.json")
    found = {name: plan[name] for name in ("method", "chosen_for") if plan.get(name)}
    for part, names in (("training", TRAINING), ("peft", ADAPTER)):
        given = plan.get(part)
        given = given if isinstance(given, dict) else {}
        found |= {name: given[name] for name in names if given.get(name) is not None}
    if found.get("max_steps", 0) > 0:
        # The trainer counts by it then.
        found.pop("num_train_epochs", None)
    return found


def moved_from(run_dir: Path, status: Status) -> str:
    """Return where the run was when it wrote its paths, if it was moved or mounted since."""
    for artifact in status.artifacts:
        before, is_ours, _ = artifact.path.partition(f"/{run_dir.name}/")
        place = f"{before}/{run_dir.name}"
        if is_ours and place != str(run_dir) and not Path(place).exists():
            return place
    return ""


def with_place(value: Any, old: str, new: str) -> Any:
    """Return nested JSON with one text replaced by another wherever it stands."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [with_place(part, old, new) for part in value]
    if isinstance(value, dict):
        return {key: with_place(part, old, new) for key, part in value.items()}
    return value
