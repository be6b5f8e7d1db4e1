"""JSON inside rows: the texts of cells and answers."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return what is JSON to Python, which takes NaN and lone surrogates for it; else None.

    >>> parse_json('{"a": 1}'), parse_json("a: 1")
    ({'a': 1}, None)
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def json_collection(text: str) -> Any:
    """Return the JSON object or list of a text; None where it is none."""
    return parse_json(text) if text.lstrip().startswith(("{", "[")) else None
