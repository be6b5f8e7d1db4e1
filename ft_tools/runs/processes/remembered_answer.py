"""Ask a process that imports heavy libraries once; its answer is kept by what it depends on."""

import contextlib
import hashlib
import importlib.metadata
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from ft_tools import abandoned_calls, workspace
from ft_tools.errors import FineTuningError
from ft_tools.publish import private_folder, write_file
from ft_tools.runs.processes.start import command, environment

T = TypeVar("T")
AGAIN_SECONDS = 600.0
"""For so long an answer that was not given in time is not waited for again."""


class Unanswered(Exception):
    """The process gave no answer.

    `kind` is the class of the error, or `timeout`; `printed` what it wrote until then.
    """

    def __init__(self, kind: str, printed: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.printed = printed


def versions(packages: Iterable[str]) -> list[str]:
    """Return the installed versions of packages, for what an answer depends on."""
    found = []
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


class AnswerFile(Generic[T]):
    """The file in which an answer is kept.

    Args:
        worker: The module that answers.
        answer: The type of the answer.
        depends_on: As JSON, all that another answer may follow from.
    """

    def __init__(self, worker: str, answer: TypeAdapter[T], depends_on: Any) -> None:
        text = json.dumps([worker, depends_on], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        self._file = workspace.cache_dir() / "answers" / f"{name}.json"
        self._answer = answer

    def read(self) -> T | None:
        """Return the kept answer; None if there is none."""
        with contextlib.suppress(OSError, ValidationError):
            return self._answer.validate_json(self._file.read_bytes())
        return None

    def write(self, found: T) -> None:
        """Keep an answer."""
        self._put(".json", self._answer.dump_json(found).decode())

    def write_late(self) -> None:
        """Keep that there was none in time."""
        self._put(".late", "")

    def write_log(self, text: str) -> None:
        """Keep what the process wrote on its standard error."""
        self._put(".log", text)

    @property
    def is_late(self) -> bool:
        """Whether there was no answer in time in the last ten minutes."""
        with contextlib.suppress(OSError):
            return time.time() - self._file.with_suffix(".late").stat().st_mtime < AGAIN_SECONDS
        return False

    def _put(self, suffix: str, text: str) -> None:
        # A full disk refuses a run where its own files have no room, and no plan.
        with contextlib.suppress(OSError, FineTuningError):
            private_folder(self._file.parent)
            write_file(self._file.with_suffix(suffix), text)


def ask(
    worker: str,
    answer: TypeAdapter[T],
    *,
    question: str = "",
    depends_on: Any,
    seconds: float,
    variables: Mapping[str, str] | None = None,
    keeps: Callable[[T], bool] = lambda _: True,
) -> T:
    """Return what a worker module answers, or what it answered before.

    Args:
        worker: The module.
        answer: The type of the answer.
        question: Its standard input.
        depends_on: As JSON, all that another answer may follow from.
        seconds: How long it may take.
        variables: Of its environment, beside those of every worker.
        keeps: Whether an answer is remembered.

    Raises:
        Unanswered: As `run`.
    """
    kept = AnswerFile(worker, answer, depends_on)
    if (before := kept.read()) is not None:
        return before
    try:
        found, complained = run(worker, answer, question, seconds, variables)
    except Unanswered as error:
        kept.write_log(str(getattr(error.__cause__, "stderr", "")))
        raise
    if keeps(found):
        kept.write(found)
    else:
        kept.write_log(complained)
    return found


def run(
    worker: str,
    answer: TypeAdapter[T],
    question: str,
    seconds: float,
    variables: Mapping[str, str] | None = None,
) -> tuple[T, str]:
    """Return the last answer, a line of JSON, that a worker prints, and its standard error.

    Args:
        worker: The module.
        answer: The type of the answer.
        question: Its standard input.
        seconds: How long it may take, in what is left of the call's time.
        variables: Of its environment, beside those of every worker.

    Raises:
        Unanswered: It fails, takes too long, or prints something else.
    """
    try:
        done = abandoned_calls.run_process(
            command(worker),
            input=question,
            timeout=min(seconds, abandoned_calls.seconds_left()),
            env=environment() | dict(variables or {}),
        )
    except subprocess.TimeoutExpired as error:
        raise Unanswered("timeout", _text(error.stdout)) from error
    except (OSError, subprocess.SubprocessError) as error:
        printed = _text(getattr(error, "stdout", ""))
        raise Unanswered(type(error).__name__, printed) from error
    if (found := last_answer(answer, done.stdout)) is None:
        raise Unanswered("no_answer", done.stdout)
    return found, done.stderr


def last_answer(answer: TypeAdapter[T], printed: str) -> T | None:
    """Return the last line that is an answer: libraries may print, too, or it was cut."""
    for line in reversed(printed.split("\n")):
        with contextlib.suppress(ValidationError):
            return answer.validate_json(line)
    return None


def _text(printed: str | bytes | None) -> str:
    """Return output; of a process that was killed Python has bytes."""
    return printed.decode(errors="replace") if isinstance(printed, bytes) else printed or ""
