"""Prepare a large file as a run: the same as at once, with progress."""

from pathlib import Path

from ft_tools.data.prepare import perform
from ft_tools.data.report import PrepareReport
from ft_tools.data.request import PrepareRequest
from ft_tools.data.worker.audit import Progress
from ft_tools.runs.processes.worker_session import Session, main


def work(session: Session) -> PrepareReport:
    """Write the files that request.json asks for."""
    request = session.request(PrepareRequest)
    session.phase("preparing")
    report = perform(request, Progress(session).rows)
    if report.outputs is not None:
        session.artifact("dataset", Path(report.outputs.folder))
    return report


if __name__ == "__main__":
    main(work)
