"""What is around: the Hub and its login, and the clients that know this server."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.doctor.report import Check, check
from ft_tools.models.hub import endpoint, forbidden_by, hub_home
from ft_tools.runs.processes.start import command, environment

HUB_SECONDS = 5.0
CLIENTS_SECONDS = 300.0


def hub() -> Iterator[Check]:
    """Yield whether the Hub answers, and whether somebody is logged in there."""
    if variable := forbidden_by():
        yield check("hub_forbidden", variable=variable)
    else:
        yield _answers(endpoint())
    file = Path(os.environ.get("HF_TOKEN_PATH") or hub_home() / "token")
    if os.environ.get("HF_TOKEN"):
        yield check("login", where="HF_TOKEN is set")
    elif file.is_file():
        yield check("login", where=f"a login is kept in {file}")
    else:
        yield check("login_missing")


def _answers(address: str) -> Check:
    """Ask for the Hub's first page; no token is sent."""
    try:
        asked = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(asked, timeout=HUB_SECONDS):
            return check("hub", address=address, code="")
    except urllib.error.HTTPError as error:
        return check("hub", address=address, code=f" (HTTP {error.code})")
    except (OSError, ValueError) as error:
        return check("hub_silent", address=address, error=type(error).__name__)


def clients() -> Iterator[Check]:
    """Yield a check for each coding agent that is installed here."""
    try:
        done = subprocess.run(
            command("mcp_server.connect", '{"action": "status"}'),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLIENTS_SECONDS,
            env=environment(),
            check=True,
        )
        rows: list[dict[str, Any]] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        yield check("clients_unknown", error=type(error).__name__)
        return
    yield from map(client, rows)
    for title in sorted({row["title"] for row in rows}):
        if sum(row["title"] == title and bool(row.get("registered")) for row in rows) > 1:
            yield check("client_twice", title=title, folder=os.getcwd())
    if not rows:
        yield check("clients_none")


def client(row: dict[str, Any]) -> Check:
    """Return the check of a client, as `connect` describes its entry."""
    connect = f"fine-tuning-llm connect {row['client']}"
    connect += " --scope project" if row["scope"] == "project" else ""
    states = {
        "client_broken": row.get("error"),
        "client_unregistered": not row.get("registered"),
        "client_not_ours": not row.get("ours"),
        "client_url": "url" in row,
        "client_old": not row.get("current"),
        "client_old_skill": row.get("skill") == "older",
        "client": True,
    }
    return check(next(name for name, holds in states.items() if holds), connect=connect, **row)
