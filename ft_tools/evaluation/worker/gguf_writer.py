"""A GGUF file, run by llama.cpp."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import llama_cpp
import llama_cpp.llama_chat_format
import numpy as np
from llguidance import LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab
from numpy.typing import NDArray

from ft_tools.evaluation.findings import refusal
from ft_tools.evaluation.held_out import HeldOut, Message
from ft_tools.evaluation.systems.answers import Answer
from ft_tools.evaluation.systems.grammar import Answers
from ft_tools.evaluation.worker.writer import plain_prompt, thought_switch
from ft_tools.formats.worker import today
from ft_tools.models.worker import gguf

GGUF_CONTEXT = 4096
CONTEXT_STEP = 256


class GgufWriter:
    """A GGUF file, run by llama.cpp, one text at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._llama = gguf.open_file(path, GGUF_CONTEXT)
        known = self._llama.metadata
        self.template: str | None = known.get("tokenizer.chat_template")
        kind = known.get("general.architecture", "")
        self._longest = int(known.get(f"{kind}.context_length", GGUF_CONTEXT))

    def render(self, example: HeldOut, rendering: str, *, thinks: bool = True) -> str:
        """Write the prompt of an example, up to where the answer begins, or the thought before."""
        if rendering == "plain" or self.template is None:
            return plain_prompt(example)
        switch = {} if thinks else self._without_thought
        return self._format(example.messages, example.tools, add_generation_prompt=True, **switch)

    @cached_property
    def _without_thought(self) -> dict[str, bool]:
        """Return the template's switch where it opens an answer as one is trained: no thought."""
        return thought_switch(self._format)

    def _format(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = False,
        **switch: bool,
    ) -> str:
        """Write messages with the template in the file."""
        formatter = llama_cpp.llama_chat_format.Jinja2ChatFormatter(
            template=self.template,
            eos_token=self._text(self._llama.token_eos()),
            bos_token=self._text(self._llama.token_bos()),
            add_generation_prompt=add_generation_prompt,
        )
        formatter.strftime_now = today.strftime_now
        return str(formatter(messages=messages, tools=tools, **switch).prompt)

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, grammar: str | None = None
    ) -> list[Answer]:
        """Continue each prompt greedily, one after the other; with a grammar, as it allows."""
        return [self._one(prompt, max_new_tokens, grammar) for prompt in prompts]

    def encode(self, text: str) -> list[int]:
        """Tokenize a rendered text; refuse one that is longer than the model was made for."""
        adds = self._llama.metadata.get("tokenizer.ggml.add_bos_token") == "true"
        ids = list(self._llama.tokenize(text.encode(), add_bos=adds, special=True))
        if len(ids) >= self._longest:
            raise refusal("beyond_gguf_context", num=len(ids), context=self._longest)
        return ids

    def _make_room(self, num_tokens: int) -> int:
        """Open the file with a longer context if a text needs it; returns the context's length.

        Opening anew costs little: the file stays mapped. A context as long as the model allows
        would take its keys and values from memory for every text.
        """
        # llama.cpp rounds a context up and says so, llama-cpp-python keeps room for what was asked.
        wanted = min(-(-num_tokens // CONTEXT_STEP) * CONTEXT_STEP, self._longest)
        if wanted > self._llama.n_ctx():
            self._llama.close()
            self.__dict__.pop("_grammar_tokens", None)
            self._llama = gguf.open_file(self._path, wanted)
        return int(self._llama.n_ctx())

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

    def _one(self, prompt: str, max_new_tokens: int, grammar: str | None) -> Answer:
        ids = self.encode(prompt)
        room = self._make_room(len(ids) + max_new_tokens) - len(ids)
        constrained = None
        if grammar is not None:
            answers = Answers(self._grammar_tokens, grammar, 1)
            constrained = llama_cpp.LogitsProcessorList([_Mask(answers, len(ids))])
        made = self._llama.create_completion(
            ids,
            max_tokens=min(max_new_tokens, room),
            temperature=0.0,
            top_k=1,
            logits_processor=constrained,
        )
        choice = made["choices"][0]
        num_tokens = made["usage"]["completion_tokens"]
        return Answer(choice["text"].strip(), num_tokens, choice["finish_reason"] == "stop")

    @cached_property
    def _grammar_tokens(self) -> LLTokenizer:
        vocab = llama_cpp.llama_model_get_vocab(self._llama.model)
        ends = dict.fromkeys([self._llama.token_eos(), llama_cpp.llama_vocab_eot(vocab)])
        known = [token for token in ends if token >= 0]
        return lltokenizer_from_vocab(vocab, eos_token=known)

    def _text(self, token: int) -> str:
        return str(self._llama._model.token_get_text(token)) if token >= 0 else ""


class _Mask:
    """Takes the tokens that a grammar does not allow out of the scores of one answer."""

    def __init__(self, answers: Answers, num_prompt_tokens: int) -> None:
        self._answers = answers
        self._start = num_prompt_tokens

    def __call__(self, ids: NDArray[np.intc], scores: NDArray[np.single]) -> NDArray[np.single]:
        last = int(ids[-1]) if len(ids) > self._start else None
        scores[~self._answers.allowed(0, last)] = -np.inf
        return scores
