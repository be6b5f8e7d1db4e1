"""What the tests of evaluations share: held-out files, and a run in this process."""

import json
import time

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ft_tools.evaluation.systems.models import LoadPlan, ModelFiles
from ft_tools.evaluation.tool import evaluate
from ft_tools.evaluation.worker import evaluate as worker
from ft_tools.evaluation.worker.loaded_models import LoadedModels
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo, Status

LIBRARY_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "FutureWarning", "UserWarning", "ResourceWarning")
]
IN_FLOAT32 = LoadPlan(place="cpu", dtype="float32", num_bytes=0)
RUN_ID = "evaluate-0123456789abcdef"
TOWNS = ["Oslo", "Bergen", "Narvik", "Molde"]


def rows(count):
    return [
        {
            "messages": [
                {
                    "role": "user",
                    "content": f"Where is my parcel number {i}?" + " Please." * (i % 7),
                },
                {"role": "assistant", "content": f"It is in {TOWNS[i % 4]}."},
            ]
        }
        for i in range(count)
    ]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def plan_of(folder, adapter=None):
    kind = "adapter" if adapter else "folder"
    return ModelFiles(
        name="m",
        kind=kind,
        load_from=str(folder),
        adapter=adapter and str(adapter),
        files_sha256="",
    )


def writer_of(folder):
    return writers_of(IN_FLOAT32, plan_of(folder))[0]


def writers_of(plan, *files):
    """Return what writes with models that are loaded together."""
    models = LoadedModels(plan, files)
    return [models.writer(one) for one in files]


def damage(folder, into, noise):
    """Save a model with noise in its weights, as many times their spread."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * weight.std() * noise)
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(folder).save_pretrained(into)


def planned_here(workspace, request):
    """Plan as a caller would, and make the run's directory without a process for it."""
    launch = evaluate(request)
    run_dir = workspace / "runs" / RUN_ID
    if not run_dir.exists():
        run_dir.mkdir(parents=True)
        info = RunInfo(run_id=run_dir.name, kind="evaluate", created_at=time.time())
        (run_dir / "run.json").write_text(info.model_dump_json())
        (run_dir / "request.json").write_text(request.model_dump_json())
        (run_dir / "plan.json").write_text(json.dumps(launch.plan))
        directory.write_status(run_dir, Status(state="running"))
    return run_dir


def run_here(workspace, request):
    """Plan as a caller would, then work in this process instead of a new one."""
    run_dir = planned_here(workspace, request)
    return run_dir, worker.work(Session(run_dir))


def by_metric(comparisons):
    return {row.metric: row for row in comparisons}
