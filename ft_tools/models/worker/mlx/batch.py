"""Prompts that MLX continues together, and a beginning that all share is read once."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import KVCache, make_prompt_cache

READ_TOKENS = 2048
"""Tokens of a prompt that are read at a time: what is kept of them is all that is computed."""

Rows = Sequence[Sequence[int]]


class Batch:
    """What the model remembers of each row, up to its last token.

    Args:
        model: Of mlx-lm.
        rows: Token ids, none of them empty; several only if `takes_several`.
        num_shared: Tokens that all rows begin with.
    """

    def __init__(self, model: nn.Module, rows: Rows, num_shared: int = 0) -> None:
        self._model = model
        self._caches: list[Any] = make_prompt_cache(model)
        if not all(type(cache) is KVCache for cache in self._caches):
            # In a window, what is shared would not stay where the others' places are.
            num_shared = 0
        if num_shared:
            self._read([rows[0][:num_shared]])
        if len(rows) > 1:
            self._caches = [cache.merge([cache] * len(rows)) for cache in self._caches]
        rest = [row[num_shared:-1] for row in rows]
        if any(rest):
            self._read(rest)
        self._last = [row[-1] for row in rows]

    def logits(self, last: Sequence[int] | None = None) -> mx.array:
        """Return the logits of each row's next token, (rows, vocabulary), in float32."""
        tokens = mx.array([[token] for token in (self._last if last is None else last)])
        logits: mx.array = self._model(tokens, cache=self._caches)[:, -1].astype(mx.float32)
        return logits

    def keep(self, kept: Sequence[int]) -> None:
        """Continue with these rows only."""
        for cache in self._caches:
            cache.filter(mx.array(list(kept)))

    def _read(self, rows: Rows) -> None:
        lengths = [len(row) for row in rows]
        missing = [max(lengths) - length for length in lengths]
        if any(missing):
            for cache in self._caches:
                cache.prepare(lengths=lengths, right_padding=missing)
        padded = [[*row, *[0] * more] for row, more in zip(rows, missing, strict=True)]
        tokens = mx.array(padded)
        for at in range(0, tokens.shape[1], READ_TOKENS):
            self._model(tokens[:, at : at + READ_TOKENS], cache=self._caches)
            # The logits are never asked for, so they are not computed.
            mx.eval([cache.state for cache in self._caches])
        if any(missing):
            for cache in self._caches:
                cache.finalize()


def takes_several(model: nn.Module) -> bool:
    """Return whether what the model remembers can be of several rows."""
    return all(hasattr(cache, "merge") for cache in make_prompt_cache(model))
