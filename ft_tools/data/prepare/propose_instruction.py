"""Propose the system text that asks for an answer of labels or keys."""

from collections.abc import Mapping
from typing import Any

from ft_tools.data.prepare.column_mapping import PLACEHOLDER, ColumnMapping, schema_of
from ft_tools.data.prepare.propose_mapping import Seen
from ft_tools.formats.columns import PLAIN_NAME

MAX_CHARS = 2000
"""Of an instruction that lists the classes; a longer one names the keys alone. Ours."""
KINDS = {"boolean": "true or false", "integer": "a whole number", "number": "a number"}


def instruction_for(mapping: ColumnMapping, seen: Seen) -> str:
    """Return what tells a model how to answer; empty where answers are free text."""
    names = mapping.answer_columns
    if not names or not all(PLAIN_NAME.fullmatch(name) for name in names):
        return ""
    # Of the values, not mapping.answer_schema: what a user gives may have any form.
    kinds = schema_of(names, seen.values, mapping.nullable)["properties"]
    if mapping.answer_format == "text":
        classes = kinds[names[0]].get("enum", [])
        listed = ", ".join(map(str, classes))
        return f"Answer with the {names[0]} only, one of: {listed}." if classes else ""
    begin = "Answer with a JSON object only, no other text. Its keys: "
    full = begin + "; ".join(f'"{name}": {_said(kinds[name])}' for name in names) + "."
    return full if len(full) <= MAX_CHARS else begin + ", ".join(f'"{n}"' for n in names) + "."


def gives_no_instruction(mapping: ColumnMapping) -> bool:
    """Tell whether a model is asked with nothing but the columns."""
    return not mapping.system and not PLACEHOLDER.sub("", mapping.prompt).strip()


def _said(about: Mapping[str, Any]) -> str:
    if choices := about.get("anyOf"):
        return f"{_said(choices[0])} or null"
    if classes := about.get("enum"):
        return "one of " + ", ".join(f'"{each}"' for each in classes)
    return KINDS.get(about.get("type", ""), "a text")
