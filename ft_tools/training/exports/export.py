"""Write a plan for other trainers into a new folder, with its data."""

from pathlib import Path

from ft_tools import workspace
from ft_tools.formats.training_rows import read_examples
from ft_tools.publish import new_folder
from ft_tools.training.exports import axolotl, script
from ft_tools.training.exports.portable import portable
from ft_tools.training.findings import warning
from ft_tools.training.plan import SftPlan, TrainingPlan
from ft_tools.training.request import TrainingRequest


def export(export_dir: str, plan: TrainingPlan) -> tuple[list[str], list[str]]:
    """Write the export with its data; return its files, and what its user has to know."""
    final = workspace.new_folder(export_dir)
    there, moved = portable(plan)
    with new_folder(final) as staging:
        written = script.write_exports(staging, there, moved)
        written += moved.copy(staging)
    names = [path.name for path in written]
    notes = [*moved.to_bring(), *_answers_split(plan)]
    if note := axolotl.memory_note(plan):
        notes.append(note)
    if plan.model.packages:
        notes.append(warning("export_packages", packages=" ".join(plan.model.packages)))
    return [str(final / name) for name in names], notes


def export_warnings(request: TrainingRequest, plan: TrainingPlan) -> list[str]:
    """Return a warning where an export is for a CPU, which is hardly meant."""
    if request.export_dir is None or plan.device.name != "cpu" or not request.is_here:
        return []
    return [warning("export_for_a_cpu")]


def _answers_split(plan: TrainingPlan) -> list[str]:
    """Return a warning where the exported script makes several examples of a conversation."""
    if not isinstance(plan, SftPlan) or plan.dataset.format != "messages":
        return []
    if plan.loss_on == "everything":
        return []
    answers = [
        sum(turn.get("role") == "assistant" for turn in row["messages"][1:])
        for _, row in read_examples(Path(plan.dataset.path))
    ]
    if sum(answers) == len(answers):
        return []
    num_answers, num_rows = sum(answers), len(answers)
    sizes = {"answers": num_answers, "conversations": num_rows, "ratio": num_answers / num_rows}
    return [warning("export_several_answers", **sizes)]
