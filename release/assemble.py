"""Assemble what is published on each channel from the files at the root: `make dist`.

One source: name, version, description and licence are those of pyproject.toml and SKILL.md. Every
bundle carries the whole package in `skills/fine-tuning-llm`, so that nothing is installed by name
from an index.
"""

import argparse
import json
import re
import shutil
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
PARTS = (
    "SKILL.md",
    "references",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "pyproject.toml",
    "ft_tools",
    "mcp_server",
)
"""The skill's folder: what a user needs. Tests, benchmarks and docs stay in the repository."""
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
AUTHOR = {"name": "fine-tuning-llm contributors"}
CATEGORIES = ("development", "data", "agents")
TOPICS = ("fine-tuning", "lora", "dpo", "gguf", "mcp")
AGENT_SCHEMA = "https://agent-plugins.org/schemas/1.0.0"
REGISTRY_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
REGISTRY_DESCRIPTION_CHARS = 100


@dataclass(frozen=True)
class Facts:
    """What every manifest says."""

    name: str
    version: str
    license: str
    summary: str
    keywords: list[str]
    variables: list[dict[str, Any]]
    registry_name: str


def facts() -> Facts:
    """Read the facts from pyproject.toml, SKILL.md and README.md."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    skill = yaml.safe_load((ROOT / "SKILL.md").read_text(encoding="utf-8").split("---\n", 2)[1])
    marker = re.search(r"<!-- mcp-name: (\S+) -->", (ROOT / "README.md").read_text("utf-8"))
    if marker is None:
        raise SystemExit("README.md has no <!-- mcp-name: ... --> for the MCP registry")
    return Facts(
        name=project["name"],
        version=project["version"],
        license=project["license"],
        summary=project["description"],
        keywords=project["keywords"],
        variables=skill["metadata"]["openclaw"]["envVars"],
        registry_name=marker[1],
    )


def assemble(out: Path) -> list[Path]:
    """Write every channel's folder or file; return them.

    Args:
        out: An empty or new folder.
    """
    about = facts()
    made = [_skill(out / "clawhub" / about.name)]
    made += [_claude(out / "claude-marketplace", about)]
    for client, files in _bundles(about).items():
        folder = out / client / about.name
        _skill(folder / "skills" / about.name)
        for path, value in files.items():
            _write(folder / path, value)
        made.append(folder)
    made.append(_mcpb(out, about))
    made.append(_registry(out, about))
    return made


def _skill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=NOT_SHIPPED)
        else:
            shutil.copy(source, folder)
    return folder


def _common(about: Facts) -> dict[str, Any]:
    return {
        "name": about.name,
        "version": about.version,
        "description": about.summary,
        "author": AUTHOR,
        "license": about.license,
        "keywords": about.keywords,
    }


def _command(root: str, about: Facts) -> dict[str, Any]:
    """Return an entry that runs the package out of the bundle's own folder."""
    source = f"{root}/skills/{about.name}"
    return {"command": "uvx", "args": ["--from", source, about.name, "serve"]}


def _claude(folder: Path, about: Facts) -> Path:
    plugin = folder / about.name
    _skill(plugin / "skills" / about.name)
    shutil.copy(ROOT / "README.md", plugin)
    _write(plugin / ".claude-plugin" / "plugin.json", _common(about))
    server = _command("${CLAUDE_PLUGIN_ROOT}", about)
    _write(plugin / ".mcp.json", {"mcpServers": {about.name: server}})
    listed = {key: _common(about)[key] for key in ("name", "version", "description", "license")}
    market = {
        "name": about.name,
        "owner": AUTHOR,
        "metadata": {"description": about.summary, "version": about.version},
        "plugins": [listed | {"source": f"./{about.name}"}],
    }
    _write(folder / ".claude-plugin" / "marketplace.json", market)
    return folder


def _bundles(about: Facts) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the files of the bundles that are the skill and a manifest, by client and path.

    The set-up of Codex's and Cursor's registers the server (`connect`); OpenClaw loads the
    vendor-neutral bundle.
    """
    common = _common(about)
    extension = {key: common[key] for key in ("name", "version", "description")}
    server = {about.name: _command("${extensionPath}", about)}
    neutral = {about.name: {"type": "stdio"} | _command("${PLUGIN_ROOT}", about)}
    return {
        "codex": {".codex-plugin/plugin.json": common | {"skills": "./skills/"}},
        "cursor": {".cursor-plugin/plugin.json": common},
        "gemini": {"gemini-extension.json": extension | {"mcpServers": server}},
        "agent-plugins": {
            "plugin.json": {"$schema": f"{AGENT_SCHEMA}/plugin.schema.json"} | common,
            "mcp.json": {"$schema": f"{AGENT_SCHEMA}/mcp.schema.json", "mcpServers": neutral},
        },
    }


def _mcpb(out: Path, about: Facts) -> Path:
    """Write the bundle that Claude Desktop installs by a click: a ZIP file."""
    folder = _skill(out / "mcpb")
    arguments = ["run", "--directory", "${__dirname}", about.name, "serve"]
    workspace = {
        "type": "directory",
        "title": "Workspace",
        "description": "Folder with your data. The tools read and write only below it.",
        "required": True,
    }
    manifest = {
        "manifest_version": "0.4",
        **_common(about),
        "display_name": "Fine-tuning engineer",
        "server": {
            "type": "uv",
            "entry_point": "mcp_server/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": arguments,
                "env": {"FINE_TUNING_LLM_WORKSPACE": "${user_config.workspace}"},
            },
        },
        "user_config": {"workspace": workspace},
        "compatibility": {"platforms": ["darwin", "linux"], "runtimes": {"python": ">=3.11"}},
    }
    _write(folder / "manifest.json", manifest)
    file = out / f"{about.name}-{about.version}.mcpb"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(folder.rglob("*")):
            # A fixed time: the same commit gives the same bytes.
            entry = zipfile.ZipInfo(str(path.relative_to(folder)), (2026, 1, 1, 0, 0, 0))
            if path.is_file():
                bundle.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return file


def _registry(out: Path, about: Facts) -> Path:
    """Write the MCP registry's entry; it is published only after the package itself."""
    variables = [
        {
            "name": each["name"],
            "description": each["description"],
            "isRequired": each["required"],
            "isSecret": each["name"].endswith("TOKEN"),
        }
        for each in about.variables
    ]
    package = {
        "registryType": "pypi",
        "identifier": about.name,
        "version": about.version,
        "transport": {"type": "stdio"},
        "packageArguments": [{"type": "positional", "value": "serve"}],
        "environmentVariables": variables,
    }
    entry = {
        "$schema": REGISTRY_SCHEMA,
        "name": about.registry_name,
        "title": "Fine-tuning engineer",
        "description": about.summary[:REGISTRY_DESCRIPTION_CHARS].rsplit(" ", 1)[0],
        "version": about.version,
        "packages": [package],
    }
    return _write(out / "server.json", entry)


def _write(path: Path, value: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Assemble into a folder and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "dist")
    out = parser.parse_args().out
    if out.exists() and any(out.iterdir()):
        parser.error(f"{out} is not empty; remove it first (make dist does)")
    for path in assemble(out):
        sys.stdout.write(f"{path}\n")
    about = facts()
    sys.stdout.write(
        f"\nclawhub skill publish {out}/clawhub/{about.name} --version {about.version} "
        f"--categories {','.join(CATEGORIES)} --topics {','.join(TOPICS)} --dry-run\n"
    )


if __name__ == "__main__":
    main()
