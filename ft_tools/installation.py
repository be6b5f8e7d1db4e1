"""How this installation was made, so that advice on changing it names the same way.

Nothing here is installed by name from an index unless this installation came from there itself: a
folder is named by its path, so that no stranger's package of the same name is ever fetched.

Source: the Direct URL record of an installation,
https://packaging.python.org/en/latest/specifications/direct-url/; `uv-receipt.toml` and
`pipx_metadata.json` mark environments that those tools own.
"""

import json
import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

NAME = "fine-tuning-llm"
Tool = Literal["uv tool", "uvx", "pipx", "pip", "uv pip"]


@dataclass(frozen=True)
class Installation:
    """Where this package came from, and what can change it."""

    tool: Tool
    source: str
    """A folder, a file or an address; empty: the index, at `version`."""
    version: str
    editable: bool
    extras: tuple[str, ...]
    """Extras that the tool wrote down; pip writes down none."""
    python: str

    def requirement(self, *extras: str) -> str:
        """Return what an installer takes, with the extras there are and further ones."""
        wanted = sorted({*self.extras, *extras})
        listed = f"[{','.join(wanted)}]" if wanted else ""
        if not self.source:
            return f"{NAME}{listed}=={self.version}"
        if "://" in self.source:
            return f"{NAME}{listed} @ {self.source}"
        return f"{self.source}{listed}"

    def command(self, *extras: str) -> str:
        """Return the command, for a shell, that adds extras to this installation."""
        where = shlex.quote(self.requirement(*extras))
        where = where if where.startswith("'") else f"'{where}'"
        option = "--editable " if self.editable else ""
        python = shlex.quote(self.python)
        return {
            "uv tool": f"uv tool install {option}{where}",
            "uvx": f"uv tool install {where}",
            "pipx": f"pipx install --force {option}{where}",
            "pip": f"{python} -m pip install {option}{where}",
            "uv pip": f"uv pip install --python {python} {option}{where}",
        }[self.tool]

    @property
    def is_there(self) -> bool:
        """Whether what it was installed from is still there."""
        return not self.source or "://" in self.source or Path(self.source).exists()


def this() -> Installation:
    """Describe the running installation."""
    # Imported here: every process of ours would wait for it, and hardly one says how to install.
    from importlib.metadata import Distribution, PackageNotFoundError

    prefix = Path(sys.prefix)
    try:
        distribution = Distribution.from_name(NAME)
        version, record = distribution.version, distribution.read_text("direct_url.json")
    except PackageNotFoundError:
        version, record = "", None
    source, editable = _origin(json.loads(record)) if record else ("", False)
    checkout = Path(__file__).parent.parent
    if not source and (checkout / "pyproject.toml").is_file():
        # Run out of its own folder, without any installation.
        source = str(checkout)
    return Installation(
        tool=_tool(prefix),
        source=source,
        version=version,
        editable=editable,
        extras=_extras(prefix),
        python=sys.executable,
    )


def add_extras(*extras: str) -> str:
    """Return the command that adds extras to this installation."""
    here = this()
    if here.is_there:
        return here.command(*extras)
    return f"{here.command(*extras)} (that folder is gone: name the skill's folder of today)"


def _tool(prefix: Path) -> Tool:
    if (prefix / "uv-receipt.toml").is_file():
        return "uv tool"
    if (prefix / "pipx_metadata.json").is_file():
        return "pipx"
    if {"archive-v0", "environments-v2"} & set(prefix.parts):
        return "uvx"
    return "pip" if find_spec("pip") else "uv pip"


def _origin(record: dict[str, Any]) -> tuple[str, bool]:
    """Read direct_url.json: the place, and whether the code is used where it stands."""
    url = str(record["url"])
    editable = bool(record.get("dir_info", {}).get("editable"))
    vcs = record.get("vcs_info")
    if vcs:
        return f"{vcs['vcs']}+{url}@{vcs['commit_id']}", False
    parts = urlsplit(url)
    return (unquote(parts.path), editable) if parts.scheme == "file" else (url, False)


def _extras(prefix: Path) -> tuple[str, ...]:
    import tomllib

    try:
        receipt = tomllib.loads((prefix / "uv-receipt.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    for row in receipt.get("tool", {}).get("requirements", []):
        if row.get("name") == NAME:
            return tuple(row.get("extras", ()))
    return ()
