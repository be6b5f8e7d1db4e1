"""Stop and continue runs: cancel_run and resume_run."""

from pydantic import Field

from ft_tools.contract import Request
from ft_tools.runs import directory, family, ranks
from ft_tools.runs.observe import RunRequest, get_run
from ft_tools.runs.records import ENDED, RunReport
from ft_tools.runs.start import adopt, supervise


class CancelRequest(Request):
    """Which run to stop."""

    run_id: str = Field(description="The run's id.")


class ResumeRequest(Request):
    """Which run to continue."""

    run_id: str = Field(description="The run's id.")


def cancel_run(request: CancelRequest) -> RunReport:
    """Ask a run to save and stop; it is `cancelling` at once, `cancelled` when it is gone.

    A run that does not stop in time is terminated, with every process it started, whether or not
    its supervisor still lives. Repeating the call does nothing more. A cancelled training run keeps
    its last checkpoint.

    Raises:
        NotFound: There is no such run.
        DiskFull: The disk has no room for the sign of a cancel.
    """
    run_dir = directory.find(request.run_id)
    now = get_run(RunRequest(run_id=request.run_id))
    if now.state not in ENDED or ranks.has_job(run_dir):
        if directory.mark_cancel(run_dir):
            directory.add_event(run_dir, "cancel asked")
    elif not family.is_remembered(run_dir):
        return now
    # Also after an end: a supervisor that was killed has left the worker's children alone.
    adopt(run_dir)
    return get_run(RunRequest(run_id=request.run_id))


def resume_run(request: ResumeRequest) -> RunReport:
    """Continue an interrupted, failed or cancelled run from its last valid checkpoint.

    Raises:
        NotFound: There is no such run.
        Refused: It has succeeded already.
        RunBusy: It is still running.
        DiskFull: There is no space for its own files.
    """
    run_dir = directory.find(request.run_id)
    directory.read_info(run_dir)
    if ranks.has_job(run_dir):
        # Its scheduler has the job still: it only needs somebody who looks after it again.
        adopt(run_dir)
    else:
        supervise(run_dir)
    return get_run(RunRequest(run_id=request.run_id))
