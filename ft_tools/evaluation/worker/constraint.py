"""Constrain decoding to a grammar; one engine for transformers and llama.cpp.

No special token gets into a string. Only answers that are cut off at max_new_tokens may be
incomplete.
"""

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

Allowed = NDArray[np.bool_]
"""For each token of the vocabulary whether it may come next."""


class Answers:
    """The answers of a batch that are being written, each with its place in the grammar."""

    def __init__(self, tokenizer: LLTokenizer, grammar: str, count: int) -> None:
        self._matchers = [LLMatcher(tokenizer, grammar) for _ in range(count)]
        self._bits = allocate_token_bitmask(1, tokenizer.vocab_size)
        self._size = tokenizer.vocab_size

    def allowed(self, answer: int, last: int | None) -> Allowed:
        """Return which tokens may come next in an answer.

        Args:
            answer: Its place in the batch.
            last: The token that was chosen for it; None at its beginning.
        """
        matcher = self._matchers[answer]
        if last is not None and not matcher.is_stopped():
            matcher.consume_token(last)
        if matcher.is_error():
            raise RuntimeError(matcher.get_error())
        # A matcher that has stopped allows the end token only.
        fill_next_token_bitmask(matcher, self._bits, 0)
        bits = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        return bits[: self._size].astype(bool)
