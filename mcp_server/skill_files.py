"""The files of the skill: SKILL.md and references/, wherever this package is installed."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

SKILL = "SKILL.md"


def folder() -> Traversable:
    """Return the folder of SKILL.md: beside this package in a checkout, inside it in a wheel.

    Raises:
        FileNotFoundError: Neither is there; the installation is incomplete.
    """
    inside = files("mcp_server") / "skill"
    beside = Path(__file__).parent.parent
    for place in (inside, beside):
        if (place / SKILL).is_file():
            return place
    raise FileNotFoundError(f"no {SKILL} in {inside} or {beside}; reinstall fine-tuning-llm")


def skill_files() -> dict[str, bytes]:
    """Return the files of the skill, SKILL.md first: path in the skill -> raw bytes."""
    root = folder()
    return {SKILL: (root / SKILL).read_bytes(), **_markdown(root / "references", "references")}


def _markdown(folder: Traversable, path: str) -> dict[str, bytes]:
    """Return the Markdown files of a folder and of the folders in it, by name."""
    found = dict[str, bytes]()
    for each in sorted(folder.iterdir(), key=lambda it: it.name) if folder.is_dir() else []:
        if each.is_dir():
            found |= _markdown(each, f"{path}/{each.name}")
        elif each.name.endswith(".md"):
            found[f"{path}/{each.name}"] = each.read_bytes()
    return found


def skill_name() -> str:
    """Return the skill's name, which is also the last part of its path."""
    return str(frontmatter()["name"])


def frontmatter() -> dict[str, Any]:
    """Return the frontmatter of SKILL.md."""
    import yaml  # Imported here: a client that only lists the tools does not wait for it.

    text = (folder() / SKILL).read_text(encoding="utf-8")
    read = yaml.safe_load(text.split("---\n", 2)[1])
    return dict(read)
