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

    JSON is written with the separators of the expected answers; a pattern is of whole answers.

    Raises:
        BadInput: It cannot be enforced, such as a pattern that looks ahead.
    """
    if schema is not None:
        compact = sum(bool(_COMPACT.search(text)) for text in references) * 2 > len(references)
        overrides: dict[str, Any] = {
            "whitespace_flexible": False,
            "item_separator": "," if compact else ", ",
            "key_separator": ":" if compact else ": ",
        }
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=overrides)
    elif decoding.regex is not None:
        grammar = LLMatcher.grammar_from_regex(decoding.regex)
    else:
        return None
    if problem := LLMatcher.validate_grammar(grammar):
        first = str(problem).strip().splitlines()[0][:200]
        raise BadInput(f"decoding cannot be constrained to this: {first}; simplify it")
    return str(grammar)
