"""Paths stay inside the workspace, and what is wrong with one is said."""

import os

import pytest

from ft_tools import workspace as ws
from ft_tools.cli import main as cli
from ft_tools.errors import BadInput, NotFound, OutputExists


def test_the_first_folder_keeps_the_runs_and_all_may_be_read(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "data.jsonl").write_text(folder.name)
    monkeypatch.setenv(ws.VARIABLE, f"{one}{os.pathsep}{two}")
    assert ws.runs_dir() == one / "runs"
    assert ws.existing("data.jsonl") == one / "data.jsonl"
    assert ws.existing(str(two / "data.jsonl")) == two / "data.jsonl"


@pytest.mark.parametrize(
    ("name", "cure"), [("gone", "create it"), ("file", "create it"), ("taken", "rename it")]
)
def test_a_workspace_that_cannot_hold_runs_is_an_error_and_not_an_empty_one(
    tmp_path, monkeypatch, capsys, name, cure
):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "runs").write_text("")
    monkeypatch.setenv(ws.VARIABLE, str(tmp_path / name))
    assert cli.run(["get-run", "--format", "agent"]) == NotFound.exit_code
    text = capsys.readouterr().err
    assert str(tmp_path / name) in text
    assert cure in text


def test_the_cache_is_ours_xdg_or_home_and_never_relative(monkeypatch, tmp_path):
    monkeypatch.delenv(ws.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert ws.cache_dir() == tmp_path / ".cache" / "fine-tuning-llm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert ws.cache_dir() == tmp_path / "xdg" / "fine-tuning-llm"
    monkeypatch.setenv(ws.CACHE_VARIABLE, str(tmp_path / "own"))
    assert ws.cache_dir() == tmp_path / "own"


@pytest.mark.parametrize(
    "path",
    ["", "a\0b", "a" * 5000, "\ud800", "loop", "x" * 300],
    ids=["empty", "NUL", "too long", "surrogate", "loop", "name too long"],
)
def test_a_name_that_no_file_can_have_is_bad_input(workspace, path):
    (workspace / "loop").symlink_to("loop")
    with pytest.raises((BadInput, NotFound)):
        ws.existing(path)


def test_an_output_folder_is_absent_or_empty(workspace):
    (workspace / "empty").mkdir()
    (workspace / "file").write_text("x")
    (workspace / "full").mkdir()
    (workspace / "full" / "x").write_text("x")
    assert ws.new_folder("empty") == workspace / "empty"
    assert ws.new_folder("deep/new") == workspace / "deep" / "new"
    for taken in ("file", "full", "file/below"):
        with pytest.raises(OutputExists, match="name a new folder"):
            ws.new_folder(taken)


@pytest.mark.parametrize("kind", ["folder", "pipe", "the workspace itself"])
def test_what_is_no_regular_file_is_refused_without_waiting(workspace, kind):
    path = workspace / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = workspace
    with pytest.raises(BadInput, match="regular file"):
        ws.open_file(path)
