"""Hold outputs to a JSON Schema; nothing is fetched for it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from ft_tools.errors import BadInput
from ft_tools.metrics.text import parse_json


def load_schema(path: Path) -> dict[str, Any]:
    """Return a checked schema as it stands in the file.

    Raises:
        BadInput: The file is no JSON Schema, or refers to what is not in it.
    """
    read_schema(path)
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def read_schema(path: Path) -> Callable[[str], bool]:
    """Read a schema; without `$schema` it is one of draft 2020-12.

    Returns:
        Output -> whether all of it is JSON that the schema allows.

    Raises:
        BadInput: The file is no JSON Schema, or refers to what is not in it.
    """
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        kind = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
    except ValueError as error:
        raise BadInput(f"{path} is not JSON; pass a file with a JSON Schema") from error
    except SchemaError as error:
        where = f"{path} is not a valid JSON Schema: {error.json_path}"
        raise BadInput(f"{where} violates {error.validator!r} of its meta-schema") from error
    # An empty registry: a schema at an address is refused below, not looked for.
    resource = specification_with(kind.META_SCHEMA["$schema"]).create_resource(schema)
    resolver = Registry().with_resource("", resource).resolver()
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            problem = f"{path} refers to {reference!r}, which is not in it"
            raise BadInput(f'{problem}; put it under "$defs" of the same file') from error
    checker = kind(schema, registry=Registry())

    def conforms(output: str) -> bool:
        value = parse_json(output)
        try:
            return value is not None and bool(checker.is_valid(value))
        except RecursionError:
            return False

    return conforms


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for below in value if isinstance(value, list) else ():
        yield from _references(below)
