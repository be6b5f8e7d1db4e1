"""Load models, write prompts for them, generate in batches, and measure references.

One interface for transformers models (with or without an adapter, by torch or MLX) and GGUF files,
so that both sides of a comparison get the very same text.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.compared_models import LoadPlan, ModelFiles
from ft_tools.evaluation.worker.chunked_loss import token_losses
from ft_tools.evaluation.worker.constraint import Answers
from ft_tools.evaluation.worker.decoding import decode
from ft_tools.evaluation.worker.gguf_process import GgufProcess
from ft_tools.evaluation.worker.loaded_models import Shelf, Weights
from ft_tools.evaluation.worker.tokenizer_writer import TokenizerWriter
from ft_tools.evaluation.worker.writer import (
    Likelihood,
    Writer,
    added_bytes,
    first_counted,
    has_template,
)
from ft_tools.formats.worker import today
from ft_tools.models.model_folder import tokenizer_folder


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


@dataclass(frozen=True)
class Pair:
    """Both models, ready."""

    baseline: Writer
    tuned: Writer
    shares_weights: bool

    def render(self, example: HeldOut, rendering: str) -> str:
        """Write a prompt once, for both: with the tuned model's template where it has one."""
        for writer in (self.tuned, self.baseline):
            if rendering == "plain" or has_template(writer):
                return writer.render(example, rendering)
        return self.tuned.render(example, "plain")

    def same_tokens(self) -> bool:
        """Tell whether both count the same tokens, so that perplexities can be compared."""
        if not isinstance(self.tuned, TokenizerWriter):
            return False
        if not isinstance(self.baseline, TokenizerWriter):
            return False
        ours, theirs = self.tuned.tokenizer, self.baseline.tokenizer
        return bool(ours.get_vocab() == theirs.get_vocab())


def prepare(seed: int, today_is: float) -> None:
    """Set what every model of a run shares: its seed, and the date that templates are told."""
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    today.hold(today_is)


def load_pair(tuned: ModelFiles, baseline: ModelFiles, plan: LoadPlan | None) -> Pair:
    """Return both models; they are loaded when first asked, shared weights once."""
    shelf = Shelf(plan)
    shared = (
        tuned.adapter is not None
        and baseline.adapter is None
        and tuned.load_from == baseline.load_from
        and tuned.kind != "gguf"
    )
    after = load(tuned, shelf)
    if shared and isinstance(after, TokenizerWriter):
        before: Writer = after.below(load_tokenizer(baseline))
    elif tuned.load_from == baseline.load_from and tuned.adapter == baseline.adapter:
        before = after
    else:
        before = load(baseline, shelf)
    return Pair(before, after, shared)


def load(plan: ModelFiles, shelf: Shelf) -> Writer:
    """Return a model, which is loaded when it is first asked."""
    if plan.kind == "gguf":
        return GgufProcess(plan.load_from)
    if shelf.is_on_mlx:
        from ft_tools.evaluation.worker.mlx_generation import MlxWeights, MlxWriter

        return MlxWriter(MlxWeights(plan, shelf), load_tokenizer(plan))
    return TransformersWriter(Weights(plan, shelf), load_tokenizer(plan))


def load_tokenizer(plan: ModelFiles) -> Any:
    """Load a model's tokenizer; an adapter that brings one was trained with it."""
    folder = tokenizer_folder(plan.adapter, plan.load_from)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
