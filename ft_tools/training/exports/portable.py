"""What an exported folder brings along, so that it names no path of the machine that planned it."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_tools.formats.training_rows import is_array, read_examples
from ft_tools.training.findings import warning
from ft_tools.training.plan import TrainingPlan

# Source: huggingface_hub, file_download.py: how a model lies in the cache.
SNAPSHOT = re.compile(r"(?:.*/)?models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/?")


@dataclass
class Moved:
    """Paths of this machine, each with its name in the exported folder."""

    files: dict[str, str] = field(default_factory=dict)
    """Copied into the folder."""
    folders: dict[str, str] = field(default_factory=dict)
    """To be copied there by the user: they may be large."""

    def in_folder(self, value: Any) -> Any:
        """Return a value, or one made of others, with the names that paths have there."""
        if isinstance(value, dict):
            return {key: self.in_folder(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.in_folder(one) for one in value]
        if isinstance(value, str):
            return {**self.files, **self.folders}.get(value, value)
        return value

    def copy(self, folder: Path) -> list[Path]:
        """Copy the files into the folder."""
        for path, name in self.files.items():
            if name.endswith(".jsonl") and is_array(Path(path)):
                lines = (json.dumps(example) for _, example in read_examples(Path(path)))
                (folder / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
            else:
                shutil.copyfile(path, folder / name)
        return [folder / name for name in self.files.values()]

    def to_bring(self) -> list[str]:
        """Return warnings of what else has to be copied there."""
        return [warning("export_bring", path=path, name=n) for path, n in self.folders.items()]


def portable(plan: TrainingPlan) -> tuple[TrainingPlan, Moved]:
    """Return the plan as another machine can carry it out, and what comes along.

    A model of the Hub's cache goes by its id and commit.
    """
    cached = SNAPSHOT.fullmatch(plan.model.load_from)
    if cached:
        named = {"load_from": f"{cached[1]}/{cached[2]}", "revision": cached[3]}
        plan = plan.model_copy(update={"model": plan.model.model_copy(update=named)})
    moved = Moved()
    moved.files[plan.dataset.path] = "train_data.jsonl"
    if plan.validation is not None:
        moved.files[plan.validation.path] = "validation_data.jsonl"
    template = plan.training.get("chat_template_path")
    if template is not None:
        moved.files[template] = "chat_template.jinja"
    if Path(plan.model.load_from).is_absolute():
        moved.folders[plan.model.load_from] = "./model"
    if plan.model.adapter is not None and Path(plan.model.adapter).is_absolute():
        moved.folders[plan.model.adapter] = "./adapter"
    return plan, moved
