"""Short schemas: what a model needs to call a tool.

A client sends every schema to its model with every conversation, so each word costs. A tool shows
its main arguments; all others are keys of `options`, which `explain` describes. Dropped are titles
(derived from names), `null` as an alternative (an argument may be left out), empty defaults, bounds
(what is outside is refused with what is allowed), the fields of nested objects, and long lists of
allowed words.
Reports have no schema there: a model reads the report itself, whose names say what they are.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from ft_tools.contract import OPTIONS

DROPPED = {
    "title",
    "additionalProperties",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
}
MANY_VALUES = 8
"""Of an argument whose description names examples; all of them are named where one is refused."""
EMPTY: tuple[Any, ...] = (None, [], {}, "")


def input_schema(request: type[BaseModel], main: Sequence[str]) -> dict[str, Any]:
    """Return the schema of a tool's arguments.

    Args:
        request: The tool's request.
        main: The arguments that are listed; an empty list stands for all of them.

    Returns:
        A JSON Schema of type object, without references.
    """
    whole = request.model_json_schema()
    listed = list(main or whole.get("properties", {}))
    properties = {name: _short(whole["properties"][name]) for name in listed}
    if len(listed) < len(whole["properties"]):
        properties[OPTIONS] = {"type": "object"}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    required = [name for name in whole.get("required", []) if name in listed]
    return schema | ({"required": required} if required else {})


def _short(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_short(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema or "oneOf" in schema:
        about = {key: value for key, value in schema.items() if key == "description"}
        return {"type": "object", **about}
    kept = {
        key: _short(value)
        for key, value in schema.items()
        if key not in DROPPED and not (key == "default" and value in EMPTY)
    }
    if len(kept.get("enum", ())) > MANY_VALUES:
        kept.pop("enum")
    elif "enum" in kept:
        kept.pop("type", None)
    return _without_null(kept)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("anyOf", [])
    kept = [choice for choice in choices if choice != {"type": "null"}]
    if len(kept) == len(choices):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**kept[0], **rest} if len(kept) == 1 else {"anyOf": kept, **rest}
