"""Stop and continue runs: cancel_run and resume_run."""

from pydantic import Field

from ft_tools.contract import Request
from ft_tools.errors import Refused
from ft_tools.publish import write_file
from ft_tools.runs import directory
from ft_tools.runs.observe import RunRequest, get_run, state_of
from ft_tools.runs.records import ENDED, RunReport
from ft_tools.runs.start import supervise


class CancelRequest(Request):
    """Which run to stop."""

    run_id: str = Field(description="The run's id.")


class ResumeRequest(Request):
    """Which run to continue."""

    run_id: str = Field(description="The run's id.")


def cancel_run(request: CancelRequest) -> RunReport:
    """Ask a run to save and stop; it is `cancelling` at once, `cancelled` when it is gone.

    A run that does not stop in time is terminated, with every process it started. Repeating the
    call does nothing more. A cancelled training run keeps its last checkpoint.

    Raises:
        NotFound: There is no such run.
    """
    run_dir = directory.find(request.run_id)
    state = state_of(run_dir, directory.read_status(run_dir))
    if state not in ENDED and not (run_dir / "cancel").exists():
        write_file(run_dir / "cancel", "")
        directory.add_event(run_dir, "cancel asked")
    return get_run(RunRequest(run_id=request.run_id))


def resume_run(request: ResumeRequest) -> RunReport:
    """Continue an interrupted, failed or cancelled run from its last valid checkpoint.

    Raises:
        NotFound: There is no such run.
        Refused: It has succeeded already.
        RunBusy: It is still running.
    """
    run_dir = directory.find(request.run_id)
    state = state_of(run_dir, directory.read_status(run_dir))
    if state == "succeeded":
        raise Refused(f"run {request.run_id} has succeeded; there is nothing to resume")
    if state in ENDED:
        (run_dir / "cancel").unlink(missing_ok=True)
    supervise(run_dir)
    return get_run(RunRequest(run_id=request.run_id))
