"""Which checkpoints of a run can be trusted, and which are kept.

The trainer writes `checkpoint-N` in place, so a killed run may leave half of one. A checkpoint
counts once its manifest is there, which is written last; a resumed run starts from the last one
whose files still have their hashes, never from the trainer's own choice.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from ft_tools.publish import MANIFEST, seal, sync_folder, verify

KEPT = 2
STATE = "trainer_state.json"


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint folder; -1 for a folder that is none."""
    prefix, _, number = folder.name.rpartition("-")
    return int(number) if prefix == "checkpoint" and number.isdigit() else -1


def all_of(folder: Path) -> list[Path]:
    """Return the checkpoint folders, oldest step first, sealed or not."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and step_of(path) >= 0]
    return sorted(found, key=step_of)


def publish(folder: Path) -> None:
    """Make a written checkpoint one that counts."""
    seal(folder)
    sync_folder(folder.parent)


def problems(folder: Path) -> list[str]:
    """Return what is wrong with a checkpoint, a line each; empty when it can be trusted."""
    wrong = verify(folder)
    if wrong:
        return wrong
    try:
        step = json.loads((folder / STATE).read_bytes())["global_step"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{STATE} is missing or unreadable"]
    return [] if step == step_of(folder) else [f"{STATE} is of step {step}"]


def is_last(folder: Path) -> bool:
    """Return whether training was over at a checkpoint: no step was left, or patience was."""
    state = json.loads((folder / STATE).read_bytes())
    callbacks = state.get("stateful_callbacks", {})
    early = callbacks.get("EarlyStopping") or callbacks.get("EarlyStoppingCallback")
    if early is not None:
        waited: int = early["attributes"]["early_stopping_patience_counter"]
        if waited >= early["args"]["early_stopping_patience"]:
            return True
    is_done: bool = state["global_step"] >= state["max_steps"]
    return is_done


def last_valid(folder: Path) -> tuple[Path | None, list[str]]:
    """Find the last checkpoint that can be trusted, and remove those after it that cannot."""
    removed: list[str] = []
    for path in reversed(all_of(folder)):
        wrong = problems(path)
        if not wrong:
            return path, removed
        removed.append(f"{path.name}: {wrong[0]}")
        remove(path)
    return None, removed


def rotate(folder: Path, keep: Iterable[Path | None] = ()) -> None:
    """Remove all but the last two published checkpoints and those named in `keep`."""
    published = [path for path in all_of(folder) if (path / MANIFEST).is_file()]
    kept = {*published[-KEPT:], *keep}
    for path in published:
        if path not in kept:
            remove(path)


def remove(folder: Path) -> None:
    """Remove a checkpoint, its manifest first: what is half removed does not count."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
