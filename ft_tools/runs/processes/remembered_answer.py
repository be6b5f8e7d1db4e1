"""Ask a process that imports heavy libraries once; its answer is kept by what it depends on."""

import contextlib
import hashlib
import importlib.metadata
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ft_tools import abandoned_calls, workspace
from ft_tools.errors import FineTuningError
from ft_tools.publish import private_folder, write_file
from ft_tools.runs.processes.start import command, environment

T = TypeVar("T")
AGAIN_SECONDS = 600.0
"""After an answer that took too long the same one is not waited for again by each call."""


class Unanswered(Exception):
    """The process gave no answer: `kind` is the class of the error, or `timeout`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def versions(packages: Iterable[str]) -> list[str]:
    """Return the installed versions of packages, for what an answer depends on."""
    found = []
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def ask(
    worker: str,
    answer: TypeAdapter[T],
    *,
    question: str = "",
    depends_on: Any,
    seconds: float,
    variables: Mapping[str, str] | None = None,
    keeps: Callable[[T], bool] = lambda _: True,
    waits_again: bool = True,
) -> T:
    """Return what a worker module prints as its last line, JSON, to a question on its input.

    Args:
        worker: The module.
        answer: The type of the answer.
        question: Its standard input.
        depends_on: As JSON, all that another answer may follow from.
        seconds: How long it may take.
        variables: Of its environment, beside those of every worker.
        keeps: Whether an answer is remembered.
        waits_again: Whether one that took too long is asked again within ten minutes.

    Raises:
        Unanswered: It fails, takes too long, or prints something else.
    """
    text = json.dumps([worker, depends_on], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    kept = workspace.cache_dir() / "answers" / f"{name}.json"
    late = kept.with_suffix(".late")
    with contextlib.suppress(OSError, ValidationError):
        return answer.validate_json(kept.read_bytes())
    with contextlib.suppress(OSError):
        if not waits_again and time.time() - late.stat().st_mtime < AGAIN_SECONDS:
            raise Unanswered("timeout")
    try:
        done = abandoned_calls.run_process(
            command(worker),
            input=question,
            timeout=seconds,
            env=environment() | dict(variables or {}),
        )
        # Imports of libraries may print before it.
        found = answer.validate_json(done.stdout.rpartition("\n")[2])
    except subprocess.TimeoutExpired:
        _keep(late, "")
        raise Unanswered("timeout") from None
    except (OSError, subprocess.SubprocessError, ValidationError) as error:
        _keep(kept.with_suffix(".log"), str(getattr(error, "stderr", "")))
        raise Unanswered(type(error).__name__) from error
    if keeps(found):
        _keep(kept, answer.dump_json(found).decode())
    else:
        _keep(kept.with_suffix(".log"), done.stderr)
    return found


def _keep(file: Path, text: str) -> None:
    # A full disk refuses a run where its own files have no room, and no plan.
    with contextlib.suppress(OSError, FineTuningError):
        private_folder(file.parent)
        write_file(file, text)
