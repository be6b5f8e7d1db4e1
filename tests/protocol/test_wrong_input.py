"""Wrong input: a clear error that names the cure, and nothing is written."""

import importlib.util
import json
import shutil
from collections import namedtuple

import pytest

from ft_tools import installation
from ft_tools.cli import main as cli
from ft_tools.training.validation_split import FOLDER
from tests.protocol.calls import RUN_ID

pytestmark = pytest.mark.anyio

GOOD_LINE = (
    '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}'
)
SFT = {"model": "model", "dataset": "data.jsonl"}
SHIP = {"source": "model", "formats": ["gguf:Q8_0"]}
# tool, arguments, what the error must say: what is wrong, and what to do about it.
CASES = {
    "unknown catalog model": (
        "estimate_vram",
        {"model": "meta-llama/Llama-9-8B", "method": "lora"},
        ["meta-llama/Llama-9-8B", "hf download", "nearest: meta-llama/Llama-3.1-8B"],
    ),
    "unknown gpu": (
        "estimate_vram",
        {"model": "meta-llama/Llama-3.1-8B", "gpu": "RTX 4091"},
        ["RTX 4091", "RTX 4090", "gpu_memory_gib"],
    ),
    "no such model folder": ("launch_sft", SFT | {"model": "nowhere"}, ["nowhere"]),
    "missing file": ("audit_dataset", {"path": "nowhere.jsonl"}, ["nowhere.jsonl", "spelling"]),
    "empty file": ("audit_dataset", {"path": "empty.jsonl"}, ["empty.jsonl", "empty"]),
    "binary file": ("audit_dataset", {"path": "binary.jsonl"}, ["binary.jsonl"]),
    "one bad line": ("launch_sft", SFT | {"dataset": "bad.jsonl"}, ["bad.jsonl:3"]),
    "misspelt argument": (
        "launch_sft",
        SFT | {"lora_rnak": 8},
        ["lora_rnak", "no such argument"],
    ),
    "misspelt argument of PEFT": (
        "launch_sft",
        SFT | {"peft": {"lora_aplha": 8}},
        ["lora_aplha", "lora_alpha"],
    ),
    "output not empty": (
        "audit_dataset",
        {"path": "data.jsonl", "output_dir": "full"},
        ["full", "not empty", "new folder"],
    ),
    "unknown format": (
        "merge_and_quantize",
        SHIP | {"formats": ["gguf:Q99"]},
        ["Q99", "nearest", "Q8_0"],
    ),
    "outside the workspace": (
        "audit_dataset",
        {"path": "../../etc/passwd"},
        ["outside the workspace", "FINE_TUNING_LLM_WORKSPACE"],
    ),
    "outside by a link": ("show_examples", {"path": "link", "lines": [1]}, ["outside"]),
    "unknown run": ("get_run", {"run_id": "sft-0123456789abcdef"}, ["get_run"]),
    "a misspelt word": (
        "launch_sft",
        SFT | {"method": "qlorra"},
        ["got 'qlorra'; did you mean 'qlora'?"],
    ),
    "an audit for a model": (
        "merge_and_quantize",
        SHIP | {"source": RUN_ID},
        ["of kind audit, which makes no model; pass the id of a training run"],
    ),
    "an audit for an SFT run": (
        "launch_dpo",
        {"dataset": "pairs.jsonl", "sft_run": RUN_ID},
        ["of kind audit, not sft; get_run lists SFT runs"],
    ),
    "a model whose tokenizer is cut off": (
        "launch_sft",
        SFT | {"model": "cut"},
        ["cut/tokenizer.json is not JSON; download the model again"],
    ),
    "a damaged GGUF file": (
        "evaluate",
        {"model": "cut.gguf", "dataset": "heldout.jsonl"},
        ["cut.gguf is no GGUF file; download or convert it again"],
    ),
    "a path with a home": (
        "audit_dataset",
        {"path": "~/data.jsonl"},
        ["~ is not expanded: give the path in full"],
    ),
    "an address for a path": (
        "audit_dataset",
        {"path": "https://example.org/data.jsonl"},
        ["addresses are not fetched: download it into the workspace first"],
    ),
    "a model for a system": (
        "evaluate",
        {"dataset": "heldout.jsonl", "systems": ["model"]},
        ["systems: 'model' is neither an object, such as", "nor the run id of an evaluation"],
    ),
    "a token for the Hub": (
        "launch_sft",
        SFT | {"training": {"hub_token": "hf_secret"}},
        ["bad_input: training.hub_token is not accepted; "],
    ),
    "no held-out file": (
        "evaluate",
        {"model": "model", "dataset": ""},
        ["bad_input: set `dataset`"],
    ),
    "unknown metric": (
        "evaluate",
        {"model": "model", "dataset": "heldout.jsonl", "metrics": ["blue"]},
        ["blue", "rouge"],
    ),
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
def wrong(prepared):
    """Add the files that are wrong."""
    (prepared / "empty.jsonl").write_bytes(b"")
    (prepared / "binary.jsonl").write_bytes(bytes(range(256)) * 20)
    (prepared / "bad.jsonl").write_text(f"{GOOD_LINE}\n{GOOD_LINE}\n{{oops\n{GOOD_LINE}\n")
    (prepared / "damaged").mkdir()
    (prepared / "damaged" / "config.json").write_text('{"model_type": ')
    shutil.copytree(prepared / "model", prepared / "cut")
    (prepared / "cut" / "tokenizer.json").write_text('{"model": {"vocab": ')
    (prepared / "cut.gguf").write_bytes(b"GGML" + bytes(20))
    (prepared / "full").mkdir()
    (prepared / "full" / "mine.txt").write_text("mine")
    (prepared / "link").symlink_to("/etc/hostname")
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


async def test_a_bad_line_is_a_finding_with_its_number(client, wrong):
    result = await client.call_tool("audit_dataset", {"path": "bad.jsonl"})
    assert not result.is_error
    assert 3 in [line for f in result.structured_content["findings"] for line in f["rows"]]


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


async def test_a_suggestion_can_be_launched_as_it_is(client, prepared):
    asked = {"model": "model", "goal": "style", "num_examples": 40}
    suggested = (await client.call_tool("suggest_lora_config", asked)).structured_content
    again = SFT | {key: suggested[key] for key in ("peft", "training")}
    again["training"] |= {"num_train_epochs": 1}
    result = await client.call_tool("launch_sft", again)
    assert not result.is_error, result.content[0].text
    assert result.structured_content["plan"]["peft"]["r"] == suggested["peft"]["r"]


async def test_a_changed_dataset_makes_the_confirmation_invalid(client, prepared):
    plan = (await client.call_tool("launch_sft", SFT)).structured_content
    with (prepared / "data.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(GOOD_LINE + "\n")
    text = await refusal(client, "launch_sft", SFT | {"confirm": plan["plan_hash"]})
    assert "plan_changed" in text
    assert not (prepared / "runs" / "sft").exists()


SAME = {
    "a word for a number": ("get_run", {"limit": "ten"}),
    "a misspelt word": ("estimate_vram", {"model": "model", "method": "qlorra"}),
    "a misspelt name in an object": ("evaluate", {"systems": [{"name": "a", "modle": "m"}]}),
    "a missing file": ("audit_dataset", {"path": "nowhere.jsonl"}),
    "a pattern that is none": ("evaluate", {"checks": [{"kind": "pattern", "pattern": "(("}]}),
}


@pytest.mark.parametrize("case", SAME)
async def test_the_command_line_says_what_the_server_says(client, prepared, capsys, case):
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
        (["gt-run"], "gt-run: no such command; did you mean 'get-run'? known: serve, "),
        (["get-run", "--limti", "3"], "--limti: no such option; did you mean '--limit'?"),
        (["recommend-approach", "--target-met", "maybe"], "too many values: 'maybe'"),
        (["audit-dataset", "val.jsonl", "--path", "dpo.jsonl"], "too many values: 'val.jsonl'"),
        (["wait"], "run_ids: required and missing"),
    ],
)
def test_what_has_no_place_on_the_command_line_is_one_line_too(capsys, argv, said):
    assert cli.run(argv) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert said in json.loads(text)["error"]["message"]
