"""Hold outputs to a JSON Schema; nothing is fetched for it, and no pattern in it hangs.

Source: https://github.com/Stranger6667/jsonschema, whose patterns take linear time
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs

from ft_tools.errors import BadInput
from ft_tools.metrics.text import parse_json


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


def require_schema(schema: Any, name: str) -> None:
    """Refuse what is no JSON Schema (by default of draft 2020-12), with the place."""
    problem = "is no object" if not isinstance(schema, dict | bool) else ""
    try:
        if not problem:
            jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        place = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in error.instance_path)
        problem = f"${place} violates {error.schema_path[-1]!r} of its meta-schema"
    except ValueError:
        problem = "$schema names no draft"
    if problem:
        raise BadInput(f"{name} is not a valid JSON Schema: {problem}")


def conformance(schema: Any, name: str) -> Callable[[str], bool]:
    """Return whether an output is JSON of a schema, as a function of it.

    Raises:
        BadInput: It is no JSON Schema, or refers to what is not in it.
    """
    require_schema(schema, name)
    try:
        checker = jsonschema_rs.validator_for(
            schema, retriever=_not_fetched, validate_formats=False
        )
    except (jsonschema_rs.ValidationError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise BadInput(
            f'{name} refers to what is not in it ({why}); put it under "$defs" of the same file'
        ) from error

    def conforms(output: str) -> bool:
        value = parse_json(output)
        try:
            return value is not None and checker.is_valid(value)
        except ValueError:
            # What the library cannot take: too deep, or half of a character.
            return False

    return conforms


def _not_fetched(address: str) -> Any:
    raise ValueError(f"nothing is fetched: {address}")
