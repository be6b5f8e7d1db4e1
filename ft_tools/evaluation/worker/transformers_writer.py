"""A model that transformers and torch run."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel

from ft_tools.evaluation.worker.constraint import Answers
from ft_tools.evaluation.worker.decoding import decode, require_finite
from ft_tools.evaluation.worker.tokenizer_writer import TokenizerWriter
from ft_tools.evaluation.worker.writer import Likelihood, added_bytes, first_counted

LOGIT_BYTES = 2**28
"""Of the logits of rows that are read together, in float32."""


class TransformersWriter(TokenizerWriter):
    """A model that torch computes."""

    @property
    def described(self) -> Any:
        """Return the model."""
        return self.model

    def decode(
        self, rows: Sequence[list[int]], max_new_tokens: int, constrained: Answers | None
    ) -> list[list[int]]:
        """Continue each row greedily."""
        return decode(self.model, rows, max_new_tokens, self.ends, constrained)

    @torch.inference_mode()
    def likelihoods(self, texts: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Measure how well each continuation is predicted after its prompt, as one batch.

        Padding is on the right and its labels are masked by position, never by token: the padding
        token may be the end token.
        """
        rows = [self.encode(whole) for _, whole in texts]
        starts = [
            first_counted(self.encode(prompt) if prompt else [], row)
            for (prompt, _), row in zip(texts, rows, strict=True)
        ]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        first = min(starts)
        with self.side():
            nats = token_losses(self.model, tokens, mask, first)
        found = []
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            counted = nats[i, start - first : len(row) - first]
            found.append(Likelihood(float(counted.sum()), len(row) - start, added_bytes(*texts[i])))
        return found

    @contextlib.contextmanager
    def side(self) -> Iterator[None]:
        """Switch the adapter off for a while, if this is the side without it."""
        if self.adapter_on or not isinstance(self.model, PeftModel):
            yield
        else:
            with self.model.disable_adapter():
                yield


@torch.inference_mode()
def token_losses(model: Any, tokens: torch.Tensor, mask: torch.Tensor, first: int) -> torch.Tensor:
    """Return the negative log-likelihoods of tokens[:, first:], in float64 on the CPU.

    As many rows are read together as their logits have room for.

    Args:
        model: A causal language model of transformers, or one with a PEFT adapter.
        tokens: Ids, (rows, width), padded on the right.
        mask: 1 where there is a token.
        first: Place of the first token that is predicted, at least 1.
    """
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    kept = tokens.shape[1] - first + 1
    step = max(1, LOGIT_BYTES // (4 * model.get_output_embeddings().weight.shape[0] * kept))
    found = []
    for start in range(0, len(tokens), step):
        ids = tokens[start : start + step]
        logits = model(
            input_ids=ids, attention_mask=mask[start : start + step], logits_to_keep=kept
        ).logits
        # Place i of what is kept predicts token first + i; not every model heeds the argument.
        logits = logits[:, :-1] if logits.shape[1] == kept else logits[:, first - 1 : -1]
        found += [
            torch.nn.functional.cross_entropy(row.float(), targets, reduction="none")
            for row, targets in zip(logits, ids[:, first:], strict=True)
        ]
    losses = torch.stack(found)
    require_finite(losses[mask[:, first:].bool()])
    return losses.double().cpu()
