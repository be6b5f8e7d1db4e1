"""Generate with a GGUF file, through llama.cpp; imported only when a model is one."""

from collections.abc import Sequence

import llama_cpp
import llama_cpp.llama_chat_format

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.workers.generation import Output, messages_of, plain_prompt

GGUF_CONTEXT = 4096


class GgufWriter:
    """A GGUF file, run by llama.cpp."""

    def __init__(self, path: str) -> None:
        self._llama = llama_cpp.Llama(path, n_ctx=GGUF_CONTEXT, seed=0, verbose=False)
        self.template: str | None = self._llama.metadata.get("tokenizer.chat_template")

    def render(self, example: HeldOut, rendering: str) -> str:
        """Write the prompt with the template that is in the file."""
        if rendering == "plain" or self.template is None:
            return plain_prompt(example)
        formatter = llama_cpp.llama_chat_format.Jinja2ChatFormatter(
            template=self.template,
            eos_token=self._text(self._llama.token_eos()),
            bos_token=self._text(self._llama.token_bos()),
        )
        return str(formatter(messages=messages_of(example), tools=example.tools).prompt)

    def generate(self, prompts: Sequence[str], max_new_tokens: int) -> list[Output]:
        """Continue each prompt greedily, one after the other."""
        return [self._one(prompt, max_new_tokens) for prompt in prompts]

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

    def _one(self, prompt: str, max_new_tokens: int) -> Output:
        adds = self._llama.metadata.get("tokenizer.ggml.add_bos_token") == "true"
        ids = self._llama.tokenize(prompt.encode(), add_bos=adds, special=True)
        room = GGUF_CONTEXT - len(ids) - 1
        made = self._llama.create_completion(
            ids, max_tokens=max(1, min(max_new_tokens, room)), temperature=0.0, top_k=1
        )
        choice = made["choices"][0]
        num_tokens = made["usage"]["completion_tokens"]
        return Output(choice["text"].strip(), num_tokens, choice["finish_reason"] == "stop")

    def _text(self, token: int) -> str:
        return str(self._llama._model.token_get_text(token)) if token >= 0 else ""
