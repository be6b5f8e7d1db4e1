"""What is around: the Hub and its login, and the clients that know this server."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.doctor.report import Check
from ft_tools.models.hub import endpoint, forbidden_by, hub_home
from ft_tools.runs.processes.start import command, environment

HUB_SECONDS = 5.0
CLIENTS_SECONDS = 300.0


def hub() -> Iterator[Check]:
    """Yield whether the Hub answers, and whether somebody is logged in there."""
    if variable := forbidden_by():
        found = f"{variable} is set: only models on this machine are used"
        yield Check(name="Hub", state="note", found=found, fix=f"unset {variable}")
    else:
        yield _answers(endpoint())
    file = Path(os.environ.get("HF_TOKEN_PATH") or hub_home() / "token")
    if os.environ.get("HF_TOKEN"):
        yield Check(name="Hub login", state="ok", found="HF_TOKEN is set")
    elif file.is_file():
        yield Check(name="Hub login", state="ok", found=f"a login is kept in {file}")
    else:
        found = "nobody is logged in; only gated and private models need it"
        yield Check(name="Hub login", state="note", found=found, fix="hf auth login")


def _answers(address: str) -> Check:
    """Ask for the Hub's first page; no token is sent."""
    try:
        asked = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(asked, timeout=HUB_SECONDS):
            return Check(name="Hub", state="ok", found=f"{address} answers")
    except urllib.error.HTTPError as error:
        return Check(name="Hub", state="ok", found=f"{address} answers (HTTP {error.code})")
    except (OSError, ValueError) as error:
        return Check(
            name="Hub",
            state="note",
            found=f"{address} does not answer ({type(error).__name__}); local models work",
            fix="check the network or HTTPS_PROXY, or name a mirror in HF_ENDPOINT",
        )


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
        yield Check(
            name="clients", state="note", found=f"cannot be looked at ({type(error).__name__})"
        )
        return
    yield from (_client(row) for row in rows)
    for title in sorted({row["title"] for row in rows}):
        scopes = [row["scope"] for row in rows if row["title"] == title and row.get("registered")]
        if len(scopes) > 1:
            found = f"registered for you and for the project in {os.getcwd()}"
            yield Check(name=title, state="note", found=f"{found}; the project's entry counts")
    if not rows:
        found = "none was found on this machine"
        yield Check(
            name="clients", state="note", found=found, fix="fine-tuning-llm connect --print"
        )


def _client(row: dict[str, Any]) -> Check:
    name = f"{row['title']} ({row['scope']})"
    connect = f"fine-tuning-llm connect {row['client']}"
    connect += " --scope project" if row["scope"] == "project" else ""
    if error := row.get("error"):
        return Check(name=name, state="broken", found=f"{row['path']}: {error}", fix=connect)
    if not row.get("registered"):
        return Check(name=name, state="note", found="does not know this server", fix=connect)
    if not row["ours"]:
        found = f"{row['path']}: an entry of this name starts something else"
        return Check(name=name, state="broken", found=found, fix="rename or remove that entry")
    if "url" in row:
        return Check(name=name, state="ok", found=f"registered at {row['url']}, not tried")
    found = f"starts version {row['version']} ({row['command']}), {row['num_tools']} tools"
    if not row["current"]:
        return Check(name=name, state="broken", found=f"{found}: not this version", fix=connect)
    if row.get("skill") == "older":
        found = f"{found}; its skill is of an older version"
        return Check(name=name, state="note", found=found, fix=connect)
    return Check(name=name, state="ok", found=found)
