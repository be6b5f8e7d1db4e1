"""Wrong input: a clear error that names the cure, and nothing is written."""

import importlib.util
import json
import shutil
from collections import namedtuple

import pytest
from mcp import Client

from ft_tools import installation
from ft_tools.cli import main as cli
from ft_tools.training.validation_split import FOLDER
from mcp_server.server import server
from tests.made_runs import made_run
from tests.protocol.calls import CONFIG, RUN_ID

pytestmark = pytest.mark.anyio

GOOD_LINE = (
    '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}'
)
SFT = {"model": "model", "dataset": "data.jsonl"}
SHIP = {"source": "model", "formats": ["gguf:Q8_0"]}
EVAL = {"model": "model", "baseline": "model", "dataset": "heldout.jsonl"}
TASKS = {"task_paths": ["tasks"], "lm_eval_tasks": ["our_tuwns"]}
SCHEMA = {"checks": [{"kind": "json_schema", "schema": "broken.json"}]}
TRAINED = "sft-00000000000000aa"
LLAMA = "meta-llama/Llama-3.1-8B"
# tool, arguments, what the error must name: what is wrong, and what to do about it.
CASES = {
    "unknown catalog model": (
        "estimate_vram",
        {"model": "meta-llama/Llama-9-8B", "method": "lora"},
        ["meta-llama/Llama-9-8B", "hf download", f"nearest: {LLAMA}"],
    ),
    "no such model folder": ("launch_sft", SFT | {"model": "nowhere"}, ["nowhere"]),
    "binary file": ("audit_dataset", {"path": "binary.jsonl"}, ["binary.jsonl"]),
    "one bad line": ("launch_sft", SFT | {"dataset": "bad.jsonl"}, ["bad.jsonl:3"]),
    "misspelt argument of PEFT": (
        "launch_sft",
        SFT | {"peft": {"lora_aplha": 8}},
        ["lora_aplha", "lora_alpha"],
    ),
    "output not empty": (
        "audit_dataset",
        {"path": "data.jsonl", "output_dir": "full"},
        ["full", "new folder"],
    ),
    "unknown format": ("merge_and_quantize", SHIP | {"formats": ["gguf:Q99"]}, ["Q99", "Q8_0"]),
    "an audit for an SFT run": (
        "launch_dpo",
        {"dataset": "pairs.jsonl", "sft_run": RUN_ID},
        ["audit", "sft", "get_run"],
    ),
    "a tokenizer that is cut off": ("launch_sft", SFT | {"model": "cut"}, ["cut/tokenizer.json"]),
    "a damaged GGUF file": ("evaluate", EVAL | {"model": "cut.gguf"}, ["cut.gguf"]),
    "a path with a home": ("audit_dataset", {"path": "~/data.jsonl"}, ["~", "in full"]),
    "a model for a system": (
        "evaluate",
        {"dataset": "heldout.jsonl", "systems": ["model"]},
        ["systems.0: must be an object of name, model"],
    ),
    "a token for the Hub": (
        "launch_sft",
        SFT | {"training": {"hub_token": "hf_secret"}},
        ["training.hub_token"],
    ),
    "a row without its reference": (
        "evaluate",
        EVAL | {"dataset": "open.jsonl"},
        ["open.jsonl:2"],
    ),
    "an unknown device": ("evaluate", EVAL | {"device": "tpu"}, ["device: 'tpu'"]),
    "a GPU that is not there": ("evaluate", EVAL | {"device": "cuda:7"}, ["use one of: cpu"]),
    "a wrong run id": ("evaluate", EVAL | {"model": "sft-7"}, ["'sft-7'"]),
    "a damaged config.json": ("evaluate", EVAL | {"model": "damaged"}, ["damaged/config.json"]),
    "a schema that is none": ("evaluate", EVAL | SCHEMA, ["$.type"]),
    "a folder without weights": ("evaluate", EVAL | {"model": "pickled"}, ["safetensors"]),
    "a model that is trained on": (
        "evaluate",
        EVAL | {"model": TRAINED},
        ["train_validation_leak"],
    ),
    "an unknown task": ("evaluate", EVAL | TASKS, ["our_towns"]),
}


def files_of(folder):
    """Return every path with its size: what must not change; rows held out for a plan are kept."""
    kept = folder / "runs" / FOLDER
    return {
        str(path.relative_to(folder)): path.lstat().st_size
        for path in folder.rglob("*")
        if not path.is_dir() and kept not in path.parents
    }


@pytest.fixture
async def client(prepared):
    """Give a client over an in-memory server; its eras are compared in test_server."""
    async with Client(server, raise_exceptions=True) as connected:
        yield connected


@pytest.fixture
def wrong(prepared):
    """Add the files that are wrong."""
    (prepared / "binary.jsonl").write_bytes(bytes(range(256)) * 20)
    (prepared / "bad.jsonl").write_text(f"{GOOD_LINE}\n{GOOD_LINE}\n{{oops\n{GOOD_LINE}\n")
    (prepared / "damaged").mkdir()
    (prepared / "damaged" / "config.json").write_text('{"model_type": ')
    shutil.copytree(prepared / "model", prepared / "cut")
    (prepared / "cut" / "tokenizer.json").write_text('{"model": {"vocab": ')
    (prepared / "cut.gguf").write_bytes(b"GGML" + bytes(20))
    (prepared / "full").mkdir()
    (prepared / "full" / "mine.txt").write_text("mine")
    good = (prepared / "heldout.jsonl").read_text()
    (prepared / "open.jsonl").write_text(good + '{"prompt": "Where is my parcel?"}\n')
    (prepared / "broken.json").write_text('{"type": "objekt"}')
    (prepared / "pickled").mkdir()
    (prepared / "pickled" / "config.json").write_text(json.dumps(CONFIG))
    (prepared / "tasks").mkdir()
    (prepared / "tasks" / "towns.yaml").write_text("task: our_towns\n")
    run = prepared / "runs" / TRAINED
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts" / "model").symlink_to(prepared / "model")
    dataset = {"path": str(prepared / "heldout.jsonl"), "format": "messages"}
    made_run(TRAINED, files={"plan": {"dataset": dataset}}, lineage={"base_model": "model"})
    return prepared


async def refusal(client, tool, arguments):
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    text = result.content[0].text
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("case", CASES)
async def test_the_error_names_the_cure_and_nothing_is_written(client, wrong, case):
    tool, arguments, said = CASES[case]
    before = files_of(wrong)
    text = await refusal(client, tool, arguments)
    for part in said:
        assert part in text, text
    assert files_of(wrong) == before


async def test_a_full_disk_is_foreseen(client, wrong, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 4096))
    before = files_of(wrong)
    text = await refusal(client, "launch_sft", SFT)
    assert "disk_full" in text
    assert "free some space" in text
    assert files_of(wrong) == before


async def test_a_missing_extra_is_named_before_anything_starts(client, wrong, monkeypatch):
    plan = (await client.call_tool("merge_and_quantize", SHIP)).structured_content
    confirmed = SHIP | {"confirm": plan["plan_hash"]}
    real = importlib.util.find_spec
    hidden = {"trl", "torch", "lm_eval", "llama_cpp", "transformers", "peft"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in hidden else real(name, *a)
    )
    before = files_of(wrong)
    assert installation.add_extras("train") in await refusal(client, "launch_sft", SFT)
    assert "pip install" in await refusal(client, "merge_and_quantize", confirmed)
    assert files_of(wrong) == before


async def test_a_changed_dataset_makes_the_confirmation_invalid(client, prepared):
    plan = (await client.call_tool("launch_sft", SFT)).structured_content
    with (prepared / "data.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(GOOD_LINE + "\n")
    text = await refusal(client, "launch_sft", SFT | {"confirm": plan["plan_hash"]})
    assert "plan_changed" in text
    assert not (prepared / "runs" / "sft").exists()


DETAILED = {"response_format": "detailed"}


async def test_an_accepted_leak_is_kept_in_the_plan_with_its_reason(client, wrong):
    accepted = {"accept_findings": ["train_validation_leak"], "accept_reason": "smoke test"}
    result = await client.call_tool("evaluate", EVAL | {"model": TRAINED} | accepted | DETAILED)
    plan = result.structured_content["plan"]
    assert plan["accepted"] == ["train_validation_leak"]
    assert plan["accept_reason"] == "smoke test"
    assert plan["contamination"]["num_exact"] == 1


async def test_where_the_texts_go_is_in_the_plan_and_part_of_what_is_confirmed(client, wrong):
    plans = []
    for host in ("one.example", "other.example"):
        judge = {"kind": "judge", "rubric": "It is polite.", "name": "polite"}
        judge["endpoint"] = {"url": f"https://{host}/v1", "model": "m", "max_calls": 40}
        result = await client.call_tool("evaluate", EVAL | {"checks": [judge]})
        plans.append(result.structured_content)
        (sent,) = [w for w in plans[-1]["warnings"] if w.startswith("texts_sent: polite")]
        assert host in sent
        assert "max_calls 40" in sent
    assert plans[0]["plan_hash"] != plans[1]["plan_hash"]


SAME = {
    "a word for a number": ("get_run", {"limit": "ten"}),
    "a misspelt word": ("estimate_vram", {"model": "model", "method": "qlorra"}),
    "a misspelt name in an object": ("evaluate", {"systems": [{"name": "a", "modle": "m"}]}),
    "a missing file": ("audit_dataset", {"path": "nowhere.jsonl"}),
    "a pattern that is none": ("evaluate", {"checks": [{"kind": "pattern", "pattern": "(("}]}),
}


@pytest.mark.parametrize("case", SAME)
async def test_the_command_line_says_what_the_server_says(client, capsys, case):
    tool, arguments = SAME[case]
    argv = [tool.replace("_", "-"), "--format", "agent"]
    for name, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value)
        argv += [f"--{name.replace('_', '-')}={text}"]
    assert cli.run(argv) != 0
    error = json.loads(capsys.readouterr().err)["error"]
    assert f"{error['code']}: {error['message']}" == await refusal(client, tool, arguments)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["gt-run"], "'get-run'"),
        (["get-run", "--limti", "3"], "'--limit'"),
        (["recommend-approach", "--target-met", "maybe"], "'maybe'"),
        (["audit-dataset", "val.jsonl", "--path", "dpo.jsonl"], "'val.jsonl'"),
        (["wait"], "run_ids"),
    ],
)
def test_what_has_no_place_on_the_command_line_is_one_line_too(prepared, capsys, argv, said):
    assert cli.run(argv) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert said in json.loads(text)["error"]["message"]
