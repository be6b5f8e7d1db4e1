"""Where a training run executes: a row a backend, each a few pure functions over text.

A launcher writes the files of a job, says how to submit, look at and stop it, and reads what the
scheduler prints. It starts nothing itself and is never believed about a run's state: that comes
from the run directory, which the worker writes. The scheduler only says whether a job is still
there.

To add one: a module with a `LAUNCHER`, its options in `options.py`, a row in `table.py`.
`ft_tools/runs/remote_run.py` submits a job and looks after it from here,
`ft_tools/runs/inside_job.py` inside it.
"""
