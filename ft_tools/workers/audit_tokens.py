"""Count tokens with a model's own tokenizer and chat template, and say what is odd about them."""

import re
from typing import Any

from transformers import AutoTokenizer

from ft_tools.data.example import Example, Message, content_of
from ft_tools.data.scan import lengths_of
from ft_tools.errors import BadInput
from ft_tools.models.resolve import resolve_model

GENERATION = re.compile(r"\{%-?\s*generation")
# A rendered example that is far longer than what it says comes from a hostile template.
MAX_EXPANSION = 20
MIN_CHARS = 20_000


class TemplateTokens:
    """A tokenizer, its chat template, and what they did to the examples so far."""

    def __init__(self, model: str) -> None:
        source = resolve_model(model)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                source.load_from, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise BadInput(
                f"model={model!r} has no tokenizer that can be loaded; name a folder with "
                "tokenizer.json, or leave `model` out for an estimate"
            ) from error
        self._template = str(getattr(self._tokenizer, "chat_template", None) or "")
        self._num_refused = 0
        self._num_without_end = 0
        self._num_double_start = 0
        with_template = " and chat template" if self._template else ""
        self.method = f"counted with the model's tokenizer{with_template}"

    def measure(self, example: Example) -> tuple[int, int]:
        """Count (tokens of the whole, tokens of what is trained on last)."""
        asked, answered = example.prompt_and_answer()
        if example.text is not None:
            count = len(self._ids(example.text))
            return count, count
        whole = self._render(asked, answered)
        prompt = self._render(asked, [])
        if whole is None or prompt is None:
            self._num_refused += 1
            return lengths_of(example)
        ids = self._ids(whole)
        self._look_at_ends(whole, ids)
        rejected = self._render(asked, example.rejected) if example.rejected else ""
        total = max(len(ids), len(self._ids(rejected or "")))
        return total, max(0, total - len(self._ids(prompt)))

    def notes(self) -> list[str]:
        """Say what training with this tokenizer has to mind."""
        tokenizer = self._tokenizer
        found = {
            "the model has no chat template; conversations need one": not self._template,
            "the padding token is the end-of-sequence token: a collator that masks padding also "
            "masks the end, and the model may never stop": tokenizer.pad_token is not None
            and tokenizer.pad_token == tokenizer.eos_token,
            "the template has no {% generation %} marks: assistant_only_loss needs TRL's patched "
            "template": bool(self._template) and not GENERATION.search(self._template),
            f"the template refused {self._num_refused} examples; their lengths are estimates": (
                self._num_refused > 0
            ),
            f"{self._num_without_end} examples do not end with the end-of-sequence token: the "
            "model may not learn to stop": self._num_without_end > 0,
            f"{self._num_double_start} examples begin with two beginning-of-sequence tokens if "
            "the tokenizer adds its own to the template's": self._num_double_start > 0,
        }
        return [note for note, holds in found.items() if holds]

    def _render(self, asked: list[Message], answered: list[Message]) -> str | None:
        """Return turns in the template; None if it refuses them or makes too much of them."""
        messages = [*asked, *answered]
        if not messages:
            return ""
        if not self._template:
            return "\n".join(map(content_of, messages))
        try:
            text = str(
                self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=not answered
                )
            )
        except Exception:
            # A template may raise anything, in words of its own; they stay here.
            return None
        said = sum(len(content_of(message)) for message in messages)
        return text if len(text) <= max(MIN_CHARS, MAX_EXPANSION * said) else None

    def _look_at_ends(self, text: str, ids: list[int]) -> None:
        tokenizer = self._tokenizer
        end, start = tokenizer.eos_token, tokenizer.bos_token
        if self._template and end and not text.rstrip().endswith(end):
            self._num_without_end += 1
        if self._template and start and text.startswith(start):
            again = tokenizer(text[:200])["input_ids"][:2]
            self._num_double_start += again == [tokenizer.bos_token_id] * 2

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
