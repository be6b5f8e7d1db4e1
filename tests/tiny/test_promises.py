"""What holds for a whole job: no secret is written, nobody is asked, nothing is open to others.

One small real job (audit, SFT, evaluation, DPO, merge) runs with canaries in every place where a
secret can be, and with an audit hook in every process; the tests look at what is left of it.
Promises P15, P19 and P20 of the project.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ft_tools import redaction, workspace
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.tools import TOOLS
from ft_tools.views.terminal import follow

pytestmark = pytest.mark.tiny

# One of each shape that a secret can have; none is real.
SHAPES = {
    "hf": "hf_" + "Qw7" * 11 + "x",
    "openai": "sk-proj-" + "Zk4" * 12,
    "anthropic": "sk-ant-api03-" + "Lp2" * 12,
    "github": "ghp_" + "Ab9" * 12,
    "github_fine": "github_pat_" + "Cd8" * 12,
    "aws": "AKIA" + "QZ7XW3VU5TSRP4NM",
    "google": "AIza" + "Ef6" * 11 + "gh",
    "slack": "xoxb-" + "135-" * 4 + "Gh5Gh5",
    "gitlab": "glpat-" + "Ij4" * 8,
    "stripe": "sk_live_" + "Kl3" * 8,
    "npm": "npm_" + "Mn2" * 12,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0." + "Op1" * 8,
}
HOOK = """
import os, sys
def hook(event, args):
    if event == "socket.connect" and not isinstance(args[1], (str, bytes)):
        note = f"{sys.argv[:3]} connects to {args[1]}"
    elif event == "socket.getaddrinfo":
        note = f"{sys.argv[:3]} looks up {args[0]}"
    else:
        return
    with open(os.environ["CONNECT_LOG"], "a", encoding="utf-8") as log:
        log.write(note + "\\n")
sys.addaudithook(hook)
"""


def ticket(number, secret=""):
    question = f"Parcel {number} has been missing since day {number % 9}. {secret}".strip()
    answer = json.dumps({"category": "delivery", "parcel": number, "late": number % 2 == 0})
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def pair(number):
    good, poor = ticket(number)["messages"], "I am sorry to hear that, let me look into it."
    return {
        "prompt": good[:1],
        "chosen": good[1:],
        "rejected": [{"role": "assistant", "content": poor}],
    }


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run_tool(name, **arguments):
    """Call a tool, confirm its plan, and wait for its run; the finished run's report."""
    spec = TOOLS[name]
    plan = spec.function(spec.request.model_validate(arguments))
    confirmed = arguments | {"confirm": plan.plan_hash}
    started = spec.function(spec.request.model_validate(confirmed))
    follow([started.run_id])
    report = get_run(RunRequest(run_id=started.run_id, log_lines=60))
    assert report.state == "succeeded", (report.error, report.log_tail)
    return report


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_model):
    """Do a whole small job and return its workspace."""
    folder = tmp_path_factory.mktemp("job")
    inputs = folder / "inputs"
    inputs.mkdir()
    shutil.copytree(tiny_model, inputs / "model")
    rows = [ticket(number) for number in range(40)]
    rows += [ticket(100 + i, f"My key is {s}") for i, s in enumerate(SHAPES.values())]
    write_lines(inputs / "data.jsonl", rows)
    write_lines(inputs / "heldout.jsonl", [ticket(number) for number in range(500, 512)])
    write_lines(inputs / "pairs.jsonl", [pair(number) for number in range(300, 316)])
    remote = f"[remote]\n url = https://me:{SHAPES['github']}@example.com/x.git\n"
    (inputs / ".git").mkdir()
    (inputs / ".git" / "config").write_text(remote, encoding="utf-8")
    hooks = tmp_path_factory.mktemp("hooks")
    (hooks / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(workspace.VARIABLE, str(folder))
        patch.setenv(workspace.CACHE_VARIABLE, str(folder / "cache"))
        patch.setenv("PYTHONPATH", str(hooks))
        patch.setenv("CONNECT_LOG", str(hooks / "connects.txt"))
        patch.setenv("HF_HOME", str(folder / "hub"))
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        for name, secret in SHAPES.items():
            patch.setenv(f"{name.upper()}_API_TOKEN", secret)
        patch.setenv("HF_TOKEN", SHAPES["hf"])
        _do(folder)
        yield folder, hooks / "connects.txt"


def _do(folder):
    audit = TOOLS["audit_dataset"]
    cleaned = audit.function(
        audit.request(path="inputs/data.jsonl", output_dir="clean", near_duplicates="off")
    )
    assert cleaned.outputs is not None
    training = {"max_steps": 3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    sft = run_tool(
        "launch_sft",
        model="inputs/model",
        dataset="clean/train.jsonl",
        validation="clean/validation.jsonl",
        training=training | {"eval_steps": 3},
    )
    run_tool(
        "evaluate",
        model=sft.run_id,
        dataset="inputs/heldout.jsonl",
        max_new_tokens=8,
        general_ability=False,
    )
    dpo = run_tool(
        "launch_dpo", sft_run=sft.run_id, dataset="inputs/pairs.jsonl", training=training
    )
    run_tool("merge_and_quantize", source=dpo.run_id, formats=["safetensors"])


def written(folder):
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_relative_to(folder / "inputs")
    ]


def leaks(paths, canaries):
    found = []
    for path in paths:
        content = path.read_bytes()
        found += [(path.name, name) for name, s in canaries.items() if s.encode() in content]
    return found


def test_no_secret_of_data_or_environment_is_in_any_file(job, record_property):
    folder, _ = job
    files = written(folder)
    record_property("files", len(files))
    assert len(files) > 40
    assert leaks(files, SHAPES) == []


def test_the_search_for_secrets_can_find_one(job, tmp_path):
    careless = tmp_path / "config.json"
    careless.write_text(json.dumps(dict(os.environ)), encoding="utf-8")
    assert len(leaks([careless], SHAPES)) >= len(SHAPES)


def test_every_shape_of_a_secret_is_known():
    assert [name for name, s in SHAPES.items() if s in redaction.redact(f"key {s} end")] == []


def test_no_process_asked_the_network(job):
    _, log = job
    assert not log.exists(), log.read_text(encoding="utf-8")


def test_the_hook_sees_who_asks(job, tmp_path):
    _, log = job
    noisy = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    mine = tmp_path / "mine.txt"
    environment = os.environ | {"CONNECT_LOG": str(mine)}
    environment["PYTHONPATH"] = str(log.parent)
    subprocess.run([sys.executable, "-c", noisy], check=True, env=environment)
    assert "127.0.0.1" in mine.read_text(encoding="utf-8")


def test_only_the_owner_can_read_what_was_written(job):
    folder, _ = job
    for path in (folder / "runs").rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o077 == 0, f"{oct(mode)} {path.relative_to(folder)}"


def test_every_run_has_ended_well_and_left_a_page(job):
    folder, _ = job
    runs = [path for path in (folder / "runs").iterdir() if (path / "run.json").exists()]
    assert len(runs) == 4
    for path in runs:
        report = get_run(RunRequest(run_id=path.name))
        assert report.state in ENDED
        assert report.report_html
        assert Path(report.report_html).read_text(encoding="utf-8").startswith("<!doctype html>")
