"""What the tests of create_dataset share: files, and a run in this process."""

import json
import time

from ft_tools.creation.plan import make_plan
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.tool import create_dataset
from ft_tools.creation.worker import create as worker
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.state.records import Status
from tests.made_runs import made_run

RUN_ID = "create-0123456789abcdef"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def chat(question, answer):
    said = answer if isinstance(answer, str) else json.dumps(answer)
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": said},
        ]
    }


def planned_here(workspace, run_id=RUN_ID, **arguments):
    """Plan as a caller would, and make the run's directory without a process for it."""
    request = CreateRequest.model_validate(arguments)
    launch = create_dataset(request)
    run_dir = workspace / "runs" / run_id
    if not run_dir.exists():
        files = {"request": request, "plan": make_plan(request)}
        made_run(run_id, Status(state="running"), files=files, created_at=time.time())
    return launch, run_dir


def run_here(workspace, run_id=RUN_ID, **arguments):
    """Plan as a caller would, then work in this process instead of a new one."""
    launch, run_dir = planned_here(workspace, run_id, **arguments)
    return launch, worker.work(Session(run_dir))
