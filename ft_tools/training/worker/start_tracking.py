"""Start the process that passes a run's metrics on to trackers, and end it with the training."""

import contextlib
import subprocess
import time
from types import TracebackType

from ft_tools.runs.processes.start import command, environment
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training.plan import TrainingPlan

FINISH_SECONDS = 20.0
"""What trackers get to send the last lines."""
# A launcher of several processes would make the tracker one of them.
OF_A_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Trackers:
    """The trackers of one attempt, in a process of their own; with none asked for, nothing.

    A tracker that raises, hangs or fills its quota hurts that process only: it reads
    `metrics.jsonl`, which the run writes anyway, and the training never waits for it.
    """

    def __init__(self, session: Session, plan: TrainingPlan) -> None:
        self._session = session
        asked: list[str] = plan.training.get("report_to") or []
        self._names = asked if session.leads else []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Trackers":
        if self._names:
            ours = {k: v for k, v in environment().items() if k not in OF_A_LAUNCHER}
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    command("ft_tools.training.worker.tracking", str(self._session.run_dir)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=ours,
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # The end of its input is the sign to send the rest and leave.
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        until = time.monotonic() + FINISH_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            self._session.heartbeat()
            time.sleep(0.05)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            self._session.event(f"{', '.join(self._names)}: gave up after a hang", "warning")
