"""`connect` and `disconnect` as commands, and what servers say to programs that start them."""

import json
import os
import subprocess
import sys

import pytest

from ft_tools.tools import TOOLS


@pytest.fixture
def run(tmp_path):
    """Give what runs a command in an empty home."""
    (tmp_path / "data").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FINE_TUNING")}

    def call(*words, **variables):
        return subprocess.run(
            [sys.executable, "-m", "ft_tools", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path / "data",
            env=environment | {"HOME": str(tmp_path)} | variables,
            check=False,
        )

    return call


def test_a_client_is_connected_starts_the_server_from_anywhere_and_forgets_it(run, tmp_path):
    (tmp_path / ".cursor").mkdir()
    planned = json.loads(run("connect", "cursor", "--dry-run").stdout)
    assert planned["state"] == "dry_run"
    assert list((tmp_path / ".cursor").iterdir()) == []
    made = json.loads(run("connect", "cursor").stdout)
    assert (made["client"], made["scope"], made["state"]) == ("cursor", "user", "connected")
    assert any(f"{len(TOOLS)} tools" in note for note in made["notes"])
    assert made["path"] == str(tmp_path / ".cursor/mcp.json")
    entry = json.loads((tmp_path / ".cursor/mcp.json").read_text())["mcpServers"]["fine-tuning-llm"]
    assert made["added"] == entry == planned["added"]
    assert os.path.isabs(entry["command"])
    assert entry["env"]["FINE_TUNING_LLM_WORKSPACE"] == str(tmp_path / "data")
    assert made["skill"] == str(tmp_path / ".cursor/skills/fine-tuning-llm")
    assert (tmp_path / ".cursor/skills/fine-tuning-llm/SKILL.md").is_file()
    again = json.loads(run("connect", "cursor").stdout)
    assert again["state"] == "unchanged"
    assert "added" not in again
    assert json.loads(run("disconnect", "cursor").stdout)["state"] == "disconnected"
    assert list((tmp_path / ".cursor").iterdir()) == []


def test_a_skill_that_two_clients_read_stays_until_both_are_disconnected(run, tmp_path):
    for name in (".codex", ".gemini"):
        (tmp_path / name).mkdir()
    shared = tmp_path / ".agents/skills/fine-tuning-llm/SKILL.md"
    shown = run("connect", "codex")
    assert str(shared.parent) in shown.stdout
    assert run("connect", "gemini").returncode == 0
    assert "stays for Gemini CLI" in run("disconnect", "codex").stdout
    assert shared.is_file()
    assert run("disconnect", "gemini").returncode == 0
    assert not (tmp_path / ".agents").exists()


def test_where_the_skill_cannot_be_written_nothing_is_changed(run, tmp_path):
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".agents").write_text("a file")
    refused = run("connect", "codex")
    assert refused.returncode == 2
    assert "--no-skill" in refused.stderr
    assert list((tmp_path / ".codex").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["connect", "emacs"], 2, "--print"),
        (["connect", "gemini"], 4, "mcpServers"),
        (["connect", "cursor", "--workspace", "/"], 2, "--workspace DIR"),
        (["connect", "cursor", "--workspace", "/nowhere/at/all"], 2, "not a folder"),
        (["connect", "openclaw", "--scope", "project"], 2, "no configuration per project"),
    ],
)
def test_what_cannot_be_connected_is_refused_with_what_to_do(run, words, code, said):
    refused = run(*words)
    assert refused.returncode == code
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_entry_of_that_name_that_is_not_ours_is_never_changed(run, tmp_path):
    file = tmp_path / ".cursor/mcp.json"
    file.parent.mkdir()
    file.write_text('{"mcpServers": {"fine-tuning-llm": {"command": "other"}}}')
    before = file.read_text()
    assert [run(verb, "cursor").returncode for verb in ("connect", "disconnect")] == [2, 2]
    assert file.read_text() == before


def test_an_entry_for_any_other_client_is_printed(run):
    printed = json.loads(run("connect", "--print").stdout)
    assert os.path.isabs(printed["mcpServers"]["fine-tuning-llm"]["command"])
