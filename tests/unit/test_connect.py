"""Registering the server in clients' own files: shown first, one entry changed, undone exactly."""

import json
import os
import sys
import tomllib

import pytest

from ft_tools.errors import BadInput, FineTuningError
from mcp_server.connect import client_entry, json_edit
from mcp_server.connect.clients import CLIENTS, NAME, Server

SERVER = Server(
    "/opt/a b/fine-tuning-llm",
    environment=(("FINE_TUNING_LLM_WORKSPACE", "/data"),),
    forwarded=("HF_TOKEN",),
)
BY_FILE = [name for name in CLIENTS if name != "claude-code"]
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


def written(name, extra=None):
    """Write a client's file as a person has it; return it and its bytes."""
    client = CLIENTS[name]
    path = client.user_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    if client.is_toml:
        text = '# mine\nmodel = "x"\n\n[mcp_servers.other]\ncommand = "y" # keep\n'
    else:
        nested = {"other": OTHER} | (extra or {})
        for key in reversed(client.key):
            nested = {key: nested}
        text = "// mine\n" * (name != "claude-desktop") + json.dumps(nested, indent=4) + "\n"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o640)
    return path, path.read_bytes()


def value(name, path):
    text = path.read_text(encoding="utf-8")
    found = tomllib.loads(text) if CLIENTS[name].is_toml else json_edit.read(text)
    return json_edit.get(found, CLIENTS[name].key)


def do(name, entry, scope="user"):
    change = client_entry.plan(CLIENTS[name], scope, entry)
    client_entry.apply(CLIENTS[name], scope, change)
    return change


@pytest.mark.parametrize("name", BY_FILE)
def test_an_entry_is_added_beside_the_others_and_undone_to_the_byte(name):
    path, before = written(name)
    entry = CLIENTS[name].entry(SERVER)
    do(name, entry)
    assert value(name, path)[NAME] == entry
    assert set(value(name, path)) == {"other", NAME}
    assert path.stat().st_mode & 0o777 == 0o640
    do(name, None)
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", BY_FILE)
def test_a_file_that_connect_made_goes_again(name):
    path = CLIENTS[name].user_file()
    do(name, CLIENTS[name].entry(SERVER))
    assert value(name, path) == {NAME: CLIENTS[name].entry(SERVER)}
    assert path.stat().st_mode & 0o777 == 0o600
    do(name, None)
    assert not path.exists()


@pytest.mark.parametrize("name", BY_FILE)
def test_the_second_time_nothing_is_to_be_done(name):
    path, _ = written(name)
    do(name, CLIENTS[name].entry(SERVER))
    after = path.read_bytes()
    assert client_entry.plan(CLIENTS[name], "user", CLIENTS[name].entry(SERVER)).is_empty
    assert path.read_bytes() == after


@pytest.mark.parametrize("name", BY_FILE)
def test_what_somebody_changed_in_between_stays(name):
    path, _ = written(name)
    do(name, CLIENTS[name].entry(SERVER))
    text = path.read_text(encoding="utf-8").replace("other", "renamed")
    path.write_text(text, encoding="utf-8")
    do(name, None)
    assert set(value(name, path)) == {"renamed"}


@pytest.mark.parametrize("name", BY_FILE)
def test_a_file_that_cannot_be_read_is_left_as_it_is(name):
    path, _ = written(name)
    path.write_text("{ not a = file", encoding="utf-8")
    with pytest.raises(BadInput, match="nothing was changed"):
        client_entry.plan(CLIENTS[name], "user", CLIENTS[name].entry(SERVER))
    assert path.read_text(encoding="utf-8") == "{ not a = file"


def test_a_link_stays_a_link(home):
    path, before = written("cursor")
    real = home / "dotfiles.json"
    path.rename(real)
    path.symlink_to(real)
    do("cursor", CLIENTS["cursor"].entry(SERVER))
    assert path.is_symlink()
    do("cursor", None)
    assert path.is_symlink()
    assert real.read_bytes() == before


def test_an_entry_of_that_name_that_is_not_ours_is_never_touched():
    path, before = written("cursor", {NAME: OTHER})
    for entry in (CLIENTS["cursor"].entry(SERVER), None):
        with pytest.raises(BadInput, match="does not start this program"):
            client_entry.plan(CLIENTS["cursor"], "user", entry)
    assert path.read_bytes() == before


def test_a_file_that_changed_between_plan_and_write_is_not_overwritten():
    path, _ = written("cursor")
    change = client_entry.plan(CLIENTS["cursor"], "user", CLIENTS["cursor"].entry(SERVER))
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(FineTuningError, match="by another program"):
        client_entry.apply(CLIENTS["cursor"], "user", change)
    assert path.read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("name", CLIENTS)
def test_every_entry_names_an_absolute_command_and_the_workspace_and_no_secret(name, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    entry = CLIENTS[name].entry(SERVER)
    text = json.dumps(entry)
    assert "/opt/a b/fine-tuning-llm" in text
    assert "/data" in text
    assert "hf_secret" not in text
    assert client_entry.is_ours(entry)


@pytest.mark.parametrize("name", [name for name in CLIENTS if CLIENTS[name].speaks_http])
def test_an_address_is_registered_without_the_token_itself(name, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_HTTP_TOKEN", "s3cret")
    entry = CLIENTS[name].entry(Server(url="http://gpu:8765/mcp"))
    assert "http://gpu:8765/mcp" in entry.values()
    assert "s3cret" not in json.dumps(entry)
    assert client_entry.is_ours(entry)


def test_each_client_has_its_own_spelling():
    codex = CLIENTS["codex"].entry(SERVER)
    assert codex["env_vars"] == ["HF_TOKEN"]
    assert codex["tool_timeout_sec"] == 600
    assert CLIENTS["gemini"].entry(SERVER)["env"]["HF_TOKEN"] == "$HF_TOKEN"
    assert CLIENTS["cursor"].entry(SERVER)["env"]["HF_TOKEN"] == "${env:HF_TOKEN}"
    assert CLIENTS["openclaw"].entry(SERVER)["env"]["HF_TOKEN"] == "${HF_TOKEN}"
    assert CLIENTS["vscode"].entry(SERVER)["type"] == "stdio"
    assert CLIENTS["opencode"].entry(SERVER)["command"] == ["/opt/a b/fine-tuning-llm", "serve"]
    assert CLIENTS["claude-code"].entry(SERVER)["timeout"] == 600_000
    http = CLIENTS["claude-code"].entry(Server(url="http://gpu/mcp"))
    assert http["type"] == "http"
    assert http["headers"] == {"Authorization": "Bearer ${FINE_TUNING_LLM_HTTP_TOKEN}"}


CLAUDE = f"""#!{sys.executable}
import json, os, sys
path = os.path.expanduser("~/.claude.json")
config = json.load(open(path)) if os.path.exists(path) else {{}}
servers = config.setdefault("mcpServers", {{}})
action, *rest = sys.argv[2:]
rest = rest[2:]
if action == "remove":
    sys.exit(1) if rest[0] not in servers else servers.pop(rest[0])
elif rest[0] in servers:
    sys.exit("already exists")
else:
    servers[rest[0]] = json.loads(rest[1])
json.dump(config, open(path, "w"))
"""


def test_claude_code_is_changed_by_its_own_command(home, monkeypatch):
    """The command here is a stand-in that keeps to what the real one was seen to do."""
    (home / "bin").mkdir()
    (home / "bin" / "claude").write_text(CLAUDE)
    (home / "bin" / "claude").chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    entry = CLIENTS["claude-code"].entry(SERVER)
    do("claude-code", entry | {"timeout": 1})
    do("claude-code", entry)
    assert client_entry.entry_of(CLIENTS["claude-code"], "user") == entry
    do("claude-code", None)
    assert client_entry.entry_of(CLIENTS["claude-code"], "user") is None
