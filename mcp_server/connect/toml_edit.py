"""Change one table of a TOML file that a person wrote: everything else stays byte for byte."""

import json
import re
import tomllib
from typing import Any

HEADER = re.compile(r"^\s*\[{1,2}\s*([^\]\n]+?)\s*\]{1,2}", re.MULTILINE)
BOM = "\ufeff"


class NotToml(ValueError):
    """The text is no TOML, or has the table in a form that is not edited."""


def read(text: str) -> dict[str, Any]:
    """Return the value of a text.

    Raises:
        NotToml: It is no TOML.
    """
    try:
        return tomllib.loads(text.removeprefix(BOM).replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise NotToml(str(error)) from error


def put(text: str, path: tuple[str, ...], values: dict[str, Any]) -> str:
    """Return the text with a table at a path: replaced where it is, else appended.

    Raises:
        NotToml: It is no TOML, or the result would change something else.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = [f"[{_dotted(path)}]", *(f"{key} = {_dump(value)}" for key, value in values.items())]
    block = newline.join(lines) + newline
    span = _span(text, path)
    if span is None:
        body = text if not text or text.endswith("\n") else text + newline
        new = body + (newline if body.strip() else "") + block
    else:
        new = text[: span[0]] + block + text[span[1] :]
    return _checked(text, new, path, values)


def remove(text: str, path: tuple[str, ...]) -> str:
    """Return the text without the table at a path, and without the empty line before it.

    Raises:
        NotToml: It is no TOML, or the result would change something else.
    """
    span = _span(text, path)
    if span is None:
        return _checked(text, text, path, None)
    before = text[: span[0]]
    for blank in ("\r\n\r\n", "\n\n"):
        if before.endswith(blank):
            before = before[: -len(blank) // 2]
            break
    return _checked(text, before + text[span[1] :], path, None)


def _span(text: str, path: tuple[str, ...]) -> tuple[int, int] | None:
    """Return where a table with its subtables stands; comments before the next table stay."""
    headers = list(HEADER.finditer(text))
    own = [at for at, header in enumerate(headers) if _key(header[1])[: len(path)] == path]
    if not own:
        return None
    if own != list(range(own[0], own[-1] + 1)):
        raise NotToml("the table stands in several places; edit the file by hand")
    start = headers[own[0]].start()
    start += len(text[start:]) - len(text[start:].lstrip())
    end = headers[own[-1] + 1].start() if own[-1] + 1 < len(headers) else len(text)
    lines = text[start:end].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return start, start + len("".join(lines))


def _key(header: str) -> tuple[str, ...]:
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'|([\w-]+)', header)
    return tuple(quoted or literal or bare for quoted, literal, bare in parts)


def _dotted(path: tuple[str, ...]) -> str:
    bare = re.compile(r"[\w-]+", re.ASCII)
    return ".".join(part if bare.fullmatch(part) else json.dumps(part) for part in path)


def _dump(value: Any) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{_dotted((key,))} = {_dump(part)}" for key, part in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_dump, value))}]"
    # A JSON text is a TOML basic string, but for what JSON escapes as \\u with surrogates.
    return json.dumps(value, ensure_ascii=False)


def _checked(old: str, new: str, path: tuple[str, ...], values: dict[str, Any] | None) -> str:
    """Return the new text if it has the table, and all else as before."""
    before, after = read(old), read(new)
    if _take(after, path) != values:
        raise NotToml("the table is written in a form that is not edited; edit the file by hand")
    _take(before, path)
    if _without_empty(before, path) != _without_empty(after, path):
        raise NotToml("other settings would change; edit the file by hand")
    return new


def _take(value: dict[str, Any], path: tuple[str, ...]) -> Any:
    for key in path[:-1]:
        value = value.get(key, {})
    return value.pop(path[-1], None)


def _without_empty(value: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Drop the parents of the table that hold nothing else."""
    return {key: part for key, part in value.items() if not (key == path[0] and part == {})}
