"""What the doctor says of an installation and a machine that is not as it should be."""

import importlib.metadata
import shutil

import pytest

from ft_tools import installation
from ft_tools.cli import main as cli
from ft_tools.doctor import hub_and_clients, machine
from ft_tools.doctor.report import DoctorRequest
from ft_tools.doctor.tool import doctor

QUIET = {"clients": False, "hub": False}


def named(checks, name):
    return next(check for check in checks if check.name == name)


def without(monkeypatch, *hidden, **versions):
    """Make distributions look absent, or installed in another version."""
    real = importlib.metadata.version

    def version(name):
        if name in hidden:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_missing_package_is_named_with_the_command_for_this_installation(workspace, monkeypatch):
    without(monkeypatch, "pyarrow")
    report = doctor(DoctorRequest(purposes=["data"], **QUIET))
    check = named(report.checks, "extra data")
    assert (check.state, check.found) == ("missing", "not installed: pyarrow")
    assert check.fix == installation.add_extras("data")
    assert "data" in report.does_not_work
    assert report.asked_and_missing == ["data"]


def test_versions_that_do_not_work_together_are_broken_and_stop_what_needs_them(
    workspace, monkeypatch
):
    without(monkeypatch, trl="0.9.1")
    report = doctor(DoctorRequest(**QUIET))
    check = named(report.checks, "extra train")
    assert check.state == "broken"
    assert "trl 0.9.1 (needs <1.17,>=1.16)" in check.found
    assert {"train", "eval", "gguf", "gpu"} <= set(report.does_not_work)
    assert "advice" in report.works


@pytest.fixture
def driver(smi):
    """Put a driver for CUDA 11 with one card on PATH."""
    version = "| NVIDIA-SMI 535.1   Driver Version: 535.1   CUDA Version: 11.4  |"
    smi("0, GPU-1, NVIDIA GeForce RTX 4090, 24564, 0, 8.9, 535.1, [N/A]", shown=version)


def test_a_machine_without_a_driver_or_with_hidden_cards_is_told_what_to_do(driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hidden = next(machine.gpu())
    assert (hidden.state, hidden.fix) == ("broken", "unset CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    missing = next(machine.gpu())
    assert (missing.state, missing.needed_for) == ("missing", ["gpu"])
    assert missing.fix


@pytest.mark.parametrize(
    ("build", "state", "said"),
    [("", "broken", "the CPU only"), ("12.8", "broken", "12.8"), ("11.8", "ok", "11.8")],
)
def test_a_torch_that_the_driver_cannot_serve_is_broken(driver, monkeypatch, build, state, said):
    monkeypatch.setattr(machine, "_built_for", lambda: build)
    card, found, *_ = machine.gpu()
    assert "RTX 4090" in card.found
    assert found.state == state
    assert said in found.found


def test_a_hub_that_does_not_answer_is_named_and_prevents_nothing(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    first, login = hub_and_clients.hub()
    assert first.state == "note"
    assert "http://127.0.0.1:1" in first.found
    assert "hf_secret" not in login.found


STARTS = {"registered": True, "ours": True, "command": "/x", "version": "0.0.1", "num_tools": 3}
STARTS |= {"current": True}


CONNECT = "fine-tuning-llm connect cursor"


@pytest.mark.parametrize(
    ("row", "state", "fix"),
    [
        ({}, "note", CONNECT),
        ({"error": "x"}, "broken", CONNECT),
        ({"registered": True, "ours": False}, "broken", "rename or remove that entry"),
        (STARTS | {"current": False}, "broken", CONNECT),
        ({"registered": True, "ours": True, "url": "http://x/mcp"}, "ok", ""),
        (STARTS | {"skill": "older"}, "note", CONNECT),
        (STARTS | {"skill": "not_ours"}, "ok", ""),
    ],
)
def test_a_client_is_told_with_the_command_that_repairs_it(row, state, fix):
    base = {"client": "cursor", "title": "Cursor", "scope": "user", "path": "/p"}
    check = hub_and_clients.client(base | row)
    assert (check.state, check.fix) == (state, fix)


def test_the_exit_code_is_four_where_something_asked_for_does_not_work(
    workspace, monkeypatch, capsys
):
    without(monkeypatch, "torch")
    quiet = ["doctor", "--no-clients", "--no-hub", "--format", "human"]
    assert cli.run([*quiet, "--for", "advice"]) == 0
    assert cli.run([*quiet, "--for", "advice", "train"]) == 4
    said = capsys.readouterr().out
    assert "not installed: torch" in said
    assert installation.add_extras("train") in said.replace("\n", "")
    assert cli.run([*quiet, "--for", "flying"]) == 2


def test_a_workspace_that_cannot_hold_runs_is_broken_and_is_one_line(workspace):
    (workspace / "runs").write_text("")
    report = doctor(DoctorRequest(**QUIET))
    check = named(report.checks, "workspace")
    assert check.state == "broken"
    assert str(workspace / "runs") in check.found
    assert "rename it" in check.fix
    assert "advice" in report.does_not_work
