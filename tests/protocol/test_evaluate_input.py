"""What a caller can get wrong about an evaluation, over MCP and on the command line."""

import json
from urllib.parse import urlsplit

import pytest

from ft_tools.cli import main as cli
from ft_tools.runs.state.records import RunInfo
from tests.protocol.calls import CONFIG

TRAINED = "sft-00000000000000aa"
ASKED = {"model": "model", "baseline": "model", "dataset": "heldout.jsonl"}
CASES = {
    "a row without its reference": (
        {"dataset": "open.jsonl"},
        2,
        ["open.jsonl:2", "no reference", "expected answer"],
    ),
    "an unknown metric": (
        {"metrics": ["bleurt"]},
        2,
        ["metrics", "metrics.0: must be 'auto', 'tool_call'", "got 'bleurt'"],
    ),
    "an unknown device": ({"device": "tpu"}, 2, ["device: 'tpu'", "expected: auto", "mlx, cuda:1"]),
    "a GPU that is not there": ({"device": "cuda:7"}, 2, ["not a visible GPU; use one of: cpu"]),
    "a wrong run id": ({"model": "sft-7"}, 6, ["'sft-7'", "run id (get_run", "owner/name"]),
    "a damaged config.json": (
        {"model": "damaged"},
        2,
        ["damaged/config.json is not JSON", "download the model again"],
    ),
    "a pattern that is none": (
        {"metrics": ["regex"], "regex": "(\\d+"},
        2,
        ["regex", "not a valid Python pattern", "unterminated"],
    ),
    "a schema that is none": (
        {"metrics": ["json_schema"], "json_schema": "broken.json"},
        2,
        ["broken.json", "not a valid JSON Schema: $.type"],
    ),
    "a schema that is elsewhere": (
        {"metrics": ["json_schema"], "json_schema": "elsewhere.json"},
        2,
        ["https://example.org/order.json", "$defs"],
    ),
    "a judge that is not named": ({"metrics": ["judge"]}, 2, ["judge_url", "judge_model"]),
    "a missing model": ({"model": "owner/missing"}, 6, ["owner/missing", "HF_HUB_OFFLINE"]),
    "a folder without weights": ({"model": "pickled"}, 2, ["pickled", "safetensors"]),
    "held-out questions that were trained on": (
        {"model": TRAINED},
        3,
        ["train_validation_leak", "lines 1", "accept_reason"],
    ),
    "an unknown task": (
        {"lm_eval_tasks": ["our_tuwns"], "task_paths": ["tasks"]},
        2,
        ["our_tuwns", "our_towns"],
    ),
    "tasks for a GGUF file": (
        {"model": "small.gguf", "lm_eval_tasks": ["our_towns"], "task_paths": ["tasks"]},
        2,
        ["GGUF", "merged model"],
    ),
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
    arguments, _, said = CASES[case]
    result = await client.call_tool("evaluate", ASKED | arguments)
    assert result.is_error, result.structured_content
    text = result.content[0].text
    for part in said:
        assert part in text, text
    assert not list((wrong / "runs").glob("evaluate-*"))


@pytest.mark.parametrize("case", CASES)
def test_a_person_is_told_so_too_and_the_exit_code_says_which_kind(wrong, capsys, case):
    arguments, code, said = CASES[case]
    argv = ["evaluate", "--format", "human"]
    for name, value in (ASKED | arguments).items():
        for one in value if isinstance(value, list) else [value]:
            argv += [f"--{name.replace('_', '-')}", one]
    assert cli.run(argv) == code
    shown = " ".join(capsys.readouterr().err.split())
    for part in said:
        assert part in shown, shown


@pytest.mark.anyio
async def test_an_accepted_leak_is_kept_in_the_plan_with_its_reason(client, wrong):
    accepted = {"accept_findings": ["train_validation_leak"], "accept_reason": "smoke test"}
    result = await client.call_tool("evaluate", ASKED | {"model": TRAINED} | accepted)
    assert not result.is_error, result.content[0].text
    plan = result.structured_content["plan"]
    assert plan["accepted"] == ["train_validation_leak"]
    assert plan["accept_reason"] == "smoke test"
    assert plan["contamination"]["num_exact"] == 1


@pytest.mark.anyio
async def test_models_with_other_templates_and_tokens_are_explained(client, wrong):
    for name, template in (("model", "{{ messages }}"), ("other", "other {{ messages }}")):
        folder = wrong / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "model.safetensors").write_bytes(
            (wrong / "model" / "model.safetensors").read_bytes()
        )
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {name: 0}}}))
    result = await client.call_tool("evaluate", ASKED | {"model": "other"})
    assert not result.is_error, result.content[0].text
    warnings = " ".join(result.structured_content["warnings"])
    assert (
        "the chat templates differ: both models get prompts in the tuned model's template"
        in warnings
    )
    assert "the tokenizers differ: perplexity is compared as bits per byte" in warnings


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
    asked = ASKED | {"metrics": ["judge"], "judge_model": "m", "judge_max_calls": 40}
    plans = []
    for url in ("https://one.example/v1", "https://other.example/v1"):
        result = await client.call_tool("evaluate", asked | {"judge_url": url})
        plans.append(result.structured_content)
        assert plans[-1]["plan"]["arguments"]["judge_url"] == url
        (sent,) = [w for w in plans[-1]["warnings"] if w.startswith("texts_sent: judge")]
        assert f"leave this machine: they are sent to {urlsplit(url).netloc}" in sent
        assert "max_calls 40" in sent
    assert plans[0]["plan_hash"] != plans[1]["plan_hash"]
