"""The grammar of a JSON Schema or a pattern, for constrained decoding.

llguidance refuses what it cannot enforce instead of ignoring it.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from llguidance import LLMatcher

from ft_tools.errors import BadInput
from ft_tools.evaluation.systems.spec import Decoding

# A colon without a space after it, as compact JSON has it.
_COMPACT = re.compile(r'":[^ \s]')


def grammar_of(
    decoding: Decoding, schema: dict[str, Any] | None, references: Sequence[str]
) -> str | None:
    """Return the grammar that answers are constrained to; None without one.

    Raises:
        BadInput: It cannot be enforced.
    """
    if schema is not None:
        return grammar_of_schema(schema, references)
    return grammar_of_pattern(decoding.regex) if decoding.regex is not None else None


def grammar_of_schema(schema: dict[str, Any], references: Sequence[str]) -> str:
    """Return the grammar of a schema, written with the separators of the expected answers.

    Raises:
        BadInput: The schema has a keyword that cannot be enforced.
    """
    compact = sum(bool(_COMPACT.search(text)) for text in references) * 2 > len(references)
    overrides: dict[str, Any] = {
        "whitespace_flexible": False,
        "item_separator": "," if compact else ", ",
        "key_separator": ":" if compact else ": ",
    }
    return _checked(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=overrides))


def grammar_of_pattern(pattern: str) -> str:
    """Return the grammar of a pattern that whole answers match.

    Raises:
        BadInput: The pattern cannot be enforced, such as one that looks ahead.
    """
    return _checked(LLMatcher.grammar_from_regex(pattern))


def _checked(grammar: str) -> str:
    problem = LLMatcher.validate_grammar(grammar)
    if problem:
        first = str(problem).strip().splitlines()[0][:200]
        raise BadInput(f"decoding cannot be constrained to this: {first}; simplify it")
    return grammar
