"""What a training run's files show: its evaluations, its settings, and rows to measure it on."""

import contextlib
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.errors import FineTuningError
from ft_tools.runs.state import directory

EVALUATIONS = 20
TEST_PART = "test.jsonl"
"""As prepare_dataset names it."""
EVALUATED = (
    "step", "epoch", "eval_loss", "eval_mean_token_accuracy", "eval_rewards/margins",
    "eval_reward", "eval_completions/mean_length",
)  # fmt: skip
TRAINING = (
    "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "max_length", "packing",
    "per_device_train_batch_size", "gradient_accumulation_steps", "beta", "num_generations",
    "max_completion_length",
)  # fmt: skip
ADAPTER = ("r", "lora_alpha", "target_modules", "use_rslora")


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

    The test part of a preparation lies beside the file that was asked to be trained on; validation
    rows chose the checkpoint. Pairs of answers have no wanted answer to compare with.
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
    return "", ""


def unseen_file(trained: Sequence[Path], validated: Sequence[Path] = ()) -> Path | None:
    """Return the test part beside files that were trained on, unless it is a copy of a used one."""
    used = (*trained, *validated)
    for test in (part.with_name(TEST_PART) for part in trained):
        if test.is_file() and not any(cmp(test, one, shallow=False) for one in used):
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
