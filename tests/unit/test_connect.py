"""Registering the server in clients' configurations: one entry changed, and removed again."""

import json
import os
import sys
import tomllib

import pytest

from ft_tools.errors import BadInput, FineTuningError
from mcp_server.connect import registration
from mcp_server.connect.clients import CLIENTS, NAME, Server
from mcp_server.skill_files import skill_files

SERVER = Server(
    "/opt/a b/fine-tuning-llm",
    environment=(("FINE_TUNING_LLM_WORKSPACE", "/data"),),
    forwarded=("HF_TOKEN",),
)
BY_FILE = [name for name in CLIENTS if not CLIENTS[name].add]
OTHER = {"command": "other", "args": ["x"], "env": {"SECRET": "s3cret"}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Give an empty home, and a project to work in."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "OPENCLAW_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(project)
    return tmp_path


def written(name):
    """Write a client's file as a person has it; return its path and text."""
    client = CLIENTS[name]
    path = client.file("user")
    path.parent.mkdir(parents=True, exist_ok=True)
    if client.is_toml:
        text = '# mine\nmodel = "x"\n\n[mcp_servers.other]\ncommand = "y" # keep\n'
    else:
        nested = {"other": OTHER}
        for key in reversed(client.key):
            nested = {key: nested}
        text = json.dumps(nested, indent=4) + "\n"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o640)
    return path, text


def servers(name, path):
    text = path.read_text(encoding="utf-8")
    found = tomllib.loads(text) if CLIENTS[name].is_toml else json.loads(text)
    for key in CLIENTS[name].key:
        found = found[key]
    return found


def do(name, entry):
    client = CLIENTS[name]
    registration.write_entry(client, "user", registration.entry_of(client, "user"), entry)


@pytest.mark.parametrize("name", BY_FILE)
def test_an_entry_is_added_beside_the_others_once_and_removed_again(name):
    path, before = written(name)
    entry = CLIENTS[name].entry(SERVER)
    do(name, entry)
    assert servers(name, path)[NAME] == entry
    assert set(servers(name, path)) == {"other", NAME}
    assert path.stat().st_mode & 0o777 == 0o640
    assert registration.entry_of(CLIENTS[name], "user") == entry
    do(name, None)
    assert path.read_text().strip() == before.strip()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", BY_FILE)
def test_a_file_that_connect_made_is_removed_again(name):
    path = CLIENTS[name].file("user")
    do(name, CLIENTS[name].entry(SERVER))
    assert servers(name, path) == {NAME: CLIENTS[name].entry(SERVER)}
    assert path.stat().st_mode & 0o777 == 0o600
    do(name, None)
    assert not path.exists()


@pytest.mark.parametrize("name", BY_FILE)
@pytest.mark.parametrize("text", ["{ not a = file", "// a comment\n{}"])
def test_a_file_that_cannot_be_parsed_is_left_as_it_is(name, text):
    path, _ = written(name)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="--print"):
        registration.entry_of(CLIENTS[name], "user")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", CLIENTS)
def test_an_entry_has_the_command_or_address_and_no_secret(name, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    monkeypatch.setenv("FINE_TUNING_LLM_HTTP_TOKEN", "s3cret")
    started = CLIENTS[name].entry(SERVER)
    assert (started["command"], started["args"]) == ("/opt/a b/fine-tuning-llm", ["serve"])
    assert started["env"]["FINE_TUNING_LLM_WORKSPACE"] == "/data"
    addressed = CLIENTS[name].entry(Server(url="http://gpu:8765/mcp"))
    assert addressed["url"] == "http://gpu:8765/mcp"
    for entry in (started, addressed):
        assert registration.is_ours(entry)
        assert "s3cret" not in json.dumps(entry)


def test_each_client_has_its_own_spelling():
    codex = CLIENTS["codex"].entry(SERVER)
    assert codex["env_vars"] == ["HF_TOKEN"]
    assert codex["tool_timeout_sec"] == 600
    assert CLIENTS["gemini"].entry(SERVER)["env"]["HF_TOKEN"] == "$HF_TOKEN"
    assert CLIENTS["cursor"].entry(SERVER)["env"]["HF_TOKEN"] == "${env:HF_TOKEN}"
    assert CLIENTS["openclaw"].entry(SERVER)["env"]["HF_TOKEN"] == "${HF_TOKEN}"
    assert CLIENTS["vscode"].entry(SERVER)["type"] == "stdio"
    assert CLIENTS["claude-code"].entry(SERVER)["timeout"] == 600_000
    http = CLIENTS["claude-code"].entry(Server(url="http://gpu/mcp"))
    assert http["type"] == "http"
    assert http["headers"] == {"Authorization": "Bearer ${FINE_TUNING_LLM_HTTP_TOKEN}"}


PROGRAM = f"""#!{sys.executable}
import json, os, sys
path, keys = os.path.expanduser(PATH), KEYS
config = json.load(open(path)) if os.path.exists(path) else {{}}
servers = config
for key in keys:
    servers = servers.setdefault(key, {{}})
action, *rest = sys.argv[2:]
rest = rest[2:] if rest[0] == "--scope" else rest
if action in ("remove", "unset"):
    sys.exit(1) if rest[0] not in servers else servers.pop(rest[0])
elif action == "add-json" and rest[0] in servers:
    sys.exit("already exists")
elif "refused" in rest[1]:
    sys.exit("not allowed")
else:
    servers[rest[0]] = json.loads(rest[1])
os.makedirs(os.path.dirname(path), exist_ok=True)
json.dump(config, open(path, "w"))
"""


@pytest.mark.parametrize("name", [name for name in CLIENTS if CLIENTS[name].add])
def test_a_client_with_commands_of_its_own_is_changed_by_them(home, monkeypatch, name):
    """The commands here are stand-ins that keep to what the real ones were seen to do."""
    client = CLIENTS[name]
    program = PROGRAM.replace("PATH", repr(str(client.file("user"))))
    program = program.replace("KEYS", repr(client.key))
    (home / "bin").mkdir()
    (home / "bin" / client.programs[0]).write_text(program)
    (home / "bin" / client.programs[0]).chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    entry = client.entry(SERVER)
    do(name, entry | {"timeout": 1})
    do(name, entry)
    assert registration.entry_of(client, "user") == entry
    with pytest.raises(FineTuningError, match="not allowed"):
        do(name, entry | {"timeout": "refused"})
    assert registration.entry_of(client, "user") == entry
    do(name, None)
    assert registration.entry_of(client, "user") is None


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".agents" / "skills" / NAME


def test_the_skill_is_placed_updated_and_removed_with_the_folders_made_for_it(folder, monkeypatch):
    old = {"SKILL.md": b"old", "references/gone.md": b"old"}
    with monkeypatch.context() as patched:
        patched.setattr(registration, "skill_files", lambda: old)
        registration.place_skill(folder)
    assert registration.skill_state(folder) == "older"
    registration.place_skill(folder)
    assert registration.skill_state(folder) == "current"
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert found == skill_files()
    (folder.parent / "other").mkdir()
    registration.remove_skill(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["other"]
    (folder.parent / "other").rmdir()
    registration.place_skill(folder)
    registration.remove_skill(folder)
    assert not folder.parent.parent.exists()
