"""The demo's page, from reports as calls return them: with empty values left out."""

import json

import pytest
from mcp import Client

from ft_tools.demo import page
from ft_tools.demo.walk import Job
from ft_tools.evaluation.report import Contamination, EvaluationReport, Score, SystemResult
from ft_tools.evaluation.results import Settings, compare_scores
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo, Status
from ft_tools.shipping.report import FormatResult, ShipReport
from mcp_server.server import server

pytestmark = pytest.mark.anyio


def finished(workspace, kind, report=None, **lines):
    """Write a run that has succeeded, with its report and its files of lines; returns its id."""
    run_dir = workspace / "runs" / f"{kind}-0123456789abcdef"
    run_dir.mkdir(parents=True)
    info = RunInfo(run_id=run_dir.name, kind=kind, created_at=1.0)
    (run_dir / "run.json").write_text(info.model_dump_json())
    if report is not None:
        (run_dir / "report.json").write_text(report.model_dump_json())
    for name, rows in lines.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (run_dir / f"{name}.jsonl").write_text(text)
    directory.write_status(run_dir, Status(state="succeeded"))
    return run_dir.name


def evaluation():
    answers = {"base": [0.0, 1.0] * 20, "tuned": [1.0] * 40}
    scores = {name: {"exact_match": found} for name, found in answers.items()}
    values = {"base": 0.5, "tuned": 1.0}
    return EvaluationReport(
        tuned="tuned",
        baseline="base",
        compares_systems=True,
        summary=["No system is shown to meet the target."],
        main_metric="exact_match",
        systems=[
            SystemResult(name=name, kind="model", scores={"exact_match": Score(value=value)})
            for name, value in values.items()
        ],
        comparisons=compare_scores(scores, Settings(0, 0.1)),
        contamination=Contamination(
            checked_against=["train.jsonl"], not_checked=[], num_exact=0, num_near=0, lines=[]
        ),
    )


def shipped():
    return ShipReport(
        answers_as_measured="The shipped defaults do not answer as measured: do not ship.",
        name="tickets",
        base_model="base",
        output_dir="out",
        merged_path="out/merged",
        merge_check=None,
        merge_route="copy",
        held_out="built_in",
        num_held_out_tokens=0,
        formats=[
            FormatResult(format="gguf:Q8_0", state="made", path="out/a.gguf", size_bytes=2**20),
            FormatResult(format="gguf:Q4_K_M", state="failed", error="no space left"),
        ],
        tokens_per_second=None,
        prompt_proof={},
        handoff="out/HANDOFF.md",
    )


async def test_the_page_is_built_from_reports_whose_empty_values_a_call_leaves_out(workspace):
    pair = {"prompt": "Which team?", "completion": "billing"}
    (workspace / "rows.jsonl").write_text(json.dumps(pair) + "\n")
    sample = {"line": 1, "prompt": "a", "reference": "b", "answers": {"base": "", "tuned": "b"}}
    runs = {
        "sft": finished(workspace, "sft", metrics=[{"step": 1, "loss": 2.0}]),
        "evaluation": finished(workspace, "evaluate", evaluation(), samples=[sample]),
        "ship": finished(workspace, "ship", shipped()),
    }
    async with Client(server, raise_exceptions=True) as client:
        job = Job(client, workspace)
        # The control: what the call itself returns lacks what the page shows.
        returned = await job.call("get_run", run_id=runs["ship"])
        assert "recommended_format" not in returned["result"]
        found = {step: await job.follow(run_id) for step, run_id in runs.items()}
        found["approach"] = await job.call("recommend_approach", considering=["sft"])
        found["prepare"] = await job.call("prepare_dataset", path="rows.jsonl")
        found["audit"] = await job.call("audit_dataset", path="rows.jsonl")
        found["lora"] = await job.call(
            "suggest_lora_config", model="HuggingFaceTB/SmolLM2-135M-Instruct", goal="style"
        )
    html = page.build(workspace, found, {"Model": 1.0})
    for said in ("No system is shown to meet the target.", "do not ship", runs["sft"], "Verdict"):
        assert said in html
