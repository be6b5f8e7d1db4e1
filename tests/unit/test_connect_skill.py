"""The skill where a client looks for skills: put there, updated, removed, and never somebody's."""

import json

import pytest

from mcp_server.connect import skill_folder
from mcp_server.connect.clients import CLIENTS, NAME
from mcp_server.skill_files import skill_files


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".agents" / "skills" / NAME


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def test_the_skill_is_put_in_place_and_removed_with_the_folders_made_for_it(folder, tmp_path):
    assert skill_folder.state(folder) == "absent"
    skill_folder.place(folder)
    assert files(folder) == skill_files()
    assert skill_folder.state(folder) == "current"
    skill_folder.remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_other_skills_beside_it_stay(folder):
    skill_folder.place(folder)
    (folder.parent / "other").mkdir()
    skill_folder.remove(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["other"]


def test_an_older_version_is_replaced_whole(folder, monkeypatch):
    old = {"SKILL.md": b"old", "references/gone.md": b"old"}
    with monkeypatch.context() as patched:
        patched.setattr(skill_folder, "skill_files", lambda: old)
        skill_folder.place(folder)
        assert skill_folder.state(folder) == "current"
    assert skill_folder.state(folder) == "older"
    skill_folder.place(folder)
    assert files(folder) == skill_files()
    assert skill_folder.state(folder) == "current"


def edit(folder):
    (folder / "SKILL.md").write_text("mine")


def add(folder):
    (folder / "notes.md").write_text("mine")


def take_away(folder):
    (folder / "references" / "lora.md").unlink()


def write_by_hand(folder):
    (folder / "manifest.json").unlink()


def list_another_file(folder):
    add(folder)
    text = (folder / "manifest.json").read_text()
    entry = dict.fromkeys(("bytes", "sha256"), 4) | {"sha256": ""}
    listed = json.loads(text)
    listed["files"]["notes.md"] = entry
    (folder / "manifest.json").write_text(json.dumps(listed))


@pytest.mark.parametrize("change", [edit, add, take_away, write_by_hand, list_another_file])
def test_what_somebody_changed_is_not_ours(folder, change):
    skill_folder.place(folder)
    change(folder)
    assert skill_folder.state(folder) == "not_ours"


def test_a_link_or_a_file_in_its_place_is_not_ours(folder, tmp_path):
    skill_folder.place(tmp_path / "elsewhere")
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tmp_path / "elsewhere")
    assert skill_folder.state(folder) == "not_ours"
    folder.unlink()
    folder.write_text("mine")
    assert skill_folder.state(folder) == "not_ours"


def test_each_client_with_skills_has_a_place_for_them_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    places = {name: client.skill("user") for name, client in CLIENTS.items()}
    assert {name for name, place in places.items() if place is None} == {
        "claude-desktop",
        "lm-studio",
    }
    assert places["claude-code"] == tmp_path / ".claude/skills" / NAME
    assert places["codex"] == places["gemini"] == places["openclaw"]
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "elsewhere"))
    assert CLIENTS["claude-code"].skill("user") == tmp_path / "elsewhere/skills" / NAME
