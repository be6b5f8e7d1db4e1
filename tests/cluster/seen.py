"""What scontrol and get_run say of a run side by side, each time that one of them changes.

`pytest -rP tests/cluster/test_slurm.py` prints what was seen after the tests.
"""

import re
import subprocess
import sys
import threading
import time

from ft_tools.runs.request import RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.tool import get_run
from tests.faults.harness import run_dir_of

LOOK_SECONDS = 0.2
SHOWN = ("JobState", "Reason", "Restarts", "NodeList")
SUBMITTED = "submitted as slurm job "
MOMENT = "{:>7} {:<11} {:<19} {:>8} {:<8} | {:<11} {:<10} {:<10} {:>5} {:>8} {}"
HEADING = MOMENT.format("seconds", "JobState", "Reason", "Restarts", "NodeList", "state", "reason",
                        "phase", "step", "attempts", "resumable")  # fmt: skip


class Seen:
    """Looks at a run from a thread of its own while the test acts on it.

    >>> with Seen(run_id) as seen:  # doctest: +SKIP
    ...     cancel_run(CancelRequest(run_id=run_id))
    >>> seen.job_states, seen.states  # doctest: +SKIP
    (['RUNNING', 'COMPLETING', 'COMPLETED'], ['running', 'cancelling', 'cancelled'])
    """

    def __init__(self, run_id):
        self.run_id = run_id
        self.job_states = []
        self.states = []
        self._lines = []
        self._last = None
        self._began = time.monotonic()
        self._enough = threading.Event()
        self._looking = threading.Thread(target=self._look_until_enough)

    def __enter__(self):
        self._looking.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        self._looking.join()
        self._look()
        events = [event.message for event in directory.read_events(run_dir_of(self.run_id))]
        lines = [f"{self.run_id}: scontrol show job | get_run", HEADING, *self._lines]
        lines += [f"  event: {message}" for message in events]
        sys.stdout.write("\n".join([*lines, ""]))

    def _look_until_enough(self):
        while not self._enough.wait(LOOK_SECONDS):
            self._look()

    def _look(self):
        job = self._ask_slurm()
        run = get_run(RunRequest(run_id=self.run_id))
        step = run.progress.step if run.progress else 0
        now = (*job, run.state, run.reason, run.phase, run.attempts, run.resumable)
        if now == self._last:
            return
        self._last = now
        self.job_states += [job[0]] if [job[0]] != self.job_states[-1:] else []
        self.states += [run.state] if [run.state] != self.states[-1:] else []
        seconds = f"{time.monotonic() - self._began:.1f}"
        ours = (run.state, run.reason or "", run.phase, step, run.attempts, str(run.resumable))
        self._lines.append(MOMENT.format(seconds, *job, *ours).rstrip())

    def _ask_slurm(self):
        """Return the fields of the run's job in Slurm's own words; blanks before there is one."""
        events = [event.message for event in directory.read_events(run_dir_of(self.run_id))]
        numbers = [m.removeprefix(SUBMITTED) for m in events if m.startswith(SUBMITTED)]
        if not numbers:
            return ("",) * len(SHOWN)
        argv = ["scontrol", "show", "job", "--oneliner", numbers[-1]]
        shown = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        fields = dict(re.findall(r"(?<= )(\w+)=(\S*)", shown))
        return tuple(fields.get(name, "").replace("(null)", "") for name in SHOWN)
