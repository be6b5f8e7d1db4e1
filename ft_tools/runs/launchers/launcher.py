"""What every launcher takes and returns: a job, a launcher's row, and the state of a job."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ft_tools.runs.launchers.options import Options


@dataclass(frozen=True)
class Job:
    """A run as a scheduler sees it; for a plan that is only shown, with names in capitals."""

    run_id: str
    run_dir: str
    module: str
    token: str
    python: str
    options: Options
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return the name that people see in the queue."""
        return f"ft-{self.run_id}"

    @property
    def unique_name(self) -> str:
        """Return a name of this submission alone, for schedulers that take one as the job's id."""
        return f"{self.name}-{self.token}"


class JobState(NamedTuple):
    """What a scheduler says about a job; the run directory decides."""

    state: Literal["waiting", "running", "ended", "unknown"]
    text: str
    reason: str | None = None


UNKNOWN = JobState("unknown", "no answer")
FORGOTTEN = JobState("ended", "forgotten")
"""Schedulers forget a job some time after its end."""


class States(NamedTuple):
    """A scheduler's words for what a job does."""

    waiting: set[str]
    running: set[str]
    ended: dict[str, str | None]
    """Word -> why the job ended; None: it has succeeded."""

    def read(self, word: str, text: str = "") -> JobState:
        """Return the state that a word means; `text` is what people are shown."""
        text = text or word
        if word in self.waiting:
            return JobState("waiting", text)
        if word in self.running:
            return JobState("running", text)
        return JobState("ended", text, self.ended[word]) if word in self.ended else UNKNOWN


@dataclass(frozen=True)
class Launcher:
    """How a backend is spoken to. The functions are pure: files and argv out, text in."""

    options: type[Options]
    program: str
    """What has to be on PATH."""
    cure: str
    """What to do when it is not."""
    submit: Callable[[Job], list[str]]
    job_id: Callable[[Job, str], str]
    """The job's id, out of what the submission printed; out of nothing: the name we gave, or ""."""
    status: Callable[[Options, str], list[str]]
    read_status: Callable[[int, str, str], JobState]
    """Exit code and output of `status`, and the job's id -> its state."""
    cancel: Callable[[Options, str], list[str]]
    files: Callable[[Job], dict[str, str]] = lambda _: {}
    """Files that are written into the run directory first, by name."""
    requeue: Callable[[Mapping[str, str], float], list[str]] | None = None
    """From inside a job that was asked to stop: the argv that queues it once more, or nothing."""
    fetch: Callable[[Options, str, str], list[str]] | None = None
    """For machines that do not see the run directory: options, run id and local folder -> the
    command that brings the run's files here. `workdir.py` does the rest."""


def inside(job: Job, command: list[str], *given: str) -> list[str]:
    """Return the argv that runs inside a job: it looks after the worker, as a supervisor does."""
    python = [job.python, "-P", "-m", "ft_tools.runs.launchers.inside_job"]
    return [*python, job.run_dir, job.token, *given, "--", *command]
