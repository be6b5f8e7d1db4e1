"""Other programs, watched: each job in a process of its own, its words in a file.

What a program does badly ends that process and costs its format; the run keeps everything else.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools.errors import DiskFull, FineTuningError

POLL_SECONDS = 0.2
NO_SPACE, SPACE_HINT = "No space left on device", "free some and run it again"
MOST_LOGGED = 20_000

Stop = Callable[[], None]
"""Called while a program works; raises to end it early."""


class ProgramFailed(FineTuningError):
    """A program could not do a job; the message says why, as far as it can be told."""

    code = "program_failed"
    exit_code = 5


def watched(
    argv: Sequence[str],
    log: Path,
    stop: Stop,
    environment: Mapping[str, str],
    folder: Path | None = None,
) -> tuple[int, str]:
    """Run a program to its end; of one that fails the log of this process has the last words.

    Returns:
        Its exit code, negative for the signal that ended it, and what it wrote.

    Raises:
        DiskFull: It failed for want of space.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=dict(environment),
            cwd=folder,
        )
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                stop()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    said = log.read_text(encoding="utf-8", errors="replace")
    if process.returncode:
        sys.stderr.write(said[-MOST_LOGGED:])
        if NO_SPACE in said:
            raise DiskFull(f"no space left while {Path(argv[0]).name} wrote; {SPACE_HINT}")
    return process.returncode, said


def answer_of(
    name: str, argv: Sequence[str], job: Mapping[str, Any], scratch: Path, stop: Stop, **more: str
) -> dict[str, Any]:
    """Let a program do a job: it takes the job's file as its last argument, and writes the answer.

    Raises:
        DiskFull: There was no space for what it writes.
        ProgramFailed: It refused, or ended badly; its words are in the run's log.
    """
    job_file, answer = scratch / "job.json", scratch / "answer.json"
    answer.unlink(missing_ok=True)
    job_file.write_text(json.dumps({**job, "answer": str(answer)}), encoding="utf-8")
    environment = os.environ | more
    code, said = watched([*argv, str(job_file)], scratch / "job.log", stop, environment, scratch)
    found = dict(json.loads(answer.read_bytes())) if code == 0 and answer.is_file() else {}
    if found and "failed" not in found:
        return found
    if code == 0:
        # A job that says why it failed ends well; what its library said belongs in the log, too.
        sys.stderr.write(said[-MOST_LOGGED:])
    if found.get("disk_full"):
        raise DiskFull(found["failed"])
    raise ProgramFailed(found.get("failed") or ended(name, code, said))


def ended(name: str, code: int, said: str) -> str:
    """Return how a program ended, and what to do."""
    cure = "get_run with log_lines shows its words; upgrade it and ship again, or take safetensors"
    if code == -signal.SIGKILL:
        return f"{name} was killed, most likely because memory ran out; free some and ship again"
    if code == -signal.SIGABRT:
        return f"{name} aborted: it does not expect such a model; {cure}"
    how = f"by signal {-code}" if code < 0 else f"with {code} ({last_error(said)!a})"
    return f"{name} ended {how}; {cure}"


def last_error(said: str) -> str:
    """Return the kind of the last error that a program wrote."""
    lines = [line for line in said.splitlines() if line and not line[0].isspace()]
    return lines[-1].partition(":")[0][:60] if lines else "no output"
