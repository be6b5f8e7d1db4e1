"""Where a training run executes: one file per backend, one row each in `table.py`.

A launcher has the backend's options and a few pure functions over text: the files and the command
of a submission, how to ask for its state and what the answer means, how to cancel it. It starts
nothing itself and is never trusted about a run's state: that comes from the run directory, which
the worker writes. The scheduler only says whether a job is still there. The log of a job is the
run's `log.txt`, as everywhere.

To add one: a module with a `LAUNCHER`, and its row in `table.py`; `doctor`, the plan and the
refusal of unknown options follow. `attend.py` submits a job and looks after it from here,
`inside_job.py` inside it.
"""
