"""Ask processes that import heavy libraries; answers are kept by what they depend on."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import select
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from ft_tools import abandoned_calls, workspace
from ft_tools.errors import FineTuningError
from ft_tools.publish import private_folder, write_file
from ft_tools.runs.processes.start import command, environment

T = TypeVar("T")
AGAIN_SECONDS = 600.0
"""For so long an answer that was not given in time is not waited for again."""
READ_BYTES = 1 << 16


class Unanswered(Exception):
    """A process gave no answer.

    `kind` is `timeout`, `died`, the class of an error or the worker's own word, `detail` what it
    says of it; `printed` and `complained` are its output until then.
    """

    def __init__(
        self, kind: str, detail: str = "", *, printed: str = "", complained: str = ""
    ) -> None:
        super().__init__(f"{kind} {detail}".strip())
        self.kind = kind
        self.detail = detail
        self.printed = printed
        self.complained = complained


@cache
def versions(*packages: str) -> list[str]:
    """Return the installed versions of packages, for what an answer depends on."""
    found = []
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


class AnswerFile(Generic[T]):
    """The file in which an answer is kept; that of another version of the worker is another file.

    Args:
        worker: The module that answers.
        answer: The type of the answer.
        depends_on: As JSON, all that another answer may follow from.
    """

    def __init__(self, worker: str, answer: TypeAdapter[T], depends_on: Any) -> None:
        text = json.dumps([worker, source_hash(worker), depends_on], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.path = workspace.cache_dir() / "answers" / f"{name}.json"
        self._answer = answer

    def read(self) -> T | None:
        """Return the kept answer; None if there is none."""
        with contextlib.suppress(OSError, ValidationError):
            return self._answer.validate_json(self.path.read_bytes())
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
            return time.time() - self.path.with_suffix(".late").stat().st_mtime < AGAIN_SECONDS
        return False

    def _put(self, suffix: str, text: str) -> None:
        # A full disk refuses a run where its own files have no room, and no plan.
        with contextlib.suppress(OSError, FineTuningError):
            private_folder(self.path.parent)
            write_file(self.path.with_suffix(suffix), text)


@cache
def source_hash(module: str) -> str:
    """Return the hash of a module's file; empty where there is none."""
    spec = importlib.util.find_spec(module)
    origin = spec.origin if spec else None
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest() if origin else ""


def run(
    worker: str, answer: TypeAdapter[T], question: str, seconds: float, variables: dict[str, str]
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
            env=environment() | variables,
        )
    except (OSError, subprocess.SubprocessError) as error:
        kind = type(error).__name__.replace("TimeoutExpired", "timeout")
        printed, complained = (_text(getattr(error, name, "")) for name in ("stdout", "stderr"))
        raise Unanswered(kind, printed=printed, complained=complained) from error
    if (found := last_answer(answer, done.stdout)) is None:
        raise Unanswered("no_answer", printed=done.stdout)
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


class JsonProcess:
    """A process that answers several questions: a line of JSON in, a line of JSON out."""

    def __init__(self, argv: list[str], **popen: Any) -> None:
        """Start it; `popen` holds further arguments of subprocess.Popen."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, bufsize=0, **popen)
        self._unread = b""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask(
        self, question: dict[str, Any], seconds: float, *, goes_on: bool = False
    ) -> dict[str, Any]:
        """Write a question and return its answer.

        Args:
            question: What is asked.
            seconds: How long to wait.
            goes_on: Whether to leave the process at work when that is over, for a `read` later.

        Raises:
            Unanswered: It died, or there is no answer in time.
        """
        assert self._process.stdin is not None
        line = json.dumps(question).encode() + b"\n"
        try:
            while line:
                line = line[self._process.stdin.write(line) or 0 :]
        except BrokenPipeError:
            self.end()
            raise Unanswered("died") from None
        return self.read(seconds, goes_on=goes_on)

    def read(self, seconds: float, *, goes_on: bool = False) -> dict[str, Any]:
        """Return the next line. As `ask`.

        Raises:
            Unanswered: It died, or there is none in time.
        """
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        until = time.monotonic() + seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            data = os.read(stream, READ_BYTES) if ready else b""
            if not data:
                if ready or not goes_on:
                    self.end()
                raise Unanswered("died" if ready else "timeout")
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def leave(self) -> None:
        """Leave it to end by itself: with no more questions, once it has answered the last one."""
        for pipe in filter(None, (self._process.stdin, self._process.stdout)):
            pipe.close()
        # Nobody collects its exit status; without one Python would warn of that at its own end.
        self._process.returncode = 0

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()
