"""A process that has the model libraries loaded, and answers questions about models.

It starts with the first question, answers within a time limit or is killed, and ends by itself when
nothing was asked for a minute. Answers are kept by the question's hash and the libraries' versions.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import subprocess
import threading
from functools import cache
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.errors import MissingExtra
from ft_tools.models import tower_packages
from ft_tools.publish import private_folder, write_file
from ft_tools.runs.json_process import JsonProcess, NoAnswer
from ft_tools.runs.start import command, environment

LIBRARIES = ("torch", "transformers", "peft")
LOAD_SECONDS = 60.0
# What such a process needs neither of: the Hub, and a GPU, of which it would take memory.
ALONE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
_processes: dict[str, "Inspector"] = {}
_guard = threading.Lock()


class Unanswered(Exception):
    """The process could not answer; `code` says why, in the worker's word or `timeout`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code} {detail}".strip())
        self.code = code
        self.detail = detail


def is_installed() -> bool:
    """Say whether the libraries are there that build a model."""
    return all(importlib.util.find_spec(name) is not None for name in LIBRARIES)


def ask(module: str, question: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Ask a worker module a question; the same one is answered from the cache.

    Raises:
        Unanswered: It cannot, or not within that time.
        MissingExtra: The libraries are not installed.
    """
    for name in LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise MissingExtra("train", name)
    text = json.dumps([module, _content(module), question, _versions()], sort_keys=True)
    file = workspace.cache_dir() / "inspected" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError):
        kept: dict[str, Any] = json.loads(file.read_bytes())
        return kept
    answer = _process(module).ask(question, seconds)
    with contextlib.suppress(Exception):  # a full or read-only disk costs the time of asking again
        private_folder(file.parent)
        write_file(file, json.dumps(answer))
    return answer


def prepare(module: str) -> None:
    """Start a worker module's process, so that it is loaded when it is asked."""
    if is_installed():
        _process(module).start()


def _process(module: str) -> "Inspector":
    with _guard:
        return _processes.setdefault(module, Inspector(module))


@cache
def _content(module: str) -> str:
    """Return the hash of a worker module's file: what another version answered is not kept."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"no module {module}")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


@cache
def _versions() -> str:
    ours = importlib.metadata.version("fine-tuning-llm")
    found = (importlib.metadata.distributions(name=name) for name in tower_packages.PACKAGES)
    towers = (f"{one.name} {one.version}" for each in found for one in each)
    return ",".join([ours, *map(importlib.metadata.version, LIBRARIES), *towers])


class Inspector:
    """One such process."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: JsonProcess | None = None
        self._is_loaded = False

    def start(self) -> None:
        """Start the process if it does not run, without waiting for it."""
        with self._lock:
            self._start()

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer to a question.

        Raises:
            Unanswered: It cannot, or not within that time.
        """
        with self._lock:
            was_loaded = self._is_loaded
            try:
                said = self._asked(question, seconds)
            except Unanswered as error:
                # It may have been about to end, because nothing was asked for a minute.
                if error.code != "died" or not was_loaded:
                    raise
                said = self._asked(question, seconds)
        if "error" in said:
            raise Unanswered(str(said["error"]), str(said.get("detail", "")))
        answer: dict[str, Any] = said["answer"]
        return answer

    def _asked(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        process = self._start()
        try:
            if not self._is_loaded:
                process.read(LOAD_SECONDS)
                self._is_loaded = True
            return process.ask(question, seconds)
        except NoAnswer as error:
            self._process, self._is_loaded = None, False
            raise Unanswered("died" if error.has_died else "timeout") from None

    def _start(self) -> JsonProcess:
        if self._process is None or not self._process.is_running:
            self._is_loaded = False
            self._process = JsonProcess(
                command(self._module),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=environment() | ALONE,
            )
        return self._process
