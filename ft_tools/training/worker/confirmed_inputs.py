"""Refuse inputs that are not those that were confirmed: files, model, template, device."""

from collections.abc import Iterator
from pathlib import Path

import torch

from ft_tools import publish, workspace
from ft_tools.models.model_folder import content_hash, template_hash, tokenizer_folder
from ft_tools.publish import sha256
from ft_tools.training.findings import refusal
from ft_tools.training.training_plan import TrainingPlan


def check_inputs(plan: TrainingPlan) -> None:
    """Refuse data or a device that is not the one that was confirmed."""
    model = plan.model
    files = [facts for facts in (plan.dataset, plan.validation) if facts is not None]
    needed = [facts.path for facts in files] + [model.load_from] * bool(model.config_sha256)
    for place in [*needed, *filter(None, [model.adapter])]:
        if not Path(place).exists():
            raise refusal("input_gone", place=place)
    for place, is_same in _compared(plan):
        if not is_same:
            raise refusal("input_changed", place=place)
    for folder in map(Path, filter(None, (model.adapter, model.load_from))):
        # A folder of ours has a manifest, others have none.
        if (folder / publish.MANIFEST).is_file() and (wrong := publish.verify(folder)):
            raise refusal("input_damaged", place=folder, problem=wrong[0])
    if plan.device.name != "cpu" and not torch.cuda.is_available():
        raise refusal("card_unusable", device=plan.device.model, torch=torch.__version__)


def _compared(plan: TrainingPlan) -> Iterator[tuple[str, bool]]:
    """Yield what has a hash in the plan, and whether it still has it."""
    model, given = plan.model, plan.training.get("chat_template_path")
    for facts in (plan.dataset, plan.validation):
        if facts is not None:
            path = Path(facts.path)
            yield facts.path, path.is_file() and sha256(path) == facts.sha256
    for name, hashed in getattr(plan, "reward_files", {}).items():
        file = workspace.resolve(name)
        yield name, file.is_file() and sha256(file) == hashed
    if model.files_sha256:
        base = model.load_from if model.config_sha256 else None
        yield model.load_from, content_hash([base, model.adapter]) == model.files_sha256
    elif model.config_sha256:
        # A plan of version 0.1 has no other hash of the model.
        config = Path(model.load_from) / "config.json"
        yield model.load_from, config.is_file() and sha256(config) == model.config_sha256
    if model.config_sha256 or model.template_sha256:
        folder = tokenizer_folder(model.adapter, model.load_from)
        is_there = given is None or Path(given).is_file()
        is_same = is_there and template_hash(Path(folder), given) == model.template_sha256
        yield f"the chat template of {given or folder}", is_same
