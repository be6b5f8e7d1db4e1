"""Run many small jobs at a time, one per core, until a time is over."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

Name = TypeVar("Name")


def finished(
    work: Callable[..., Any], jobs: Mapping[Name, tuple[Any, ...]], until: float
) -> Iterator[tuple[Name, Any]]:
    """Give the name and the result of each job as it ends; start none after `until`.

    Each job has a process of its own: its memory and its threads end with it. They are forked from
    one that has imported what trains, which takes 8 s.

    Args:
        work: A function of a module.
        jobs: Name -> its arguments.
        until: A time of time.monotonic.
    """
    if time.monotonic() > until:
        return
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ft_tools.training.worker.sft"])
    with ProcessPoolExecutor(cores, context, max_tasks_per_child=1) as pool:
        names = {pool.submit(work, *arguments): name for name, arguments in jobs.items()}
        for done in as_completed(names):
            if not done.cancelled():
                yield names[done], done.result()
            if time.monotonic() > until:
                for waiting in names:
                    waiting.cancel()
