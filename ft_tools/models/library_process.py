"""A process that has the model libraries loaded, and answers questions about models.

It starts with the first question and ends by itself when nothing was asked for a minute. Answers
are kept by the question's hash and the libraries' versions: the process keeps them itself, so that
one that takes longer than its caller waits is there for the next call, of another process too.
"""

import atexit
import importlib.util
import subprocess
import threading
from typing import Any

from pydantic import TypeAdapter

from ft_tools import abandoned_calls
from ft_tools.errors import require_installed
from ft_tools.runs.processes.answers import (
    AnswerFile,
    JsonProcess,
    Unanswered,
    source_hash,
    versions,
)
from ft_tools.runs.processes.start import command, environment

ANSWER = TypeAdapter(dict[str, Any])
LIBRARIES = ("torch", "transformers", "peft")
SERVER = "ft_tools.models.worker.answering_parent"
SHAPE = "ft_tools.models.shape"
"""The module of what is answered: a kept answer of other fields is none."""
# What such a process needs neither of: the Hub, and a GPU, of which it would take memory.
ALONE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}


def is_installed() -> bool:
    """Return whether the libraries are there that build a model."""
    return all(importlib.util.find_spec(name) is not None for name in LIBRARIES)


def ask(module: str, question: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Ask a worker module's `answer` a question; the same one is answered from the cache.

    Raises:
        Unanswered: It cannot, or not within that time; after a timeout the process goes on, and a
            later call finds its answer.
        MissingExtra: The libraries are not installed.
    """
    require_installed("train", *LIBRARIES)
    installed = versions("fine-tuning-llm", *LIBRARIES)
    kept = AnswerFile(module, ANSWER, [question, installed, source_hash(SHAPE)])
    if (before := kept.read()) is not None:
        return before
    asked = {"module": module, "question": question, "kept": str(kept.path)}
    said = process.ask(asked, seconds)
    if "error" in said:
        raise Unanswered(str(said["error"]), str(said.get("detail", "")))
    answer: dict[str, Any] = said["answer"]
    return answer


class LibraryProcess:
    """The process, started when it is asked; questions are answered in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: JsonProcess | None = None
        self._late: list[JsonProcess] = []
        """Those that took too long: each answers alone, for a later call, and ends by itself."""

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer to a question; one that takes longer is left to answer alone.

        Raises:
            Unanswered: The process ended, or did not answer in time.
        """

        def within() -> float:
            return min(seconds, abandoned_calls.seconds_left())

        with self._lock:
            for one in [one for one in self._late if not one.is_running]:
                one.end()
                self._late.remove(one)
            while True:
                asked = self._process if self._process and self._process.is_running else None
                is_new = asked is None
                try:
                    if asked is None:
                        self.end()  # which closes what was open to it
                        asked = self._process = _started()
                        # Its first line says that the libraries are loaded.
                        asked.read(within(), goes_on=True)
                    return asked.ask(question, within(), goes_on=True)
                except Unanswered as error:
                    # One that was there may have ended because nothing was asked for a minute.
                    if is_new or error.kind == "timeout":
                        if error.kind == "timeout" and self._process is not None:
                            self._late.append(self._process)
                            self._process = None
                        raise

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.end()

    def leave(self) -> None:
        """Leave every process to itself, when this one ends: they end when they have answered."""
        for one in filter(None, (self._process, *self._late)):
            one.leave()


def _started() -> JsonProcess:
    alone = environment() | ALONE
    quiet = subprocess.DEVNULL
    return JsonProcess(command(SERVER), stderr=quiet, start_new_session=True, env=alone)


process = LibraryProcess()
atexit.register(process.leave)
