"""Short schemas: what a model needs to call a tool, and what a program needs to read its report.

A client sends every schema to its model with every conversation, so each word costs. Dropped are:
titles (derived from names), `null` as an alternative (leaving an argument out says the same), empty
defaults, and a request that another tool takes as well. Of a report only the first level is told:
its reader has the report itself.
"""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

EMPTY: tuple[Any, ...] = (None, [], {}, "")


def input_schema(request: type[BaseModel], known: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema of a tool's arguments.

    Args:
        request: The tool's request.
        known: Requests of other tools: class name -> tool name. As an argument, such a request is
            named and not repeated.
    """
    schema = _short(request.model_json_schema())
    definitions = schema.get("$defs", {})
    for name in known.keys() & definitions.keys():
        definitions[name] = {"type": "object", "description": f"Arguments of {known[name]}."}
    return _without_unused(schema)


def output_schema(report: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a tool's report: the names and types of its first level."""
    full = _short(report.model_json_schema(mode="serialization"))
    properties = {key: _outline(value, full) for key, value in full["properties"].items()}
    for name, field in report.model_fields.items():
        if field.is_required() and type(None) in get_args(field.annotation):
            # It is there even where it is null.
            properties[name].pop("type", None)
    return {"type": "object", "properties": properties}


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
        if not (key == "title" and isinstance(value, str))
        and not (key == "default" and value in EMPTY)
        and not (key == "additionalProperties" and value is True)
    }
    return _without_null(kept)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("anyOf", [])
    kept = [choice for choice in choices if choice != {"type": "null"}]
    if len(kept) == len(choices):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**kept[0], **rest} if len(kept) == 1 else {"anyOf": kept, **rest}


def _outline(schema: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    """Return the type of a field, and the values of an enumeration."""
    if "$ref" in schema:
        schema = full["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return {key: schema[key] for key in ("type", "enum", "const") if key in schema}


def _without_unused(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop definitions that nothing refers to any more."""
    definitions = schema.get("$defs", {})
    used: set[str] = set()
    waiting = [{key: value for key, value in schema.items() if key != "$defs"}]
    while waiting:
        for name in _references(waiting.pop()) - used:
            used.add(name)
            waiting.append(definitions[name])
    kept = {name: value for name, value in definitions.items() if name in used}
    rest = {key: value for key, value in schema.items() if key != "$defs"}
    return rest | ({"$defs": kept} if kept else {})


def _references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {name for part in schema for name in _references(part)}
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"].rsplit("/", 1)[1]} if isinstance(schema.get("$ref"), str) else set()
    return own | {name for part in schema.values() for name in _references(part)}
