"""The grammar of a JSON Schema or a pattern, for constrained decoding.

llguidance refuses what it cannot enforce instead of ignoring it.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from ft_tools.evaluation.findings import refusal
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
        raise refusal("grammar_not_enforced", problem=first)
    return str(grammar)


class Answers:
    """The answers of a batch that are being written, each with its place in the grammar."""

    def __init__(self, tokenizer: LLTokenizer, grammar: str, count: int) -> None:
        self._matchers = [LLMatcher(tokenizer, grammar) for _ in range(count)]
        self._bits = allocate_token_bitmask(1, tokenizer.vocab_size)
        self._size = tokenizer.vocab_size

    def allowed(self, answer: int, last: int | None) -> NDArray[np.bool_]:
        """Return which tokens may come next in an answer; `last` was chosen for it, None: none."""
        matcher = self._matchers[answer]
        if last is not None and not matcher.is_stopped():
            matcher.consume_token(last)
        if matcher.is_error():
            raise RuntimeError(matcher.get_error())
        # A matcher that has stopped allows the end token only.
        fill_next_token_bitmask(matcher, self._bits, 0)
        bits = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        return bits[: self._size].astype(bool)
