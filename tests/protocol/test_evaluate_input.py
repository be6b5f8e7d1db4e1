"""What a caller can get wrong about an evaluation, over MCP and on the command line."""

import json
from urllib.parse import urlsplit

import pytest

from ft_tools.cli import main as cli
from ft_tools.runs.state.records import RunInfo
from tests.protocol.calls import CONFIG

TRAINED = "sft-00000000000000aa"
ASKED = {"model": "model", "baseline": "model", "dataset": "heldout.jsonl"}
TASKS = {"task_paths": ["tasks"]}


def schema(name):
    return {"checks": [{"kind": "json_schema", "schema": name}]}


# What is asked -> the exit code, and what the refusal names.
CASES = {
    "a row without its reference": ({"dataset": "open.jsonl"}, 2, "open.jsonl:2"),
    "an unknown metric": ({"metrics": ["bleurt"]}, 2, "got 'bleurt'"),
    "an unknown device": ({"device": "tpu"}, 2, "device: 'tpu'"),
    "a GPU that is not there": ({"device": "cuda:7"}, 2, "use one of: cpu"),
    "a wrong run id": ({"model": "sft-7"}, 6, "'sft-7'"),
    "a damaged config.json": ({"model": "damaged"}, 2, "damaged/config.json is not JSON"),
    "a pattern that is none": ({"checks": [{"kind": "pattern", "pattern": "(\\d+"}]}, 2, "pattern"),
    "a schema that is none": (schema("broken.json"), 2, "$.type"),
    "a schema that is elsewhere": (schema("elsewhere.json"), 2, "$defs"),
    "a missing model": ({"model": "owner/missing"}, 2, "HF_HUB_OFFLINE"),
    "a folder without weights": ({"model": "pickled"}, 2, "safetensors"),
    "questions that were trained on": ({"model": TRAINED}, 3, "train_validation_leak"),
    "an unknown task": (TASKS | {"lm_eval_tasks": ["our_tuwns"]}, 2, "our_towns"),
    "tasks for a GGUF file": ({"model": "small.gguf", "lm_eval_tasks": ["any"]}, 2, "merged model"),
}


@pytest.fixture
def wrong(prepared, monkeypatch):
    """Add the files that are wrong, and a run that was trained on the held-out file."""
    workspace = prepared
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(workspace / "hub"))
    good = (workspace / "heldout.jsonl").read_text()
    (workspace / "open.jsonl").write_text(good + '{"prompt": "Where is my parcel?"}\n')
    elsewhere = {"properties": {"order": {"$ref": "https://example.org/order.json"}}}
    (workspace / "elsewhere.json").write_text(json.dumps(elsewhere))
    (workspace / "broken.json").write_text('{"type": "objekt"}')
    (workspace / "pickled").mkdir()
    (workspace / "pickled" / "config.json").write_text(json.dumps(CONFIG))
    (workspace / "damaged").mkdir()
    (workspace / "damaged" / "config.json").write_text('{"model_type": ')
    (workspace / "small.gguf").write_bytes(b"GGUF" + bytes([3]) + bytes(19))
    (workspace / "tasks").mkdir()
    (workspace / "tasks" / "towns.yaml").write_text("task: our_towns\n")
    run = workspace / "runs" / TRAINED
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts" / "model").symlink_to(workspace / "model")
    info = RunInfo(run_id=TRAINED, kind="sft", created_at=1.0, lineage={"base_model": "model"})
    (run / "run.json").write_text(info.model_dump_json())
    dataset = {"path": str(workspace / "heldout.jsonl"), "format": "messages"}
    (run / "plan.json").write_text(json.dumps({"dataset": dataset}))
    return workspace


@pytest.mark.parametrize("case", CASES)
@pytest.mark.anyio
async def test_an_agent_is_told_what_to_change_and_nothing_starts(client, wrong, case):
    arguments, _, named = CASES[case]
    result = await client.call_tool("evaluate", ASKED | arguments)
    assert result.is_error, result.structured_content
    assert named in result.content[0].text
    assert not list((wrong / "runs").glob("evaluate-*"))


@pytest.mark.parametrize("case", CASES)
def test_a_person_is_told_so_too_and_the_exit_code_says_which_kind(wrong, capsys, case):
    arguments, code, named = CASES[case]
    argv = ["evaluate", "--format", "human"]
    for name, value in (ASKED | arguments).items():
        for one in value if isinstance(value, list) else [value]:
            text = one if isinstance(one, str) else json.dumps(one)
            argv += [f"--{name.replace('_', '-')}", text]
    assert cli.run(argv) == code
    assert named in " ".join(capsys.readouterr().err.split())


@pytest.mark.anyio
async def test_an_accepted_leak_is_kept_in_the_plan_with_its_reason(client, wrong):
    accepted = {"accept_findings": ["train_validation_leak"], "accept_reason": "smoke test"}
    result = await client.call_tool("evaluate", ASKED | {"model": TRAINED} | accepted)
    assert not result.is_error, result.content[0].text
    plan = result.structured_content["plan"]
    assert plan["accepted"] == ["train_validation_leak"]
    assert plan["accept_reason"] == "smoke test"
    assert plan["contamination"]["num_exact"] == 1


@pytest.mark.parametrize("more", [[], ["--yes", "--detach"]], ids=["no --yes", "detached"])
def test_a_gate_that_could_not_be_checked_does_not_pass(wrong, capsys, more):
    argv = ["evaluate", "model", "--dataset", "heldout.jsonl", "--require", "improved:exact_match"]
    assert cli.run([*argv, *more]) == 2
    assert "give --yes with it" in capsys.readouterr().err
    assert not list((wrong / "runs").glob("evaluate-*"))


def test_a_requirement_that_cannot_be_read_stops_before_anything_starts(wrong, capsys):
    argv = ["evaluate", "model", "--dataset", "heldout.jsonl", "--yes", "--require", "better:rouge"]
    assert cli.run(argv) == 2
    assert "allowed: improved:METRIC" in capsys.readouterr().err
    assert not list((wrong / "runs").glob("evaluate-*"))


@pytest.mark.anyio
async def test_where_the_texts_go_is_in_the_plan_and_part_of_what_is_confirmed(client, wrong):
    plans = []
    for url in ("https://one.example/v1", "https://other.example/v1"):
        judge = {"kind": "judge", "rubric": "It is polite.", "name": "polite"}
        judge["endpoint"] = {"url": url, "model": "m", "max_calls": 40}
        result = await client.call_tool("evaluate", ASKED | {"checks": [judge]})
        plans.append(result.structured_content)
        (sent,) = [w for w in plans[-1]["warnings"] if w.startswith("texts_sent: polite")]
        assert f"leave this machine: they are sent to {urlsplit(url).netloc}" in sent
        assert "max_calls 40" in sent
    assert plans[0]["plan_hash"] != plans[1]["plan_hash"]
