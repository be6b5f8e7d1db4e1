"""A process that has the model libraries loaded, and answers questions about models.

It starts with the first question and ends by itself when nothing was asked for a minute. Answers
are kept by the question's hash and the libraries' versions: the process keeps them itself, so that
one that takes longer than its caller waits is there for the next call, of another process too.
"""

import importlib.util
import math
import subprocess
import threading
import time
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
AGAIN_SECONDS = 30.0
"""So long after a wait in vain nobody waits again: one call may ask several times."""
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
        self._is_behind = False
        """Whether it loads, or is at work on a question that nobody waits for any more."""
        self._waited_at = -math.inf

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer to a question.

        Raises:
            Unanswered: The process ended, or did not answer in time.
        """
        with self._lock:
            # One that was there may have ended because nothing was asked for a minute.
            for is_last in (False, True) if self._process else (True,):
                try:
                    return self._answer(question, seconds)
                except Unanswered as error:
                    if error.kind == "timeout":
                        self._waited_at = time.monotonic()
                    if is_last or error.kind == "timeout":
                        raise
            raise AssertionError

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.end()

    def _answer(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        def within() -> float:
            return min(seconds, abandoned_calls.seconds_left())

        if self._process is None or not self._process.is_running:
            self.end()  # which closes what was open to it
            self._process = None
            started = JsonProcess(
                command(SERVER),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=environment() | ALONE,
            )
            # Its first line says that the libraries are loaded.
            self._process, self._is_behind = started, True
        if self._is_behind:
            just_waited = time.monotonic() - self._waited_at < AGAIN_SECONDS
            self._process.read(0.0 if just_waited else within(), goes_on=True)
        self._is_behind = True
        said = self._process.ask(question, within(), goes_on=True)
        self._is_behind = False
        return said


process = LibraryProcess()
