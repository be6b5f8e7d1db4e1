"""The options of the tools as passages, from their request models."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ft_tools.explain.report import Passage
from ft_tools.tools import TOOLS

_REFERENCE = re.compile(r"#/\$defs/(\w+)")
BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
}


def tool_passages(tool: str) -> list[Passage]:
    """Return the passages of a tool: what it does, then each option, main arguments first."""
    spec = TOOLS[tool]
    names = [*(spec.main or spec.request.model_fields), *spec.options]
    main = ", ".join(spec.main or spec.request.model_fields)
    about = f"{spec.description}\nArguments: {main}. The others are keys of `options`."
    return [Passage(id=tool, text=about), *(argument_passage(tool, name) for name in names)]


def option_passages(tool: str) -> list[Passage]:
    """Return one passage for each key of a tool's `options`, and a line for what has keys."""
    spec = TOOLS[tool]
    whole = spec.request.model_json_schema()
    main = {name: whole["properties"][name] for name in spec.main if spec.options}
    nested = [
        Passage(id=f"{tool}.{name}", text=_line(name, schema, whole["$defs"]))
        for name, schema in main.items()
        if _REFERENCE.search(json.dumps(schema))
    ]
    options = spec.options or spec.request.model_fields
    return [*nested, *(argument_passage(tool, name) for name in options)]


def argument_passage(tool: str, name: str) -> Passage:
    """Return the passage of an argument: its type, default, description and keys."""
    whole = TOOLS[tool].request.model_json_schema()
    schema, definitions = whole["properties"][name], whole.get("$defs", {})
    lines = [_line(name, schema, definitions), *_keys(schema, definitions, set())]
    return Passage(id=f"{tool}.{name}", text="\n".join(lines))


def arguments_with(tool: str, key: str) -> list[Passage]:
    """Return the passage of an argument, or those of the arguments whose objects have that key."""
    fields = TOOLS[tool].request.model_fields
    if key in fields:
        return [argument_passage(tool, key)]
    found = (argument_passage(tool, name) for name in fields)
    return [each for each in found if f"- {key} (" in each.text]


def _line(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    default = schema.get("default")
    text = f"{name} ({_type(schema, definitions)}"
    text += f", default {default!r})" if default not in (None, [], {}, "") else ")"
    about = schema.get("description")
    return f"{text}: {about}" if about else text


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return _type(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    if "const" in schema:
        return repr(schema["const"])
    if choices := [each for each in schema.get("anyOf", []) if each != {"type": "null"}]:
        return " or ".join(dict.fromkeys(_type(each, definitions) for each in choices))
    if schema.get("type") == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_type(items, definitions)}"
    bounds = "".join(f" {sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema)
    return f"{schema.get('type', 'value')}{bounds}"


def _keys(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], seen: set[str], indent: str = ""
) -> Iterator[str]:
    """Yield a line for each key of the objects that an argument holds, below its own object."""
    names = [
        one for one in dict.fromkeys(_REFERENCE.findall(json.dumps(schema))) if one not in seen
    ]
    seen.update(names)
    keys = [definitions[name].get("properties", {}) for name in names]
    shared = (
        {k: v for k, v in keys[0].items() if all(one.get(k) == v for one in keys)} if keys else {}
    )
    yield from _listed(shared, definitions, seen, indent)
    for name, own in zip(names, keys, strict=True):
        if len(names) > 1:
            # One of several kinds of object: what it is, then what it has beside the others.
            yield f"{indent}- {definitions[name].get('description', name)}"
        more = {key: part for key, part in own.items() if key not in shared}
        yield from _listed(more, definitions, seen, indent + "  " * (len(names) > 1))


def _listed(
    keys: Mapping[str, Any], definitions: Mapping[str, Any], seen: set[str], indent: str
) -> Iterator[str]:
    for key, part in keys.items():
        yield f"{indent}- {_line(key, part, definitions)}"
        yield from _keys(part, definitions, seen, f"{indent}  ")
