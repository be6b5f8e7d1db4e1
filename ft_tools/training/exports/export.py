"""Write a plan for other trainers into a new folder, with its data."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from ft_tools import workspace
from ft_tools.formats.readers.source import recognise
from ft_tools.formats.training_rows import read_examples
from ft_tools.publish import new_folder, write_file
from ft_tools.training.exports import axolotl
from ft_tools.training.exports.script import script
from ft_tools.training.findings import warning
from ft_tools.training.training_plan import TrainingPlan

FOLDER = "exports"
"""In a run's directory."""
# Source: huggingface_hub, file_download.py: how a model lies in the cache.
SNAPSHOT = re.compile(r"(?:.*/)?models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/?")


def export(export_dir: str, plan: TrainingPlan) -> tuple[list[str], list[str]]:
    """Write the export with its data; return its files, and what its user has to know.

    A folder that is exported names no path of this machine: the data and the template come along,
    a model of the Hub's cache goes by its id and commit, and another one is copied by the user.
    """
    final = workspace.new_folder(export_dir)
    there, files, folders = portable(plan)
    with new_folder(final) as staging:
        written, notes = write_exports(staging, there, files | folders)
        for path, name in files.items():
            _copy(Path(path), staging / name)
        written += [staging / name for name in files.values()]
    notes = [warning("export_bring", path=path, name=n) for path, n in folders.items()] + notes
    return [str(final / path.name) for path in written], notes


def write_exports(
    folder: Path, plan: TrainingPlan, names: Mapping[str, str] | None = None
) -> tuple[list[Path], list[str]]:
    """Write the plan for other trainers into a folder that exists.

    `names` are those that paths of this machine have where the folder is taken.

    Returns:
        The files, none for Axolotl where it cannot express the plan or would not fit; and what
        their user has to know.
    """
    texts = {"train.py": script(plan, names)}
    yaml, note = axolotl.text(plan, names)
    if yaml:
        texts[axolotl.FILE] = yaml
    for name, text in texts.items():
        write_file(folder / name, text)
    return [folder / name for name in texts], [note] if note else []


def portable(plan: TrainingPlan) -> tuple[TrainingPlan, dict[str, str], dict[str, str]]:
    """Return the plan as another machine can carry it out, and what comes along.

    Returns:
        The plan, the files that are copied, and the folders that the user has to copy: they may be
        large. Path here -> name there.
    """
    model = plan.model
    files = {plan.dataset.path: "train_data.jsonl"}
    if plan.validation is not None:
        files[plan.validation.path] = "validation_data.jsonl"
    if template := plan.training.get("chat_template_path"):
        files[template] = "chat_template.jinja"
    if cached := SNAPSHOT.fullmatch(model.load_from):
        named = {"load_from": f"{cached[1]}/{cached[2]}", "revision": cached[3]}
        model = model.model_copy(update=named)
    places = {model.load_from: "./model", model.adapter or "": "./adapter"}
    folders = {path: name for path, name in places.items() if Path(path).is_absolute()}
    return plan.model_copy(update={"model": model}), files, folders


def _copy(path: Path, target: Path) -> None:
    if target.suffix == ".jsonl" and recognise(path).is_array:
        lines = (json.dumps(example) for _, example in read_examples(path))
        target.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    else:
        shutil.copyfile(path, target)
