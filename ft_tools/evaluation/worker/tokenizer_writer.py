"""What a model with a tokenizer of transformers writes, whatever computes it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Self

import llguidance.hf
import torch
from llguidance import LLTokenizer

from ft_tools.evaluation.held_out import HeldOut, Message, messages_of
from ft_tools.evaluation.worker.constraint import Answers
from ft_tools.evaluation.worker.weights import Weights
from ft_tools.evaluation.worker.writer import Likelihood, Output, plain_prompt
from ft_tools.models.worker.end_tokens import end_tokens


class TokenizerWriter(ABC):
    """A model with a tokenizer; `adapter_on=False` is the base model below its adapter."""

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

    @property
    def vocabulary(self) -> dict[str, int] | None:
        """Return the tokens."""
        return dict(self.tokenizer.get_vocab())

    @property
    @abstractmethod
    def described(self) -> Any:
        """Return the model of transformers that has its configurations and shapes."""

    @abstractmethod
    def side(self) -> AbstractContextManager[None]:
        """Switch the adapter off for a while, if this is the side without it."""

    @abstractmethod
    def decode(
        self, rows: Sequence[list[int]], max_new_tokens: int, constrained: Answers | None
    ) -> list[list[int]]:
        """Continue each row greedily, as `decoding.decode` does."""

    @abstractmethod
    def likelihoods(self, texts: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Measure how well each continuation is predicted after its prompt."""

    def below(self, tokenizer: Any) -> Self:
        """Return the base model below the adapter, with the same weights."""
        return type(self)(self.weights, tokenizer, adapter_on=False)

    def close(self) -> None:  # noqa: B027
        """Do nothing: whoever holds the weights frees them."""

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
            made = self.decode(ids, max_new_tokens, constrained)
        return [self._output(row) for row in made]

    def encode(self, text: str) -> list[int]:
        """Tokenize a text that is rendered already; the special tokens in it are special."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        # A template may have written the start token already.
        return ids if ids[:1] == self._bos and ids else [*self._bos, *ids] or [0]

    @cached_property
    def ends(self) -> list[int]:
        """Return the tokens that end an answer."""
        configs = (self.described.generation_config, self.described.config)
        configured = [getattr(config, "eos_token_id", None) for config in configs]
        return end_tokens(self.tokenizer, *configured)

    @cached_property
    def _grammar_tokens(self) -> LLTokenizer:
        # As wide as the logits, which may be wider than the vocabulary.
        width = self.described.get_output_embeddings().weight.shape[0]
        return llguidance.hf.from_tokenizer(self.tokenizer, n_vocab=width, eos_token=self.ends)

    def _output(self, row: list[int]) -> Output:
        length = next((i for i, token in enumerate(row) if token in self.ends), None)
        kept = row if length is None else row[:length]
        text = self.tokenizer.decode(kept, skip_special_tokens=True)
        return Output(text.strip(), len(kept), finished=length is not None)


def _bos(tokenizer: Any) -> list[int]:
    """Return the start token, if the tokenizer puts it before every text by itself."""
    start: list[int] = tokenizer("a").input_ids[:1]
    return start if start == [tokenizer.bos_token_id] else []
