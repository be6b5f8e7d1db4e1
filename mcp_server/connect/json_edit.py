"""Change one member of a JSON file that a person wrote: comments, order and layout stay.

Reads JSON with `//` and `/* */` comments and trailing commas, as VS Code, Gemini CLI and Zed allow
it, and of JSON5 the names without quotes and the single quotes of OpenClaw's own examples.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

BLANK = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
REST_OF_LINE = re.compile(r"[ \t]*(?://[^\n\r]*|/\*[^\n\r]*?\*/)?[ \t]*(?=\r?\n)")
SCALAR = re.compile(r"true|false|null|-?\d[\d.eE+-]*")
STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
SINGLE_QUOTED = re.compile(r"'((?:[^'\\\x00-\x1f]|\\.)*)'")
BARE_NAME = re.compile(r"[^\W\d][\w$]*|[$][\w$]*")
BOM = "\ufeff"


class NotJson(ValueError):
    """The text is no JSON, nor JSON with comments; nothing is changed in such a file."""


@dataclass
class Node:
    """A value and where it stands; of an object, its members."""

    value: Any
    start: int
    end: int
    members: "dict[str, Member]" = field(default_factory=dict)


@dataclass
class Member:
    """A member of an object."""

    key_start: int
    node: Node
    comma: int | None
    """Where the comma after it stands."""


def read(text: str) -> Any:
    """Return the value of a text.

    Raises:
        NotJson: It is no JSON.

    >>> read('{"a": [1, 2,], // one' + chr(10) + '}')
    {'a': [1, 2]}
    """
    return _parse(text).value


def get(value: Any, path: tuple[str, ...]) -> Any:
    """Return what is at a path in a value; None if nothing is."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def put(text: str, path: tuple[str, ...], value: Any) -> str:
    """Return the text with a value at a path; objects on the way are made where they are missing.

    Raises:
        NotJson: It is no JSON, or something on the way is no object.

    >>> put('{"a": 1}', ("b", "c"), 2)
    '{"a": 1, "b": {"c": 2}}'
    """
    node = _parse(text)
    if not isinstance(node.value, dict):
        raise NotJson("the file does not hold an object")
    for depth, key in enumerate(path):
        if key not in node.members:
            rest = value
            for missing in reversed(path[depth + 1 :]):
                rest = {missing: rest}
            return _insert(text, node, key, rest)
        member = node.members[key]
        if depth == len(path) - 1:
            new = _dump(value, *_layout(text, member.key_start))
            return text[: member.node.start] + new + text[member.node.end :]
        node = member.node
        if not isinstance(node.value, dict):
            raise NotJson(f"{'.'.join(path[: depth + 1])} is not an object")
    return text


def remove(text: str, path: tuple[str, ...]) -> str:
    """Return the text without the member at a path; as it was where `put` had just added it.

    Raises:
        NotJson: It is no JSON.

    >>> remove('{"a": 1, "b": {"c": 2, "d": 3}}', ("b", "c"))
    '{"a": 1, "b": {"d": 3}}'
    """
    node = _parse(text)
    for key in path[:-1]:
        if key not in node.members:
            return text
        node = node.members[key].node
    if path[-1] not in node.members:
        return text
    keys = list(node.members)
    at = keys.index(path[-1])
    member = node.members[path[-1]]
    before = node.members[keys[at - 1]] if at else None
    end = member.node.end if member.comma is None else member.comma + 1
    if before is None and member.comma is None:
        return text[: node.start] + "{}" + text[node.end :]
    start = len(text[: member.key_start].rstrip())
    if before is None and "\n" not in text[start : member.key_start]:
        # The first of a line: the blank that separated it from the next goes.
        return text[: member.key_start] + text[end:].lstrip(" \t")
    text = text[:start] + text[end:]
    if before is not None and before.comma is not None and member.comma is None:
        text = text[: before.comma] + text[before.comma + 1 :]
    return text


def _insert(text: str, parent: Node, key: str, value: Any) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    if not parent.members:
        kept = text[parent.start + 1 : parent.end - 1].rstrip()
        _, outer, step = _layout(text, parent.start)
        whole = text.removeprefix(BOM).strip()
        line = newline if "\n" in whole or whole == "{}" else ""
        pad = outer + step if line else ""
        member = f"{line}{pad}{json.dumps(key)}: {_dump(value, line, pad, step)}{line}"
        end = (outer if line else "") + text[parent.end - 1 :]
        return text[: parent.start + 1] + kept + member + end
    last = list(parent.members.values())[-1]
    line, pad, step = _layout(text, last.key_start)
    member = f"{json.dumps(key)}: {_dump(value, line, pad, step)}"
    after = last.node.end if last.comma is None else last.comma + 1
    if not line:
        comma = "," if last.comma is None else ""
        trailing = "," if last.comma is not None else ""
        return f"{text[:after]}{comma} {member}{trailing}{text[after:]}"
    comment = REST_OF_LINE.match(text, after)
    place = comment.end() if comment else after
    comma = "," if last.comma is None else ""
    trailing = "," if last.comma is not None else ""
    kept = text[after:place]
    return f"{text[:after]}{comma}{kept}{newline}{pad}{member}{trailing}{text[place:]}"


def _layout(text: str, at: int) -> tuple[str, str, str]:
    """Return newline (empty if on one line), indent of the line at a place, and of one level."""
    start = text.rfind("\n", 0, at) + 1
    lead = re.match(r"[ \t]*", text[start:])
    indent = lead[0] if lead else ""
    step = re.search(r"\n([ \t]+)\S", text)
    one = step[1] if step else "  "
    newline = "\r\n" if "\r\n" in text else "\n"
    own_line = start > 0 and not text[start:at].strip()
    return (newline if own_line else "", indent, one)


def _dump(value: Any, newline: str, indent: str, step: str) -> str:
    if not newline:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=step).split("\n")
    return f"{newline}{indent}".join(lines)


def _parse(text: str) -> Node:
    at = BLANK.match(text, 1 if text.startswith(BOM) else 0)
    node = _value(text, at.end() if at else 0)
    rest = BLANK.match(text, node.end)
    if rest is None or rest.end() != len(text):
        raise NotJson(f"line {text.count(chr(10), 0, node.end) + 1}: text after the end")
    return node


def _value(text: str, at: int) -> Node:
    if text.startswith("{", at):
        return _object(text, at)
    if text.startswith("[", at):
        return _array(text, at)
    if scalar := SCALAR.match(text, at):
        return Node(_loaded(text, at, scalar[0]), at, scalar.end())
    string = _string(text, at)
    if string is None:
        raise NotJson(f"line {text.count(chr(10), 0, at) + 1}: a value was expected")
    return string


def _string(text: str, at: int) -> Node | None:
    if double := STRING.match(text, at):
        return Node(_loaded(text, at, double[0]), at, double.end())
    if single := SINGLE_QUOTED.match(text, at):
        other = {"\\'": "'", '"': '\\"'}
        inner = re.sub(r'\\.|"', lambda part: other.get(part[0], part[0]), single[1])
        return Node(_loaded(text, at, f'"{inner}"'), at, single.end())
    return None


def _loaded(text: str, at: int, part: str) -> Any:
    try:
        return json.loads(part)
    except ValueError as error:
        raise NotJson(f"line {text.count(chr(10), 0, at) + 1}: {error}") from error


def _skip(text: str, at: int) -> int:
    found = BLANK.match(text, at)
    return found.end() if found else at


def _object(text: str, start: int) -> Node:
    node = Node({}, start, start)
    at = _skip(text, start + 1)
    while not text.startswith("}", at):
        bare = BARE_NAME.match(text, at)
        key = Node(bare[0], at, bare.end()) if bare else _string(text, at)
        colon = _skip(text, key.end) if key else at
        if key is None or not text.startswith(":", colon):
            raise NotJson(f"line {text.count(chr(10), 0, at) + 1}: a name and a colon was expected")
        value = _value(text, _skip(text, colon + 1))
        after = _skip(text, value.end)
        comma = after if text.startswith(",", after) else None
        node.value[key.value] = value.value
        node.members[key.value] = Member(at, value, comma)
        at = after if comma is None else _skip(text, comma + 1)
        if comma is None and not text.startswith("}", at):
            raise NotJson(f"line {text.count(chr(10), 0, at) + 1}: a comma was expected")
    node.end = at + 1
    return node


def _array(text: str, start: int) -> Node:
    node = Node([], start, start)
    at = _skip(text, start + 1)
    while not text.startswith("]", at):
        value = _value(text, at)
        node.value.append(value.value)
        at = _skip(text, value.end)
        if text.startswith(",", at):
            at = _skip(text, at + 1)
        elif not text.startswith("]", at):
            raise NotJson(f"line {text.count(chr(10), 0, at) + 1}: a comma was expected")
    node.end = at + 1
    return node
