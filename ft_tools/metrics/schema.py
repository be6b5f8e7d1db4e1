"""Hold outputs to a JSON Schema; nothing is fetched for it, and no pattern in it hangs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from ft_tools.errors import BadInput
from ft_tools.metrics.text import matches, parse_json


def load_schema(path: Path) -> dict[str, Any]:
    """Return a checked schema as it stands in the file.

    Raises:
        BadInput: The file is no JSON Schema, or refers to what is not in it.
    """
    try:
        schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is not JSON; pass a file with a JSON Schema") from error
    conformance(schema, str(path))
    return schema


def conformance(schema: Any, name: str) -> Callable[[str], bool]:
    """Return whether an output is JSON of a schema (by default draft 2020-12), as a function of it.

    Raises:
        BadInput: It is no JSON Schema, or refers to what is not in it.
    """
    try:
        kind = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
    except SchemaError as error:
        where = f"{name} is not a valid JSON Schema: {error.json_path}"
        raise BadInput(f"{where} violates {error.validator!r} of its meta-schema") from error
    # An empty registry: a schema at an address is refused below, not looked for.
    resource = specification_with(kind.META_SCHEMA["$schema"]).create_resource(schema)
    resolver = Registry().with_resource("", resource).resolver()
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            problem = f"{name} refers to {reference!r}, which is not in it"
            raise BadInput(f'{problem}; put it under "$defs" of the same file') from error
    bounded: Any = extend(kind, BOUNDED)  # type: ignore[no-untyped-call]
    checker = bounded(schema, registry=Registry())

    def conforms(output: str) -> bool:
        value = parse_json(output)
        try:
            return value is not None and bool(checker.is_valid(value))
        except (RecursionError, ArithmeticError):
            # A value too deep, or an integer that no float holds where the schema has one.
            return False

    return conforms


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not matches(pattern, instance):
        yield ValidationError(f"does not match {pattern!r}")


def _by_pattern(
    validator: Any, patterns: dict[str, Any], instance: Any, _: Any
) -> Iterator[ValidationError]:
    for pattern, schema in patterns.items() if isinstance(instance, dict) else ():
        for key, value in instance.items():
            if matches(pattern, key):
                yield from validator.descend(value, schema, path=key, schema_path=pattern)


def _additional(
    validator: Any, wanted: Any, instance: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in instance.items() if isinstance(instance, dict) else ():
        if key not in known and not any(matches(pattern, key) for pattern in patterns):
            yield from validator.descend(value, wanted, path=key)


def _unique(_: Any, wanted: bool, instance: Any, __: Any) -> Iterator[ValidationError]:
    items = instance if wanted and isinstance(instance, list) else []
    if len({json.dumps(item, sort_keys=True) for item in items}) < len(items):
        yield ValidationError("has an item twice")


BOUNDED = {
    "pattern": _pattern,
    "patternProperties": _by_pattern,
    "additionalProperties": _additional,
    "uniqueItems": _unique,
}
"""What the library does in a time that an output can make as long as it likes."""


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for below in value if isinstance(value, list) else ():
        yield from _references(below)
