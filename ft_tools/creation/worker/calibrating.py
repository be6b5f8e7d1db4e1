"""Let each judge score the rows that the user marked."""

import json

from ft_tools import workspace
from ft_tools.creation.calibration import Agreement, agreement, read_marked
from ft_tools.creation.pilots import JUDGES
from ft_tools.creation.request import CreateRequest
from ft_tools.metrics.checks.request import Judge, check_names
from ft_tools.metrics.checks.scorer import Scorer
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session


def calibrate(session: Session, request: CreateRequest) -> dict[str, Agreement]:
    """Return how far each judge agrees with the user, and write it down; nothing without marks."""
    if request.marked is None:
        return {}
    marked = read_marked(workspace.existing(request.marked))
    rows = [{"prompt": one.question, "answer": ""} for one in marked]
    found = {}
    for name, check in zip(check_names(request.checks), request.checks, strict=True):
        if isinstance(check, Judge):
            session.phase(f"comparing {name} with the marked rows")
            named = check.model_copy(update={"name": name})
            with Scorer([named], workspace.roots()[0], session.run_dir) as scorer:
                totals = [one.total for one in scorer.score(rows, [one.answer for one in marked])]
            verdicts = [None if total is None else total == 1 for total in totals]
            found[name] = agreement([one.is_good for one in marked], verdicts)
    written = {name: one.model_dump() for name, one in found.items()}
    write_file(session.run_dir / JUDGES, json.dumps(written))
    return found
