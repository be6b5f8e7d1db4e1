"""Reading quantities out of an answer."""

from typing import Any

EMPTY: tuple[Any, ...] = ([], {}, "", None)


def value_at(answer: Any, paths: str) -> Any:
    """Return the value at the first path that leads to one; None where none does.

    A path is a row of steps with spaces between: a key or an index; `*` takes the rest of the path
    for each part; `key=value` takes the item of a list with that value; `key:other` makes a mapping
    of a list; `~text` returns whether a text contains it; `len` counts, `keys` lists the keys.
    ` | ` separates paths.

    >>> answer = {"report": {"findings": [{"id": "empty", "count": 2}]}}
    >>> value_at(answer, "report findings id:count"), value_at(answer, "here | report findings len")
    ({'empty': 2}, 1)
    """
    for path in paths.split(" | "):
        value = _walk(answer, path.split())
        if value not in EMPTY:
            return value
    return None


def _walk(value: Any, steps: list[str]) -> Any:
    for at, step in enumerate(steps):
        if value is None:
            return None
        if step == "*":
            parts = value.values() if isinstance(value, dict) else value
            return [_walk(part, steps[at + 1 :]) for part in parts]
        value = _step(value, step)
    return value


def _step(value: Any, step: str) -> Any:
    if isinstance(value, str):
        return step[1:] in value if step.startswith("~") else None
    if step == "len":
        return len(value)
    if isinstance(value, dict):
        return sorted(value) if step == "keys" else value.get(step)
    if not isinstance(value, list):
        return None
    if step.lstrip("-").isdigit():
        return value[int(step)] if -len(value) <= int(step) < len(value) else None
    if "=" in step:
        key, wanted = step.split("=", 1)
        return next((item for item in value if str(item.get(key)) == wanted), None)
    key, _, other = step.partition(":")
    return {str(item[key]): item.get(other) for item in value}
