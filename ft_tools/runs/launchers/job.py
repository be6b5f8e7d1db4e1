"""What every launcher is given and gives: a job, a launcher's row, and what a scheduler said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ft_tools.runs.launchers.options import Options

BUNDLE = "@BUNDLE@"
"""Stands in a bundle's files for the folder that the bundle will be in."""


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


class Hint(NamedTuple):
    """What a scheduler says about a job; the run directory decides."""

    state: Literal["waiting", "running", "ended", "unknown"]
    said: str
    reason: str | None = None


UNKNOWN = Hint("unknown", "no answer")


@dataclass(frozen=True)
class Launcher:
    """How a backend is spoken to. All functions are pure: files and argv out, text in."""

    program: str
    """What has to be on PATH."""
    cure: str
    """What to do when it is not."""
    files: Callable[[Job], dict[str, str]]
    """Files that are written into the run directory first, by name."""
    submit: Callable[[Job], list[str]]
    job_id: Callable[[Job, str], str]
    """The job's id, out of what the submission printed; out of nothing: the name we gave, or ""."""
    look: Callable[[Options, str], list[str]]
    hint: Callable[[int, str, str], Hint]
    """What the look's exit code and output say of the job with this id."""
    stop: Callable[[Options, str], list[str]]
    again: Callable[[Mapping[str, str], float], list[str]] | None = None
    """From inside a job that was told to stop: the argv that queues it once more, or nothing."""
    fetch: Callable[[Options, str, str], list[str]] | None = None
    """Storage folder and local folder -> the argv that brings the run's files here."""
    send: Callable[[Options, str, str], list[str]] | None = None
    """Local folder and storage folder -> the argv that takes a bundle there."""

    @property
    def sees_the_run(self) -> bool:
        """Tell whether the job works in the run directory itself: there is nothing to fetch."""
        return self.fetch is None


def inside(job: Job, command: list[str], *given: str) -> list[str]:
    """Return the argv that runs inside a job: it looks after the worker, as a supervisor does."""
    python = [job.python, "-P", "-m", "ft_tools.runs.inside_job"]
    return [*python, job.run_dir, job.token, *given, "--", *command]
