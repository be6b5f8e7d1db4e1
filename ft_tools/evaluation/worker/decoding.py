"""Decode a batch greedily: rows that ended leave it, and a beginning that all share is read once.

`generate` of transformers keeps computing rows that have ended until the last one ends, and reads
the system text of every prompt anew. Both are left out here; what remains is its own arithmetic.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer

from ft_tools.evaluation.worker.constraint import Answers

# Reading less than this once for all is not worth a forward pass of its own.
MIN_SHARED_TOKENS = 12


def decode(
    model: Any,
    rows: Sequence[list[int]],
    max_new_tokens: int,
    ends: Sequence[int],
    constrained: Answers | None = None,
) -> list[list[int]]:
    """Continue each row greedily.

    Args:
        model: A causal language model of transformers, or one with a PEFT adapter.
        rows: Token ids of the prompts, none of them empty.
        max_new_tokens: Longest continuation.
        ends: Tokens that end a continuation; the first one pads.
        constrained: What the continuations may be; None: anything.

    Returns:
        The new tokens of each row; what follows the first end token is padding, or nothing to read.
    """
    pad = ends[0] if ends else 0
    known = shared_tokens(rows) if _may_share(model, rows) else 0
    width = max(map(len, rows))
    device = model.device
    # Padding goes between the shared beginning and the rest; its mask keeps it out of everything.
    tokens = torch.tensor([row[:known] + [pad] * (width - len(row)) + row[known:] for row in rows])
    mask = torch.ones_like(tokens)
    for i, row in enumerate(rows):
        mask[i, known : known + width - len(row)] = 0
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=pad,
    )
    arguments: dict[str, Any] = {}
    if known:
        start = tokens[:1, :known].to(device)
        cache = model(input_ids=start, use_cache=True, logits_to_keep=1).cache
        cache.batch_repeat_interleave(len(rows))
        arguments["cache"] = cache
    made = model.generate(
        input_ids=tokens.to(device),
        attention_mask=mask.to(device),
        generation_config=config,
        custom_generate=partial(_greedy, num_known=known, constrained=constrained),
        **arguments,
    )
    rows_made: list[list[int]] = made.tolist()
    return rows_made


def shared_tokens(rows: Sequence[list[int]]) -> int:
    """Return how many tokens all rows begin with, one of each being left to go on from.

    >>> shared_tokens([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3]])
    2
    """
    # What the first and the last in lexical order share is shared by all between them.
    first, last = min(rows), max(rows)
    most = min(map(len, rows)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def _may_share(model: Any, rows: Sequence[list[int]]) -> bool:
    """Tell whether a gap in the cache is harmless: not in windows, nor in a running state."""
    if len(rows) < 2 or shared_tokens(rows) < MIN_SHARED_TOKENS:
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _greedy(
    model: Any,
    input_ids: torch.Tensor,
    *,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    num_known: int,
    constrained: Answers | None,
    **arguments: Any,
) -> torch.Tensor:
    """Be the decoding loop of `generate`; returns the new tokens `(rows, longest)`, padded."""
    start = input_ids.shape[1]
    made = input_ids.new_full(
        (len(input_ids), generation_config.max_length - start), generation_config.pad_token_id
    )
    alive = torch.arange(len(input_ids), device=input_ids.device)
    ended = torch.zeros_like(alive, dtype=torch.bool)
    fresh = start - num_known
    while not ended.all():
        if ended.any() and _may_drop(arguments.get("cache")):
            kept = (~ended).nonzero()[:, 0]
            input_ids, alive, ended = input_ids[kept], alive[kept], ended[kept]
            _drop(arguments, kept)
        inputs = model.prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=fresh,
            is_first_iteration=input_ids.shape[1] == start,
            **arguments,
        )
        outputs = model(**inputs, return_dict=True)
        arguments = model._update_model_kwargs_for_generation(outputs, arguments)
        scores = logits_processor(input_ids, outputs.logits[:, -1].float())
        if constrained is not None:
            _mask(scores, constrained, alive, input_ids[:, start:])
        chosen = scores.argmax(dim=-1)
        made[alive, input_ids.shape[1] - start] = chosen
        input_ids = torch.cat([input_ids, chosen[:, None]], dim=-1)
        ended |= stopping_criteria(input_ids, None)
        fresh = 1
    return made


def _mask(
    scores: torch.Tensor, constrained: Answers, alive: torch.Tensor, made: torch.Tensor
) -> None:
    """Take the tokens that are not allowed out of the scores `(rows, vocabulary)`."""
    for row, answer in enumerate(alive.tolist()):
        last = int(made[row, -1]) if made.shape[1] else None
        allowed = torch.from_numpy(constrained.allowed(answer, last)).to(scores.device)
        scores[row].masked_fill_(~allowed, -torch.inf)


def _may_drop(cache: Any) -> bool:
    """Tell whether a cache can give up rows; the running state of linear attention cannot."""
    return cache is None or all(hasattr(layer, "batch_select_indices") for layer in cache.layers)


def _drop(arguments: dict[str, Any], kept: torch.Tensor) -> None:
    """Take the rows that ended out of everything that goes on."""
    if arguments.get("cache") is not None:
        arguments["cache"].batch_select_indices(kept)
    for name in ("attention_mask", "position_ids"):
        if arguments.get(name) is not None:
            arguments[name] = arguments[name][..., kept, :]
