"""The clients: where each keeps its servers, and how it writes one down.

Source: each client's documentation, and what each was seen to do with an entry (November 2026).
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

NAME = "fine-tuning-llm"
TOKEN = "FINE_TUNING_LLM_HTTP_TOKEN"
Scope = Literal["user", "project"]
TIMEOUT_SECONDS = 600
START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """What is registered: a command with its environment, or an address."""

    command: str = ""
    arguments: tuple[str, ...] = ("serve",)
    environment: tuple[tuple[str, str], ...] = ()
    forwarded: tuple[str, ...] = ()
    """Variables whose values stay in the client's environment, such as HF_TOKEN."""
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client, its configuration file, and its form of an entry."""

    title: str
    user_file: Callable[[], Path]
    entry: Callable[[Server], dict[str, Any]]
    key: tuple[str, ...] = ("mcpServers",)
    project_file: str = ""
    """In the project's folder; empty: it has none."""
    programs: tuple[str, ...] = ()
    """Its commands: one of them on PATH, or the folder of its file, shows that it is installed."""
    add: tuple[str, ...] = ()
    """Its own command that registers a server; empty: its file is edited."""
    add_replaces: bool = False
    """Whether that command replaces an entry; otherwise the old one is removed first."""
    remove: tuple[str, ...] = ()
    user_skills: Callable[[], Path]
    """Folder in which it looks for skills."""
    project_skills: str = ""
    left: str = "Restart it to load the server."
    """What is left for the person to do."""

    @property
    def is_toml(self) -> bool:
        """Whether its file is TOML."""
        return self.user_file().suffix == ".toml"

    def file(self, scope: Scope) -> Path:
        """Return the file of a scope."""
        return self.user_file() if scope == "user" else Path.cwd() / self.project_file

    def skill(self, scope: Scope) -> Path:
        """Return the folder of this skill in a scope."""
        skills = self.user_skills() if scope == "user" else Path.cwd() / self.project_skills
        return skills / NAME

    def is_installed(self) -> bool:
        """Return whether the client is on this machine."""
        return (self.user_file().parent.is_dir() and self.user_file().parent != Path.home()) or any(
            map(shutil.which, self.programs)
        )


def _home(*parts: str) -> Callable[[], Path]:
    return lambda: Path.home().joinpath(*parts)


def _below(variable: str, folder: str, name: str) -> Callable[[], Path]:
    """Return a path below a folder that a variable may move."""
    return lambda: Path(os.environ.get(variable) or Path.home() / folder) / name


def _vscode() -> Path:
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "Code" / "User" / "mcp.json"


def entry(
    server: Server, *, reference: str = "", kind: bool = False, **further: Any
) -> dict[str, Any]:
    """Return the usual entry: command, args, env; or url and headers.

    Args:
        server: What is registered.
        reference: How the client writes a variable of its own environment, such as `${env:{}}`.
        kind: Whether it requires `type`.
        further: More keys, such as time limits.
    """
    if server.url:
        token = {"Authorization": f"Bearer {reference.replace('{}', TOKEN)}"}
        made: dict[str, Any] = {"type": "http"} if kind else {}
        made |= {"url": server.url} | ({"headers": token} if reference else {})
        return made | further
    secrets = {name: reference.replace("{}", name) for name in server.forwarded if reference}
    made = {"type": "stdio"} if kind else {}
    made |= {"command": server.command, "args": list(server.arguments)}
    return made | {"env": dict(server.environment) | secrets} | further


def _claude_code(server: Server) -> dict[str, Any]:
    # The token by reference; a command gets the whole environment anyway.
    reference = "${{}}" if server.url else ""
    return entry(server, reference=reference, kind=True, timeout=MILLISECONDS)


def _codex(server: Server) -> dict[str, Any]:
    times = {"startup_timeout_sec": START_SECONDS, "tool_timeout_sec": TIMEOUT_SECONDS}
    if server.url:
        return {"url": server.url, "bearer_token_env_var": TOKEN} | times
    forwarded = {"env_vars": list(server.forwarded)} if server.forwarded else {}
    return entry(server) | forwarded | times


def _openclaw(server: Server) -> dict[str, Any]:
    times = {"connectionTimeoutMs": START_SECONDS * 1000, "requestTimeoutMs": MILLISECONDS}
    http = {"transport": "streamable-http"} if server.url else {}
    return entry(server, reference="${{}}") | http | times


MILLISECONDS = TIMEOUT_SECONDS * 1000
AGENTS = ".agents/skills"
"""Read by several clients, in the home and in a project."""
CLIENTS = {
    "claude-code": Client(
        title="Claude Code",
        user_file=lambda: Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home()) / ".claude.json",
        entry=_claude_code,
        project_file=".mcp.json",
        programs=("claude",),
        add=("claude", "mcp", "add-json", "--scope", "{scope}", NAME, "{entry}"),
        remove=("claude", "mcp", "remove", "--scope", "{scope}", NAME),
        left="Start a new session; in a project, Claude Code asks once for approval.",
        user_skills=_below("CLAUDE_CONFIG_DIR", ".claude", "skills"),
        project_skills=".claude/skills",
    ),
    "codex": Client(
        title="Codex",
        user_file=_below("CODEX_HOME", ".codex", "config.toml"),
        entry=_codex,
        key=("mcp_servers",),
        project_file=".codex/config.toml",
        programs=("codex",),
        left="Start a new session. Codex reads a project's file only if it trusts the project.",
        user_skills=_home(AGENTS),
        project_skills=AGENTS,
    ),
    "cursor": Client(
        title="Cursor",
        user_file=_home(".cursor", "mcp.json"),
        entry=lambda server: entry(server, reference="${env:{}}"),
        project_file=".cursor/mcp.json",
        programs=("cursor", "cursor-agent"),
        left="Switch the server on in Cursor's settings, under MCP.",
        user_skills=_home(".cursor", "skills"),
        project_skills=AGENTS,
    ),
    "vscode": Client(
        title="VS Code",
        user_file=_vscode,
        entry=lambda server: entry(server, kind=True),
        key=("servers",),
        project_file=".vscode/mcp.json",
        programs=("code",),
        left="Start the server from the MCP view; VS Code asks once whether you trust it.",
        user_skills=_home(".copilot", "skills"),
        project_skills=AGENTS,
    ),
    "gemini": Client(
        title="Gemini CLI",
        user_file=_home(".gemini", "settings.json"),
        entry=lambda server: entry(server, reference="${}", timeout=MILLISECONDS),
        project_file=".gemini/settings.json",
        programs=("gemini",),
        left="Start a new session. In a folder that Gemini does not trust, all servers are off.",
        user_skills=_home(AGENTS),
        project_skills=AGENTS,
    ),
    "openclaw": Client(
        title="OpenClaw",
        user_file=_below("OPENCLAW_STATE_DIR", ".openclaw", "openclaw.json"),
        entry=_openclaw,
        key=("mcp", "servers"),
        programs=("openclaw",),
        add=("openclaw", "mcp", "set", NAME, "{entry}"),
        add_replaces=True,
        remove=("openclaw", "mcp", "unset", NAME),
        left="Reload a running gateway: openclaw mcp reload.",
        user_skills=_home(AGENTS),
    ),
}
