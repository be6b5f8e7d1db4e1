"""Decode a batch greedily: rows that ended leave it, and a beginning that all share is read once.

`generate` of transformers keeps computing rows that have ended until the last one ends, and reads
the system text of every prompt anew. Neither is done here, with the same texts 1.3 to 3.6 times as
fast (benchmarks/evaluate.json). What a
generation_config.json adds to the scores, such as a repetition penalty, is not applied: the same
model as a GGUF file or behind a server has none.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer

from ft_tools.evaluation.findings import refusal
from ft_tools.evaluation.systems.grammar import Answers

# A shared beginning shorter than this is not worth a forward pass of its own.
MIN_SHARED_TOKENS = 12


class Steps(Protocol):
    """What computes the logits of a batch, token by token."""

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of each row's next token `(rows, vocabulary)`, in float32."""

    def keep(self, kept: torch.Tensor) -> bool:
        """Continue with these rows only, and return True; False where that is not possible."""


Begin = Callable[[Sequence[list[int]], int], Steps]
"""Prompts and the number of tokens that all begin with -> what computes them."""


def decode(
    model: Any,
    rows: Sequence[list[int]],
    max_new_tokens: int,
    ends: Sequence[int],
    constrained: Answers | None = None,
    begin: Begin | None = None,
) -> list[list[int]]:
    """Continue each row greedily; what follows the first end token of a row is to be ignored.

    Args:
        model: A causal language model of transformers, or one with a PEFT adapter.
        rows: Token ids of the prompts, none of them empty.
        max_new_tokens: Longest continuation.
        ends: Tokens that end a continuation; the first one pads.
        constrained: What the continuations may be; None: anything.
        begin: Makes what computes the logits; None: the model itself.
    """
    pad = ends[0] if ends else 0
    known = shared_tokens(rows) if len(rows) > 1 else 0
    layers = DynamicCache(config=model.config).layers
    # A gap in the cache is harmless, but not in windows, nor in a running state.
    if known < MIN_SHARED_TOKENS or {DynamicLayer} != {*map(type, layers)}:
        known = 0
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
    steps = begin(rows, known) if begin is not None else None
    if known and steps is None:
        start = tokens[:1, :known].to(device)
        cache = model(input_ids=start, use_cache=True, logits_to_keep=1).cache
        cache.batch_repeat_interleave(len(rows))
        arguments["cache"] = cache
    made = model.generate(
        input_ids=tokens.to(device),
        attention_mask=mask.to(device),
        generation_config=config,
        custom_generate=partial(_greedy, num_known=known, constrained=constrained, steps=steps),
        **arguments,
    )
    rows_made: list[list[int]] = made.tolist()
    return rows_made


def shared_tokens(rows: Sequence[list[int]]) -> int:
    """Return how many tokens all rows begin with; at least one of each row is left to continue.

    >>> shared_tokens([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3]])
    2
    """
    # What the first and the last in lexical order share is shared by all between them.
    first, last = min(rows), max(rows)
    most = min(map(len, rows)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def _greedy(
    model: Any,
    input_ids: torch.Tensor,
    *,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    num_known: int,
    constrained: Answers | None,
    steps: Steps | None,
    **arguments: Any,
) -> torch.Tensor:
    """Be the decoding loop of `generate`; returns the new tokens `(rows, longest)`, padded."""
    start = input_ids.shape[1]
    made = input_ids.new_full(
        (len(input_ids), generation_config.max_length - start), generation_config.pad_token_id
    )
    alive = torch.arange(len(input_ids), device=input_ids.device)
    ended = torch.zeros_like(alive, dtype=torch.bool)
    if steps is None:
        steps = TorchSteps(model, start, num_known, arguments)
    while not ended.all():
        if ended.any():
            kept = (~ended).nonzero()[:, 0]
            if steps.keep(kept):
                input_ids, alive, ended = input_ids[kept], alive[kept], ended[kept]
        scores = steps.logits(input_ids)
        if constrained is not None:
            for row, answer in enumerate(alive.tolist()):
                last = int(input_ids[row, -1]) if input_ids.shape[1] > start else None
                allowed = torch.from_numpy(constrained.allowed(answer, last)).to(scores.device)
                scores[row].masked_fill_(~allowed, -torch.inf)
        chosen = scores.argmax(dim=-1)
        made[alive, input_ids.shape[1] - start] = chosen
        input_ids = torch.cat([input_ids, chosen[:, None]], dim=-1)
        ended |= stopping_criteria(input_ids, None)
    return made


class TorchSteps:
    """The model's own forward pass, as `generate` of transformers calls it."""

    def __init__(self, model: Any, start: int, num_known: int, arguments: dict[str, Any]) -> None:
        self._model = model
        self._start = start
        self._arguments = arguments
        self._fresh = start - num_known

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Return each row's next logits `(rows, vocabulary)`, in float32; refuse infinite ones."""
        inputs = self._model.prepare_inputs_for_generation(
            ids,
            next_sequence_length=self._fresh,
            is_first_iteration=ids.shape[1] == self._start,
            **self._arguments,
        )
        outputs = self._model(**inputs, return_dict=True)
        # Llama 3.2 Vision has no default for the last one.
        self._arguments = self._model._update_model_kwargs_for_generation(
            outputs, self._arguments, is_encoder_decoder=False
        )
        self._fresh = 1
        logits: torch.Tensor = outputs.logits[:, -1].float()
        if not torch.isfinite(logits.amax(dim=-1)).all():
            raise refusal("not_finite")
        return logits

    def keep(self, kept: torch.Tensor) -> bool:
        """Continue with these rows only; the running state of linear attention cannot."""
        arguments = self._arguments
        cache = arguments.get("cache")
        if cache is not None:
            if not all(hasattr(layer, "batch_select_indices") for layer in cache.layers):
                return False
            # Of a model over several cards each layer's cache is on its own; the CPU indexes all.
            cache.batch_select_indices(kept.cpu())
        for name in ("attention_mask", "position_ids"):
            if arguments.get(name) is not None:
                arguments[name] = arguments[name][..., kept, :]
        return True
