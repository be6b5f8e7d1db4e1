"""A model that transformers and torch run, with its tokenizer."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import llguidance.hf
import torch
from llguidance import LLTokenizer
from peft import PeftModel

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.answers import Answer
from ft_tools.evaluation.systems.grammar import Answers
from ft_tools.evaluation.systems.models import ModelFiles
from ft_tools.evaluation.worker.decoding import decode
from ft_tools.evaluation.worker.writer import plain_prompt, thought_switch
from ft_tools.models.placement import Placement
from ft_tools.models.worker.end_tokens import after_channel, end_tokens
from ft_tools.models.worker.loading import load


def load_at(
    folder: Path, files: ModelFiles, place: Placement, quantization: dict[str, object] | None
) -> Any:
    """Load the base, and the adapter over it."""
    model = load(folder, place, quantization=quantization)
    if files.adapter is None:
        return model
    return PeftModel.from_pretrained(model, files.adapter, torch_device=str(model.device)).eval()


class TransformersWriter:
    """A model with a tokenizer; `adapter_on=False` is the base model below its adapter."""

    def __init__(self, load: Callable[[], Any], tokenizer: Any, *, adapter_on: bool = True) -> None:
        self._load = load
        self.tokenizer = tokenizer
        self.adapter_on = adapter_on
        self.template: str | None = tokenizer.chat_template
        start: list[int] = tokenizer("a").input_ids[:1]
        self._bos = start if start == [tokenizer.bos_token_id] else []

    @property
    def model(self) -> Any:
        """Return the model, loaded if it is not."""
        return self._load()

    @property
    def described(self) -> Any:
        """Return the model of transformers that has its configurations and shapes."""
        return self.model

    def close(self) -> None:
        """Do nothing: whoever loaded the model frees it."""

    def render(self, example: HeldOut, rendering: str, *, thinks: bool = True) -> str:
        """Write the prompt of an example, up to where the answer begins, or the thought before."""
        if rendering == "plain":
            return plain_prompt(example)
        return str(
            self.tokenizer.apply_chat_template(
                example.messages,
                tools=example.tools,
                tokenize=False,
                add_generation_prompt=True,
                **({} if thinks else self._without_thought),
            )
        )

    @cached_property
    def _without_thought(self) -> dict[str, bool]:
        """Return the template's switch where it opens an answer as one is trained: no thought."""
        return thought_switch(partial(self.tokenizer.apply_chat_template, tokenize=False))

    def encode(self, text: str) -> list[int]:
        """Tokenize a text that is rendered already; the special tokens in it are special."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        # A template may have written the start token already.
        return ids if ids[:1] == self._bos and ids else [*self._bos, *ids] or [0]

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, grammar: str | None = None
    ) -> list[Answer]:
        """Continue each prompt greedily, as one batch; with a grammar, only as it allows."""
        ids = [self.encode(prompt) for prompt in prompts]
        constrained = None
        if grammar is not None:
            constrained = Answers(self._grammar_tokens, grammar, len(ids))
        with self.side():
            made = self.decode(ids, max_new_tokens, constrained)
        return [self._output(row) for row in made]

    def decode(
        self, rows: Sequence[list[int]], max_new_tokens: int, constrained: Answers | None
    ) -> list[list[int]]:
        """Continue each row greedily."""
        return decode(self.model, rows, max_new_tokens, self.ends, constrained)

    @contextlib.contextmanager
    def side(self) -> Iterator[None]:
        """Switch the adapter off for a while, if this is the side without it."""
        if self.adapter_on or not isinstance(self.model, PeftModel):
            yield
        else:
            with self.model.disable_adapter():
                yield

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

    def _output(self, row: list[int]) -> Answer:
        length = next((i for i, token in enumerate(row) if token in self.ends), None)
        kept = row if length is None else row[:length]
        said = after_channel(self.tokenizer, kept)
        text = self.tokenizer.decode(said, skip_special_tokens=True)
        return Answer(text.strip(), len(kept), finished=length is not None)
