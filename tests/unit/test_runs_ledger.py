"""What a workspace has spent, added up over its runs by get_run without an id."""

import json

from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import Status
from ft_tools.runs.tool import get_run
from tests.made_runs import made_run

HOUR = 3600.0


def add_run(workspace, kind, number, status, request=None, **info):
    # The status as it is: a write would set the time.
    files = {"request": request or {}, "status": Status(**status)}
    return made_run(f"{kind}-{number:016x}", files=files, created_at=float(number), **info)


def done(hours, **more):
    return {"state": "succeeded", "started_at": 100.0, "ended_at": 100.0 + hours * HOUR, **more}


def spent():
    return get_run(RunRequest()).spent


def test_hours_count_every_attempt_and_device(workspace):
    add_run(workspace, "sft", 1, done(2, earlier_seconds=HOUR), device="cpu")
    add_run(workspace, "dpo", 2, done(1), device="cuda", num_slots=4)
    add_run(
        workspace, "kto", 3, done(1), device="cuda", num_slots=2, backend="slurm",
        backend_options={"nodes": 3},
    )  # fmt: skip
    running = {"state": "running", "started_at": 100.0, "updated_at": 100.0 + HOUR / 2}
    add_run(workspace, "sft", 4, running, device="cpu")
    add_run(workspace, "audit", 5, {"state": "queued"})
    found = spent()
    assert (found.cpu_hours, found.gpu_hours) == (3.5, 10.0)


def test_money_is_what_each_call_cost_at_last(workspace):
    run_dir = add_run(workspace, "evaluate", 1, done(0))
    lines = [("a", 1, 0.5), ("a", 2, 0.5), ("a", 1, 0.01), ("b", 1, 0.02)]
    rows = [json.dumps({"system": s, "call": call, "usd": usd}) for s, call, usd in lines]
    (run_dir / "calls.jsonl").write_text("\n".join([*rows, '{"torn']))
    assert spent().endpoint_usd == 0.53


def test_models_without_an_evaluation_are_named_and_measured_or_merged_ones_are_not(workspace):
    runs = [add_run(workspace, "sft", n, done(0)).name for n in range(1, 6)]
    add_run(workspace, "sft", 9, {"state": "failed"})
    add_run(workspace, "evaluate", 11, done(0), {"model": runs[0]})
    add_run(workspace, "evaluate", 12, done(0), {"systems": [{"name": "x", "model": runs[1]}]})
    add_run(workspace, "evaluate", 13, {"state": "failed"}, {"model": runs[2]})
    merged = add_run(workspace, "ship", 14, done(0), {"source": runs[3]})
    add_run(workspace, "evaluate", 15, done(0), {"model": f"{merged}/artifacts/model"})
    assert spent().never_evaluated == [runs[4], runs[2]]
