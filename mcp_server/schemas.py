"""Short schemas: what a model needs to call a tool.

A client sends every schema to its model with every conversation, so each word costs. Dropped are:
titles (derived from names), `null` as an alternative (leaving an argument out says the same), empty
defaults, bounds that are far away or obvious (what is outside is refused by name), what a class
says of itself beside the tool's own description, and a request that another tool takes as well.
Reports have no schema there: a model reads the report itself, whose names say what they are.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

LIMITS = {"maxLength", "maxItems", "maxProperties", "minItems", "pattern"}
FAR_AWAY = 100
EMPTY: tuple[Any, ...] = (None, [], {}, "")


def input_schema(request: type[BaseModel], known: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema of a tool's arguments.

    Args:
        request: The tool's request.
        known: Requests of other tools: class name -> tool name. As an argument, such a request is
            named and not repeated.
    """
    schema = _short(request.model_json_schema())
    schema.pop("description", None)
    definitions = schema.get("$defs", {})
    for definition in definitions.values():
        definition.pop("description", None)
        definition.pop("additionalProperties", None)
    for name in known.keys() & definitions.keys():
        argument = {"type": "object", "description": f"Arguments of {known[name]}."}
        schema = _with_argument(schema, f"#/$defs/{name}", argument)
    return _with_small_parts_inside(_without_unused(schema))


def _with_small_parts_inside(schema: dict[str, Any]) -> dict[str, Any]:
    """Put a definition that is used once where it is used: naming it twice costs more."""
    for name, count in Counter(_references(schema)).items():
        # As it is now: parts of its own may be inside it already.
        definition = schema["$defs"][name]
        if count == 1 and name not in _references(definition):
            schema = _with_argument(schema, f"#/$defs/{name}", definition)
    return _without_unused(schema)


def _with_argument(schema: Any, reference: str, argument: Mapping[str, Any]) -> Any:
    """Put an argument in place of every reference to what it is; its own description stays."""
    if isinstance(schema, list):
        return [_with_argument(part, reference, argument) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("$ref") == reference:
        return {**argument, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: _with_argument(value, reference, argument) for key, value in schema.items()}


def _short(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_short(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {name: _short(part) for name, part in value.items()}
        if key in ("properties", "$defs")
        else _short(value)
        for key, value in schema.items()
        if not _goes_without_saying(key, value)
    }
    return _without_null(kept)


def _goes_without_saying(key: str, value: Any) -> bool:
    return (
        (key == "title" and isinstance(value, str))
        or (key == "default" and value in EMPTY)
        or (key == "additionalProperties" and value is True)
        or (key in ("minimum", "exclusiveMinimum") and value in (0, 1))
        or (key == "maximum" and isinstance(value, int | float) and value >= FAR_AWAY)
        or key in LIMITS
    )


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("anyOf", [])
    kept = [choice for choice in choices if choice != {"type": "null"}]
    if len(kept) == len(choices):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**kept[0], **rest} if len(kept) == 1 else {"anyOf": kept, **rest}


def _without_unused(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop definitions that nothing refers to any more."""
    definitions = schema.get("$defs", {})
    used: set[str] = set()
    waiting = [{key: value for key, value in schema.items() if key != "$defs"}]
    while waiting:
        for name in set(_references(waiting.pop())) - used:
            used.add(name)
            waiting.append(definitions[name])
    kept = {name: value for name, value in definitions.items() if name in used}
    rest = {key: value for key, value in schema.items() if key != "$defs"}
    return rest | ({"$defs": kept} if kept else {})


def _references(schema: Any) -> list[str]:
    """Return the name of the definition that each reference is to."""
    if isinstance(schema, list):
        return [name for part in schema for name in _references(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].rsplit("/", 1)[1]] if isinstance(schema.get("$ref"), str) else []
    return own + [name for part in schema.values() for name in _references(part)]
