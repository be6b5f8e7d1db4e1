"""A sign of life where a worker says nothing: the work that it and its children do.

A download, a large file that is tokenized, a model that is converted are silent for longer than a
run may be before it is called stalled. Who waits for something that never comes does no work.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import psutil

LOOK_SECONDS = 30.0
WORK_SECONDS = 0.2
"""Of the processors between two looks that are work: a download of 1 MB a second takes more, and
a process that only waits takes next to nothing."""


def watch(say: Callable[[], None]) -> None:
    """Call `say` twice a minute from now on, each time only if there was work since the last."""
    # At the limit of processes there are no signs, and the work itself says why it ends.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=_watch, args=(say,), daemon=True).start()


def _watch(say: Callable[[], None]) -> None:
    before = 0.0
    while True:
        # At the limit of open files a look sees nothing; the next one may.
        with contextlib.suppress(OSError, psutil.Error):
            now = _work()
            # Less than before: a child has ended, and that is work too.
            if abs(now - before) >= WORK_SECONDS:
                say()
            before = now
        time.sleep(LOOK_SECONDS)


def _work() -> float:
    """Return the seconds that this process and its children have had, without these looks."""
    own = psutil.Process()
    seconds = 0.0
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:4])
    return seconds - time.thread_time()
