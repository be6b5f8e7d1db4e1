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


@dataclass(frozen=True)
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
    speaks_http: bool = True
    user_skills: Callable[[], Path] | None = None
    """Folder in which it looks for skills; None: it has none."""
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

    def skill(self, scope: Scope) -> Path | None:
        """Return the folder of this skill in a scope; None if the client has no skills there."""
        if scope == "project":
            return Path.cwd() / self.project_skills / NAME if self.project_skills else None
        return self.user_skills() / NAME if self.user_skills else None

    def is_installed(self) -> bool:
        """Tell whether the client is on this machine."""
        return (self.user_file().parent.is_dir() and self.user_file().parent != Path.home()) or any(
            map(shutil.which, self.programs)
        )


def _home(*parts: str) -> Callable[[], Path]:
    return lambda: Path.home().joinpath(*parts)


def _application(*parts: str) -> Callable[[], Path]:
    """Return a path below the system's folder for applications' settings."""

    def place() -> Path:
        if sys.platform == "darwin":
            base = Path.home() / "Library" / "Application Support"
        elif sys.platform == "win32":
            base = Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming"))
        else:
            base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return base.joinpath(*parts)

    return place


def _below(variable: str, folder: str, name: str) -> Callable[[], Path]:
    """Return a file below a folder that a variable may move."""
    return lambda: Path(os.environ.get(variable) or Path.home() / folder) / name


def _claude_code() -> Path:
    return Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home()) / ".claude.json"


def _claude_skills() -> Path:
    return Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / "skills"


def _lm_studio() -> Path:
    pointer = Path.home() / ".lmstudio-home-pointer"
    if pointer.is_file():
        return Path(pointer.read_text(encoding="utf-8").strip()) / "mcp.json"
    return Path.home() / ".lmstudio" / "mcp.json"


def _opencode() -> Path:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "opencode"
    with_comments = folder / "opencode.jsonc"
    return with_comments if with_comments.exists() else folder / "opencode.json"


def _environment(server: Server, reference: str) -> dict[str, str]:
    """Return the environment; `reference` writes a forwarded variable, such as `${env:{}}`."""
    forwarded = {name: reference.replace("{}", name) for name in server.forwarded if reference}
    return dict(server.environment) | forwarded


def _usual(
    reference: str = "", url: str = "url", **further: Any
) -> Callable[[Server], dict[str, Any]]:
    """Return the builder of the usual entry: command, args, env; or url and headers."""

    def build(server: Server) -> dict[str, Any]:
        if server.url:
            headers = {"Authorization": f"Bearer {reference.replace('{}', TOKEN)}"}
            kind = {"type": "http"} if "type" in further else {}
            rest = {key: value for key, value in further.items() if key != "type"}
            return kind | {url: server.url} | ({"headers": headers} if reference else {}) | rest
        kind = {"type": further["type"]} if "type" in further else {}
        rest = {key: value for key, value in further.items() if key != "type"}
        return (
            kind
            | {"command": server.command, "args": list(server.arguments)}
            | {"env": _environment(server, reference)}
            | rest
        )

    return build


def _codex(server: Server) -> dict[str, Any]:
    times = {"startup_timeout_sec": START_SECONDS, "tool_timeout_sec": TIMEOUT_SECONDS}
    if server.url:
        return {"url": server.url, "bearer_token_env_var": TOKEN} | times
    forwarded = {"env_vars": list(server.forwarded)} if server.forwarded else {}
    return (
        {"command": server.command, "args": list(server.arguments)}
        | {"env": dict(server.environment)}
        | forwarded
        | times
    )


def _openclaw(server: Server) -> dict[str, Any]:
    times = {
        "connectionTimeoutMs": START_SECONDS * 1000,
        "requestTimeoutMs": TIMEOUT_SECONDS * 1000,
    }
    build = _usual("${{}}")
    http = {"transport": "streamable-http"} if server.url else {}
    return build(server) | http | times


def _opencode_entry(server: Server) -> dict[str, Any]:
    times = {"timeout": START_SECONDS * 1000, "enabled": True}
    if server.url:
        headers = {"Authorization": f"Bearer {{env:{TOKEN}}}"}
        return {"type": "remote", "url": server.url, "headers": headers} | times
    command = [server.command, *server.arguments]
    environment = _environment(server, "{env:{}}")
    return {"type": "local", "command": command, "environment": environment} | times


MILLISECONDS = TIMEOUT_SECONDS * 1000
AGENTS = ".agents/skills"
"""Read by several clients, in the home and in a project."""
CLIENTS = {
    "claude-code": Client(
        "Claude Code",
        _claude_code,
        # The token by reference; a command gets the whole environment anyway.
        lambda server: _usual("${{}}" if server.url else "", type="stdio", timeout=MILLISECONDS)(
            server
        ),
        project_file=".mcp.json",
        programs=("claude",),
        left="Start a new session; in a project, Claude Code asks once for approval.",
        user_skills=_claude_skills,
        project_skills=".claude/skills",
    ),
    "codex": Client(
        "Codex",
        _below("CODEX_HOME", ".codex", "config.toml"),
        _codex,
        key=("mcp_servers",),
        project_file=".codex/config.toml",
        programs=("codex",),
        left="Start a new session. A project's file counts only where Codex trusts the project.",
        user_skills=_home(AGENTS),
        project_skills=AGENTS,
    ),
    "cursor": Client(
        "Cursor",
        _home(".cursor", "mcp.json"),
        _usual("${env:{}}"),
        project_file=".cursor/mcp.json",
        programs=("cursor", "cursor-agent"),
        left="Switch the server on in Cursor's settings, under MCP.",
        user_skills=_home(".cursor", "skills"),
        project_skills=AGENTS,
    ),
    "vscode": Client(
        "VS Code",
        _application("Code", "User", "mcp.json"),
        _usual(type="stdio"),
        key=("servers",),
        project_file=".vscode/mcp.json",
        programs=("code",),
        left="Start the server from the MCP view; VS Code asks once whether you trust it.",
        user_skills=_home(".copilot", "skills"),
        project_skills=AGENTS,
    ),
    "gemini": Client(
        "Gemini CLI",
        _home(".gemini", "settings.json"),
        _usual("${}", timeout=MILLISECONDS),
        project_file=".gemini/settings.json",
        programs=("gemini",),
        left="Start a new session. In a folder that Gemini does not trust, all servers are off.",
        user_skills=_home(AGENTS),
        project_skills=AGENTS,
    ),
    "openclaw": Client(
        "OpenClaw",
        _below("OPENCLAW_STATE_DIR", ".openclaw", "openclaw.json"),
        _openclaw,
        key=("mcp", "servers"),
        programs=("openclaw",),
        left="Reload a running gateway: openclaw mcp reload.",
        user_skills=_home(AGENTS),
    ),
    "claude-desktop": Client(
        "Claude Desktop",
        _application("Claude", "claude_desktop_config.json"),
        _usual(),
        speaks_http=False,
        left="Quit Claude Desktop and start it again.",
    ),
    "lm-studio": Client("LM Studio", _lm_studio, _usual()),
    "opencode": Client(
        "opencode",
        _opencode,
        _opencode_entry,
        key=("mcp",),
        project_file="opencode.json",
        programs=("opencode",),
        user_skills=_home(AGENTS),
        project_skills=AGENTS,
    ),
    "windsurf": Client(
        "Windsurf",
        _home(".codeium", "windsurf", "mcp_config.json"),
        _usual("${env:{}}", url="serverUrl"),
        left="Press refresh in Windsurf's list of MCP servers.",
        user_skills=_home(".codeium", "windsurf", "skills"),
    ),
    "kiro": Client(
        "Kiro",
        _home(".kiro", "settings", "mcp.json"),
        _usual("${{}}", timeout=MILLISECONDS),
        project_file=".kiro/settings/mcp.json",
        programs=("kiro", "kiro-cli"),
        user_skills=_home(".kiro", "skills"),
        project_skills=".kiro/skills",
    ),
}
