"""The loss of each token without the logits of all: the output layer is applied in chunks.

Logits of 8 texts of 2,048 tokens over 128,256 words take 8.4 GB in float32, and cross-entropy twice
that again. The hidden states before the output layer take a hundredth of it.
"""

from typing import Any

import torch

# Logits of one chunk, in float32.
CHUNK_BYTES = 2**27


@torch.inference_mode()
def token_losses(model: Any, tokens: torch.Tensor, mask: torch.Tensor, first: int) -> torch.Tensor:
    """Return the negative log-likelihoods of tokens[:, first:], in float64 on the CPU.

    Args:
        model: A causal language model of transformers, or one with a PEFT adapter.
        tokens: Ids, (rows, width), padded on the right.
        mask: 1 where there is a token.
        first: Place of the first token that is predicted, at least 1.
    """
    device = model.device
    tokens, mask = tokens.to(device), mask.to(device)
    head = model.get_output_embeddings()
    hidden, logits = _states_before(head, model, tokens, mask)
    if hidden is None or not torch.equal(head(hidden[:, :1]), logits):
        # What follows the output layer, a soft cap or a scale, is the model's own business.
        return _losses_of_logits(model, tokens, mask, first)
    targets = tokens[:, first:]
    hidden = hidden[:, first - 1 : -1]
    per_chunk = max(1, CHUNK_BYTES // (4 * logits.shape[-1] * len(tokens)))
    found = [
        _losses(head(hidden[:, at : at + per_chunk]), targets[:, at : at + per_chunk])
        for at in range(0, targets.shape[1], per_chunk)
    ]
    return torch.cat(found, dim=1)


def _states_before(
    head: Any, model: Any, tokens: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Run a model whose output layer sees the first place only.

    Returns:
        What the output layer would have got for all places, (rows, width, d), None where it is not
        called once; and the model's logits of the first place, (rows, 1, vocabulary).
    """
    seen: list[torch.Tensor] = []

    def keep(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        seen.append(inputs[0])
        return (inputs[0][:, :1], *inputs[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        logits = model(input_ids=tokens, attention_mask=mask).logits
    finally:
        handle.remove()
    is_whole = len(seen) == 1 and seen[0].shape[:2] == tokens.shape
    return (seen[0] if is_whole else None), logits


def _losses_of_logits(
    model: Any, tokens: torch.Tensor, mask: torch.Tensor, first: int
) -> torch.Tensor:
    """Return the losses by the model's own logits, a row at a time."""
    width = tokens.shape[1]
    found = []
    for row in range(len(tokens)):
        one = slice(row, row + 1)
        logits = model(
            input_ids=tokens[one], attention_mask=mask[one], logits_to_keep=width - first + 1
        ).logits
        # Position i of what is kept predicts token first + i; not every model heeds it.
        kept = logits[:, :-1] if logits.shape[1] == width - first + 1 else logits[:, first - 1 : -1]
        found.append(_losses(kept, tokens[one, first:]))
    return torch.cat(found)


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    flat = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), reduction="none"
    )
    return flat.view(targets.shape).double().cpu()
