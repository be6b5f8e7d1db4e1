"""Load models, write prompts for them, generate in batches, and measure references.

One interface for transformers models (with or without an adapter) and GGUF files, so that both
sides of a comparison get the very same text.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import llguidance.hf
import torch
from llguidance import LLTokenizer
from peft import PeftModel
from transformers import AutoTokenizer

from ft_tools.evaluation.held_out import HeldOut, Message, messages_of
from ft_tools.evaluation.systems.models import LoadPlan, ModelFiles
from ft_tools.evaluation.worker.constraint import Answers
from ft_tools.evaluation.worker.decoding import decode
from ft_tools.evaluation.worker.token_losses import token_losses
from ft_tools.evaluation.worker.weights import Shelf, Weights
from ft_tools.evaluation.worker.writer import (
    Likelihood,
    Output,
    Writer,
    added_bytes,
    first_counted,
    has_template,
    plain_prompt,
)
from ft_tools.models.weights import tokenizer_folder
from ft_tools.models.worker.end_tokens import end_tokens


class TransformersWriter:
    """A transformers model; `adapter_on=False` is the base model below its adapter."""

    def __init__(self, weights: Weights, tokenizer: Any, *, adapter_on: bool = True) -> None:
        self.weights = weights
        self.tokenizer = tokenizer
        self.adapter_on = adapter_on
        self.template: str | None = tokenizer.chat_template
        self.end_text = str(tokenizer.eos_token or "")
        self._bos = _bos(tokenizer)

    @property
    def model(self) -> Any:
        """Return the model, loaded if it is not."""
        return self.weights.model

    @cached_property
    def _ends(self) -> list[int]:
        configs = (self.model.generation_config, self.model.config)
        configured = [getattr(config, "eos_token_id", None) for config in configs]
        return end_tokens(self.tokenizer, *configured)

    def render(self, example: HeldOut, rendering: str) -> str:
        """Write the prompt of an example, up to where the answer begins."""
        if rendering == "plain":
            return plain_prompt(example)
        return self.chat(messages_of(example), example.tools, answer_next=True)

    def chat(
        self, messages: list[Message], tools: list[dict[str, Any]] | None, *, answer_next: bool
    ) -> str:
        """Apply the chat template."""
        return str(
            self.tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=answer_next
            )
        )

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, grammar: str | None = None
    ) -> list[Output]:
        """Continue each prompt greedily, as one batch; with a grammar, only as it allows."""
        ids = [self.encode(prompt) for prompt in prompts]
        constrained = None
        if grammar is not None:
            constrained = Answers(self._grammar_tokens, grammar, len(ids))
        with self.side():
            made = decode(self.model, ids, max_new_tokens, self._ends, constrained)
        return [self._output(row) for row in made]

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

    def encode(self, text: str) -> list[int]:
        """Tokenize a text that is rendered already; the special tokens in it are special."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        # A template may have written the start token already.
        return ids if ids[:1] == self._bos and ids else [*self._bos, *ids] or [0]

    @cached_property
    def _grammar_tokens(self) -> LLTokenizer:
        # As wide as the logits, which may be wider than the vocabulary.
        width = self.model.get_output_embeddings().weight.shape[0]
        return llguidance.hf.from_tokenizer(self.tokenizer, n_vocab=width, eos_token=self._ends)

    def _output(self, row: list[int]) -> Output:
        length = next((i for i, token in enumerate(row) if token in self._ends), None)
        kept = row if length is None else row[:length]
        text = self.tokenizer.decode(kept, skip_special_tokens=True)
        return Output(text.strip(), len(kept), finished=length is not None)

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
        if not isinstance(self.tuned, TransformersWriter):
            return False
        if not isinstance(self.baseline, TransformersWriter):
            return False
        ours, theirs = self.tuned.tokenizer, self.baseline.tokenizer
        return bool(ours.get_vocab() == theirs.get_vocab())


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
    if shared and isinstance(after, TransformersWriter):
        before: Writer = TransformersWriter(
            after.weights, load_tokenizer(baseline), adapter_on=False
        )
    elif tuned.load_from == baseline.load_from and tuned.adapter == baseline.adapter:
        before = after
    else:
        before = load(baseline, shelf)
    return Pair(before, after, shared)


def load(plan: ModelFiles, shelf: Shelf) -> Writer:
    """Return a model, which is loaded when it is first asked."""
    if plan.kind == "gguf":
        # llama.cpp is an extra of its own; nobody without a GGUF file needs it installed.
        from ft_tools.evaluation.worker.gguf_generation import GgufWriter

        return GgufWriter(plan.load_from)
    return TransformersWriter(Weights(plan, shelf), load_tokenizer(plan))


def load_tokenizer(plan: ModelFiles) -> Any:
    """Load a model's tokenizer; an adapter that brings one was trained with it."""
    folder = tokenizer_folder(plan.adapter, plan.load_from)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _bos(tokenizer: Any) -> list[int]:
    """Return the start token, if the tokenizer puts it before every text by itself."""
    start: list[int] = tokenizer("a").input_ids[:1]
    return start if start == [tokenizer.bos_token_id] else []
