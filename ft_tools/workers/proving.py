"""Measure a shipped model against the merged one, token by token, on text it has not seen."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ft_tools.shipping import held_out
from ft_tools.shipping.quality import Measured

MAX_TOKENS = 1024
"""Tokens compared; the standard error of the mean is reported, so more is never needed."""
MAX_TEXT_TOKENS = 256
MAX_LOGITS_BYTES = 2**30
SAMPLE_TOKENS = 32
NUM_PROMPTS = 3
# Where tokenizers differ: spaces, digits, accents, other scripts, code, joined emoji.
PROBES = (
    "Hello world",
    "  two spaces\n\nand 12345.67 numbers\t",
    "na\u00efve caf\u00e9 \u6771\u4eac \u0420\u0443\u0441\u0441\u043a\u0438\u0439",
    "def f(x):\n    return x + 1  # done",
    "it's 5 o'clock, isn't it?",
    "\U0001f469\u200d\U0001f4bb works",
)


@dataclass
class Text:
    """Held-out text, tokenized by the tokenizer that was trained with."""

    origin: str
    ids: list[list[int]]
    raw: list[str]
    prompts: list[list[int]]
    prompt_texts: list[str] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens."""
        return sum(map(len, self.ids))


def held_out_text(tokenizer: Any, path: Path | None, origin: str, vocabulary: int) -> Text:
    """Tokenize what is measured on: a file's examples, or the built-in text."""
    budget = max(64, min(MAX_TOKENS, MAX_LOGITS_BYTES // (4 * vocabulary)))
    examples = held_out.examples(path) if path else []
    wholes: list[Any] = [w for e in examples if (w := held_out.conversation(e))]
    starts: list[Any] = [p for e in examples if (p := held_out.prompt_of(e))]
    if not wholes:
        origin, wholes = "built_in", held_out.built_in()
    if not starts:
        starts = [[{"role": "user", "content": text}] for text in held_out.PROMPTS]
    raw = [render(tokenizer, whole, generation=False) for whole in wholes]
    ids: list[list[int]] = []
    for text in raw:
        row = tokens(tokenizer, text)[: min(MAX_TEXT_TOKENS, budget - sum(map(len, ids)))]
        if len(row) > 1:
            ids.append(row)
    shown = [render(tokenizer, start, generation=True) for start in starts[:NUM_PROMPTS]]
    prompts = [tokens(tokenizer, text)[-MAX_TEXT_TOKENS:] for text in shown]
    return Text(origin, ids, raw[: len(ids)], prompts, shown)


def render(tokenizer: Any, whole: Any, *, generation: bool) -> str:
    """Return a conversation as the model reads it; a text stays as it is."""
    if isinstance(whole, str):
        return whole
    messages = list(held_out.plain(whole))
    if not tokenizer.chat_template:
        return "\n".join(message["content"] for message in messages)
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
    )


def tokens(tokenizer: Any, text: str) -> list[int]:
    """Return a text's ids with one beginning-of-sequence token at most."""
    ids: list[int] = tokenizer(text, add_special_tokens=True).input_ids
    bos = tokenizer.bos_token_id
    return ids[1:] if len(ids) > 1 and ids[0] == ids[1] == bos else ids


class Reference:
    """The merged model's logits on the held-out text, kept on disk."""

    def __init__(self, path: Path, text: Text, vocabulary: int) -> None:
        self.text = text
        shape = (text.num_tokens, vocabulary)
        self._rows = np.memmap(path, dtype=np.float32, mode="w+", shape=shape)

    @torch.inference_mode()
    def fill(self, model: Any) -> None:
        """Run the merged model over every text."""
        at = 0
        for ids in self.text.ids:
            logits = model(torch.tensor([ids])).logits[0].float().numpy()
            self._rows[at : at + len(ids)] = logits
            at += len(ids)

    def measure(self, run: Any) -> Measured:
        """Compare another model's logits with these.

        Args:
            run: Takes a text's ids and returns logits, (tokens, vocabulary).
        """
        kls: list[float] = []
        same: list[bool] = []
        nlls: list[float] = []
        reference_nlls: list[float] = []
        at = 0
        for ids in self.text.ids:
            expected, found = self._rows[at : at + len(ids)], run(ids)
            at += len(ids)
            # A converter may leave out rows that pad the vocabulary; no token is lost with them.
            width = min(expected.shape[1], found.shape[1])
            # The last position has no next token.
            p, q = log_softmax(expected[:-1, :width]), log_softmax(found[:-1, :width])
            kls += (p.exp() * (p - q)).sum(-1).tolist()
            same += (p.argmax(-1) == q.argmax(-1)).tolist()
            following = torch.tensor(ids[1:])[:, None]
            nlls += (-q.gather(1, following)[:, 0]).tolist()
            reference_nlls += (-p.gather(1, following)[:, 0]).tolist()
        return Measured(kls=kls, same_top1=same, reference_nlls=reference_nlls, nlls=nlls)


def log_softmax(logits: npt.NDArray[np.float32]) -> torch.Tensor:
    """Return log probabilities, in float64: a small divergence is a difference of large numbers."""
    return torch.log_softmax(torch.from_numpy(np.array(logits)).double(), -1)


@torch.inference_mode()
def samples(model: Any, tokenizer: Any, text: Text) -> list[str]:
    """Continue each prompt greedily with a transformers model."""
    found = []
    for ids in text.prompts:
        batch = torch.tensor([ids])
        made = model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            max_new_tokens=SAMPLE_TOKENS,
            do_sample=False,
            pad_token_id=model.generation_config.pad_token_id or 0,
        )
        found.append(tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True))
    return found
