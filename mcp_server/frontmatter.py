"""Read the frontmatter of SKILL.md without a YAML library, which the core does not depend on."""

import json
from typing import Any

FENCE = "---"


def frontmatter(text: str) -> dict[str, Any]:
    """Return the frontmatter of a skill as YAML would read it.

    Knows what SKILL.md uses, block style only: maps, lists, plain and double-quoted strings, true
    and false. A test compares it with a YAML library.

    Raises:
        ValueError: There is no frontmatter, or it uses more of YAML than that.
    """
    lines = text.split("\n")
    if lines[0] != FENCE or FENCE not in lines[1:]:
        raise ValueError("SKILL.md does not begin with a frontmatter between two lines of ---")
    body = [line for line in lines[1 : lines.index(FENCE, 1)] if line.strip()]
    value, rest = _block(body, 0)
    if rest or not isinstance(value, dict):
        raise ValueError(f"not understood in the frontmatter: {rest[:1]}")
    return value


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _block(lines: list[str], indent: int) -> tuple[Any, list[str]]:
    """Read one map or list at an indentation; return it and the lines after it."""
    if lines and lines[0].lstrip().startswith("- "):
        return _list(lines, indent)
    found: dict[str, Any] = {}
    while lines and _indent(lines[0]) == indent:
        key, colon, rest = lines[0].strip().partition(":")
        if not colon:
            raise ValueError(f"not understood in the frontmatter: {lines[0]!r}")
        lines = lines[1:]
        if rest.strip():
            found[key] = _scalar(rest.strip())
        elif lines and _indent(lines[0]) > indent:
            found[key], lines = _block(lines, _indent(lines[0]))
        else:
            raise ValueError(f"{key!r} in the frontmatter has no value")
    return found, lines


def _list(lines: list[str], indent: int) -> tuple[list[Any], list[str]]:
    found: list[Any] = []
    while lines and _indent(lines[0]) == indent and lines[0].lstrip().startswith("- "):
        item = lines[0].lstrip()[2:]
        if ": " in item or item.endswith(":"):
            # The item is a map: its first key stands where the others are indented to.
            value, lines = _block([" " * (indent + 2) + item, *lines[1:]], indent + 2)
        else:
            value, lines = _scalar(item), lines[1:]
        found.append(value)
    return found, lines


def _scalar(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"'):
        return json.loads(text)
    if text[0] in "'[{|>&*!%@`#" or ": " in text or " #" in text or _is_number(text):
        raise ValueError(f"write this in the frontmatter between double quotes: {text!r}")
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("null", "~", "yes", "no", "on", "off")
    return True
