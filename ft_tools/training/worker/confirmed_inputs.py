"""Refuse inputs that are not those that were confirmed: files, model, template, device."""

from pathlib import Path

import torch

from ft_tools import publish
from ft_tools.errors import Missing, NotFound, Refused
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.models.model_folder import content_hash, template_hash, tokenizer_folder
from ft_tools.publish import sha256
from ft_tools.training.plan import TrainingPlan


def check_inputs(plan: TrainingPlan) -> None:
    """Refuse data or a device that is not the one that was confirmed.

    Raises:
        NotFound: A file or the model is not there now; the run can be resumed once it is.
        Refused: A file or the model changed while the run was queued, or the model is damaged.
        Missing: The plan's GPU cannot be used by the installed torch.
    """
    _require_there(plan)
    for facts in (plan.dataset, plan.validation):
        if facts is not None and _file_hash(facts) != facts.sha256:
            raise Refused(
                f"{facts.path} is not the file that was confirmed; launch again to see the new plan"
            )
    base = plan.model.load_from if plan.model.config_sha256 else None
    confirmed = plan.model.files_sha256
    if confirmed and confirmed != content_hash([base, plan.model.adapter]):
        raise Refused(
            f"{plan.model.load_from} is not the model that was confirmed; launch again to see the "
            "new plan"
        )
    if plan.model.config_sha256 or plan.model.template_sha256:
        _require_template(plan)
    for folder in filter(None, (plan.model.adapter, plan.model.load_from)):
        _require_whole(Path(folder))
    if plan.device.name != "cpu" and not torch.cuda.is_available():
        raise Missing(
            f"the plan uses {plan.device.model}, which torch {torch.__version__} cannot; install "
            'torch with CUDA (https://pytorch.org), or pass backend_options={"device": "cpu"}'
        )


def _require_there(plan: TrainingPlan) -> None:
    data = [facts.path for facts in (plan.dataset, plan.validation) if facts is not None]
    model = [plan.model.load_from] if plan.model.config_sha256 else []
    for place in [*data, *model, *filter(None, [plan.model.adapter])]:
        if not Path(place).exists():
            raise NotFound(
                f"{place} no longer exists; restore it, then resume_run; if it was moved, "
                f"launch again "
                "with its new path"
            )


def _file_hash(facts: DatasetFacts) -> str:
    path = Path(facts.path)
    return sha256(path) if path.is_file() else ""


def _require_template(plan: TrainingPlan) -> None:
    """Refuse a chat template that is not the one that was confirmed."""
    given = plan.training.get("chat_template_path")
    folder = tokenizer_folder(plan.model.adapter, plan.model.load_from)
    is_there = given is None or Path(given).is_file()
    if not is_there or template_hash(Path(folder), given) != plan.model.template_sha256:
        raise Refused(
            f"the chat template of {given or folder} is not the one that was confirmed; launch "
            "again to see the new plan"
        )


def _require_whole(folder: Path) -> None:
    """Refuse a folder of ours that is not what was written; others have no manifest."""
    if not (folder / publish.MANIFEST).is_file():
        return
    wrong = publish.verify(folder)
    if wrong:
        raise Refused(f"{folder} is damaged: {wrong[0]}; make it again, or restore it")
