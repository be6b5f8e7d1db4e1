"""Check before a run starts that the files it would load are there."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from ft_tools.errors import BadInput, NotFound, UnknownName
from ft_tools.evaluation.findings import finding
from ft_tools.models import gguf_header, hub_requests, model_folder
from ft_tools.models.obtain import how_to_get
from ft_tools.models.resolve import ModelSource

TIMEOUT_SECONDS = 5.0
NO_SUCH_MODEL = {401, 403, 404}
# How a task or group of lm-evaluation-harness names itself in its YAML file.
_NAME = re.compile(r"^(?:task|group|tag): *[\"']?([\w.-]+)", re.MULTILINE)


def require_there(source: ModelSource) -> list[str]:
    """Check that a model can be loaded, or fetched.

    Returns:
        What could not be checked, as a warning; empty when all was.

    Raises:
        BadInput: A folder has no weights that may be loaded, or a file is damaged.
        NotFound: The Hub does not have the model, or may not be asked and it is not here.
    """
    if source.path is None:
        return [_ask_the_hub(source.load_from)]
    path = Path(source.path)
    if source.kind == "gguf":
        gguf_header.require_whole(path, "download or convert it again")
    if path.is_dir():
        model_folder.require_readable(path)
        if not any(path.glob("*.safetensors")):
            raise BadInput(
                f"{path} has a config.json but no *.safetensors; pass a folder with weights, or "
                "convert other weights with save_pretrained first"
            )
    return []


def require_tasks(
    tasks: Sequence[str], folders: Sequence[str], sources: Sequence[ModelSource]
) -> None:
    """Check that the harness can run these tasks on these models.

    Without folders the tasks are the harness's own, which takes seconds to list; the run does it.

    Raises:
        BadInput: A model is a GGUF file, which the harness cannot be given here.
        UnknownName: No YAML file of the folders has such a task.
    """
    if any(source.kind == "gguf" for source in sources):
        raise BadInput(
            "lm_eval_tasks require transformers models; remove them for a GGUF file, or evaluate "
            "the merged model"
        )
    files = [file for folder in folders for file in Path(folder).rglob("*.y*ml")]
    known = {name for file in files for name in _NAME.findall(file.read_text("utf-8", "replace"))}
    for task in tasks if folders else ():
        if task not in known:
            raise UnknownName("task of lm-evaluation-harness", task, known, "see task_paths")


def _ask_the_hub(hub_id: str) -> str:
    """Return what the Hub says of a model, as a finding."""
    here = f"{hub_id} is not on this machine"
    if variable := hub_requests.forbidden_by():
        raise NotFound(
            f"{here} and {variable} forbids downloading it; unset it, or {how_to_get(hub_id)}"
        )
    token = os.environ.get("HF_TOKEN")
    request = urllib.request.Request(
        f"{hub_requests.endpoint()}/{hub_id}/resolve/main/config.json",
        method="HEAD",
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            return finding("hub_download", model=hub_id)
    except urllib.error.HTTPError as error:
        if error.code in NO_SUCH_MODEL:
            raise NotFound(
                f"{here} and the Hub has no model {hub_id!r} that this machine may read (HTTP "
                f"status {error.code}); check the spelling, or set HF_TOKEN for a private or "
                "gated one"
            ) from None
    except (OSError, ValueError):
        pass
    return finding("hub_not_reached", model=hub_id, cure=how_to_get(hub_id))
