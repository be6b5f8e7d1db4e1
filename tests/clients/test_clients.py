"""From an empty machine: the skill's folder, its set-up, and each client with the server."""

import json
import subprocess
from pathlib import Path

import pytest

from ft_tools.tools import TOOLS
from tests.protocol.calls import GOOD, RUN_ID, prepare
from tests.protocol.serving import serving

NAME = "fine-tuning-llm"


def test_the_set_up_of_the_skill_installs_the_command(machine):
    assert "0.1.0" in machine.run(NAME, "--version")
    missing = machine.run(NAME, "doctor", "--for", "train", "--no-hub", "--no-clients", check=False)
    assert "uv tool install '" in missing
    assert "/.claude/skills/fine-tuning-llm[train]'" in missing


def test_claude_code_connects_from_any_folder_and_forgets_it_again(machine):
    said = machine.run(NAME, "connect", "claude-code", "--workspace", str(machine.home / "data"))
    assert f"{len(TOOLS)} tools" in said
    listed = machine.run("claude", "mcp", "list", cwd=machine.home / "data")
    assert "Connected" in listed
    again = machine.run(NAME, "connect", "claude-code", "--workspace", str(machine.home / "data"))
    assert "nothing to do" in again
    machine.run(NAME, "disconnect", "claude-code")
    assert NAME not in machine.run("claude", "mcp", "list")


def test_codex_reads_the_entry_with_its_time_limits(machine):
    machine.run(NAME, "connect", "codex", "--workspace", str(machine.home / "data"))
    shown = machine.run("codex", "mcp", "get", NAME, "--json")
    entry = json.loads(shown[shown.index("{") :])
    assert entry["enabled"]
    assert entry["tool_timeout_sec"] == 600
    machine.run(NAME, "disconnect", "codex")
    assert machine.run("codex", "mcp", "get", NAME, check=False).count("No MCP server") == 1


def test_gemini_connects_in_a_folder_that_it_trusts(machine):
    trusted = {str(machine.home / "project"): "TRUST_FOLDER"}
    (machine.home / ".gemini" / "trustedFolders.json").write_text(json.dumps(trusted))
    machine.run(NAME, "connect", "gemini", "--workspace", str(machine.home / "data"))
    assert "Connected" in machine.run("gemini", "mcp", "list")
    assert NAME in machine.run("gemini", "skills", "list")
    machine.run(NAME, "disconnect", "gemini")
    assert NAME not in machine.run("gemini", "skills", "list")


def test_openclaw_probes_the_server_and_forgets_it(machine):
    folder = machine.home / ".openclaw"
    folder.mkdir(exist_ok=True)
    before = '// mine\n{\n  "mcp": {\n    "servers": {} // none yet\n  }\n}\n'
    (folder / "openclaw.json").write_text(before)
    machine.run(NAME, "connect", "openclaw", "--workspace", str(machine.home / "data"))
    assert f"{NAME}: ok" in machine.run("openclaw", "mcp", "doctor", NAME, "--probe")
    assert '"modelVisible": true' in machine.run("openclaw", "skills", "info", NAME, "--json")
    machine.run(NAME, "disconnect", "openclaw")
    assert NAME not in (folder / "openclaw.json").read_text()


def test_the_inspector_lists_tools_and_resources(machine):
    for method, key in (
        ("tools/list", "tools"),
        ("resources/list", "resources"),
    ):
        listed = command_output(machine, "--method", method)
        assert listed[key], method
    assert len(command_output(machine, "--method", "tools/list")["tools"]) == len(TOOLS)


PATIENT = ("--connect-timeout", "60000")
"""Its 15 seconds are too few where Node and the server share a busy processor."""


def command_output(machine, *words):
    """Run the Inspector against the installed server; its stdout alone is JSON."""
    inspector = next(f for f in machine.path if (f / "mcp-inspector").exists()) / "mcp-inspector"
    done = subprocess.run(
        [inspector, "--cli", machine.home / ".local/bin" / NAME, "serve", *words, *PATIENT],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=machine.home / "data",
        env=machine.environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [name for name in TOOLS if TOOLS[name].effect == "reads"])
def test_the_inspector_calls_every_tool_that_only_reads(machine, name):
    if not (machine.home / "data" / "data.jsonl").exists():
        prepare(machine.home / "data")
    words = ["--method", "tools/call", "--tool-name", name]
    for key, value in GOOD[name].items():
        words += ["--tool-arg", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    result = command_output(machine, *words)
    assert not result.get("isError"), result
    assert result["structuredContent"].get("summary") or name == "explain"
    assert name != "get_run" or RUN_ID in result["structuredContent"]["summary"]


BASELINE = Path(__file__).with_name("conformance.yml")
REVISIONS = {
    "2025-03-26": ("--suite", "all", "--spec-version", "2025-03-26"),
    "2025-06-18": ("--suite", "all", "--spec-version", "2025-06-18"),
    "2025-11-25": ("--requirements", "2025-11-25"),
    "2026-07-28": ("--requirements", "2026-07-28"),
}
"""The published revisions that the suite knows; it has requirement sets for the last two."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with serving("--http", "--port", "0", FINE_TUNING_LLM_WORKSPACE=str(folder)) as served:
        yield served


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_http_server_conforms_to_each_published_revision(machine, served, revision):
    words = (*REVISIONS[revision], "--expected-failures", str(BASELINE))
    said = machine.run("conformance", "server", "--url", served.url, *words)
    assert "Baseline check passed" in said


@pytest.mark.parametrize("scenario", ["sep-2640-skills-enumeration", "sep-2640-skills-manifest"])
def test_the_http_server_conforms_to_the_skills_extension(machine, served, scenario):
    said = machine.run("conformance", "server", "--url", served.url, "--scenario", scenario)
    assert ", 0 failed" in said


def test_every_bundle_passes_its_own_validator(machine, channels):
    market = channels / "claude-marketplace"
    for folder in (market, market / NAME):
        machine.run("claude", "plugin", "validate", str(folder), "--strict")
    machine.run("gemini", "extensions", "validate", str(channels / "gemini" / NAME))
    machine.run("mcpb", "validate", str(channels / "mcpb" / "manifest.json"))


def test_codex_installs_the_plugin_of_the_same_marketplace(machine, channels):
    market = channels / "claude-marketplace"
    machine.run("codex", "plugin", "marketplace", "add", str(market))
    assert "Added plugin" in machine.run("codex", "plugin", "add", f"{NAME}@{NAME}")
    machine.run("codex", "plugin", "remove", f"{NAME}@{NAME}")
    machine.run("codex", "plugin", "marketplace", "remove", NAME)


def test_openclaw_installs_the_vendor_neutral_bundle_with_skill_and_server(machine, channels):
    bundle = channels / "agent-plugins" / NAME
    words = ("install", str(bundle), "--force", "--accept-capabilities")
    machine.run("openclaw", "plugins", *words)
    said = machine.run("openclaw", "plugins", "inspect", NAME)
    assert "Status: loaded" in said
    assert "Bundle capabilities: skills, mcpServers" in said
    machine.run("openclaw", "plugins", "uninstall", NAME, "--force")


def test_claude_code_installs_the_plugin_and_starts_its_server(machine, channels):
    market = channels / "claude-marketplace"
    machine.run("claude", "plugin", "marketplace", "add", str(market))
    machine.run("claude", "plugin", "install", f"{NAME}@{NAME}")
    assert "Connected" in machine.run("claude", "mcp", "list")
    machine.run("claude", "plugin", "uninstall", f"{NAME}@{NAME}")
