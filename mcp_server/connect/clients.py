"""The clients, one row each: where each keeps its servers, and how it writes one down.

Source: each client's documentation, and what each was seen to do with an entry (November 2026).
"""

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

NAME = "fine-tuning-llm"
TOKEN = "FINE_TUNING_LLM_HTTP_TOKEN"
Scope = Literal["user", "project"]
SECONDS, MILLISECONDS, START_SECONDS = 600, 600_000, 60
Place = tuple[str, str, str]
"""A variable that may name a folder, that folder below the home if it does not, a path in it."""


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
    user_file: Place
    project_file: str = ""
    """In the project's folder; empty: it has none."""
    key: tuple[str, ...] = ("mcpServers",)
    user_skills: Place = ("", "", ".agents/skills")
    """Folder in which it looks for skills; several clients read this one."""
    project_skills: str = ".agents/skills"
    programs: tuple[str, ...]
    """Its commands: one of them on PATH, or the folder of its file, shows that it is installed."""
    add: tuple[str, ...] = ()
    """Its own command that registers a server; empty: its file is edited."""
    add_replaces: bool = False
    """Whether that command replaces an entry; otherwise the old one is removed first."""
    remove: tuple[str, ...] = ()
    reference: str = ""
    """How an entry names a variable of the client's environment; empty: it cannot."""
    url_reference: str = ""
    """The same where only an address needs one: its command has the client's whole environment."""
    names_key: str = ""
    """Key that lists the variables which it passes on; empty: it has none."""
    has_type: bool = False
    """Whether an entry needs `type`."""
    further: dict[str, Any] = field(default_factory=dict)
    """More keys of an entry, such as time limits."""
    further_of_url: dict[str, Any] = field(default_factory=dict)
    left: str
    """What is left for the person to do."""

    @property
    def is_toml(self) -> bool:
        """Whether its file is TOML."""
        return self.user_file[2].endswith(".toml")

    def file(self, scope: Scope) -> Path:
        """Return the file of a scope."""
        return _path(self.user_file) if scope == "user" else Path.cwd() / self.project_file

    def skill(self, scope: Scope) -> Path:
        """Return the folder of this skill in a scope."""
        own = _path(self.user_skills) if scope == "user" else Path.cwd() / self.project_skills
        return own / NAME

    def is_installed(self) -> bool:
        """Return whether the client is on this machine."""
        folder = _path(self.user_file).parent
        has_folder = folder.is_dir() and folder != Path.home()
        return has_folder or any(map(shutil.which, self.programs))

    def entry(self, server: Server) -> dict[str, Any]:
        """Return the client's entry of a server."""
        made: dict[str, Any] = {"type": "http" if server.url else "stdio"} if self.has_type else {}
        if server.url:
            made["url"] = server.url
            if reference := self.reference or self.url_reference:
                token = reference.replace("{}", TOKEN)
                made["headers"] = {"Authorization": f"Bearer {token}"}
            return made | self.further_of_url | self.further
        secrets = {name: self.reference.replace("{}", name) for name in server.forwarded}
        made |= {"command": server.command, "args": list(server.arguments)}
        made["env"] = dict(server.environment) | (secrets if self.reference else {})
        if self.names_key and server.forwarded:
            made[self.names_key] = list(server.forwarded)
        return made | self.further


def _path(place: Place) -> Path:
    variable, folder, path = place
    return Path(os.environ.get(variable) or Path.home() / folder) / path


VSCODE: dict[bool, Place] = {
    True: ("", "Library/Application Support", "Code/User/mcp.json"),
    False: ("XDG_CONFIG_HOME", ".config", "Code/User/mcp.json"),
}
"""On a Mac, or not."""
CLIENTS = {
    "claude-code": Client(
        title="Claude Code",
        user_file=("CLAUDE_CONFIG_DIR", "", ".claude.json"),
        project_file=".mcp.json",
        user_skills=("CLAUDE_CONFIG_DIR", ".claude", "skills"),
        project_skills=".claude/skills",
        programs=("claude",),
        add=("claude", "mcp", "add-json", "--scope", "{scope}", NAME, "{entry}"),
        remove=("claude", "mcp", "remove", "--scope", "{scope}", NAME),
        url_reference="${{}}",
        has_type=True,
        further={"timeout": MILLISECONDS},
        left="Start a new session; in a project, Claude Code asks once for approval.",
    ),
    "codex": Client(
        title="Codex",
        user_file=("CODEX_HOME", ".codex", "config.toml"),
        project_file=".codex/config.toml",
        key=("mcp_servers",),
        programs=("codex",),
        names_key="env_vars",
        further={"startup_timeout_sec": START_SECONDS, "tool_timeout_sec": SECONDS},
        further_of_url={"bearer_token_env_var": TOKEN},
        left="Start a new session. Codex reads a project's file only if it trusts the project.",
    ),
    "cursor": Client(
        title="Cursor",
        user_file=("", ".cursor", "mcp.json"),
        project_file=".cursor/mcp.json",
        user_skills=("", ".cursor", "skills"),
        programs=("cursor", "cursor-agent"),
        reference="${env:{}}",
        left="Switch the server on in Cursor's settings, under MCP.",
    ),
    "vscode": Client(
        title="VS Code",
        user_file=VSCODE[sys.platform == "darwin"],
        project_file=".vscode/mcp.json",
        key=("servers",),
        user_skills=("", ".copilot", "skills"),
        programs=("code",),
        has_type=True,
        left="Start the server from the MCP view; VS Code asks once whether you trust it.",
    ),
    "gemini": Client(
        title="Gemini CLI",
        user_file=("", ".gemini", "settings.json"),
        project_file=".gemini/settings.json",
        programs=("gemini",),
        reference="${}",
        further={"timeout": MILLISECONDS},
        left="Start a new session. In a folder that Gemini does not trust, all servers are off.",
    ),
    "openclaw": Client(
        title="OpenClaw",
        user_file=("OPENCLAW_STATE_DIR", ".openclaw", "openclaw.json"),
        key=("mcp", "servers"),
        programs=("openclaw",),
        add=("openclaw", "mcp", "set", NAME, "{entry}"),
        add_replaces=True,
        remove=("openclaw", "mcp", "unset", NAME),
        reference="${{}}",
        further={"connectionTimeoutMs": START_SECONDS * 1000, "requestTimeoutMs": MILLISECONDS},
        further_of_url={"transport": "streamable-http"},
        left="Reload a running gateway: openclaw mcp reload.",
    ),
}
