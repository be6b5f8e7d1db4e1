"""Measure a shipped model against the merged one, token by token, on text it has not seen."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ft_tools.publish import disk_full_is_named
from ft_tools.shipping import comparison_text, modelfile
from ft_tools.shipping.estimates import LOGITS_BYTES, LOGITS_TOKENS
from ft_tools.shipping.quality import PositionScores
from ft_tools.shipping.report import MergeCheck, WeightCheck
from ft_tools.shipping.worker.task_metric import Task

MAX_TEXT_TOKENS = 256
NEVER = -1e4
"""Logit of a token that a model does not have."""
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
Logits = npt.NDArray[np.float32]


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
    """Tokenize what is measured on: a file's examples, or the built-in text.

    The standard error of the mean is reported, so more tokens are never needed.
    """
    budget = max(64, min(LOGITS_TOKENS, LOGITS_BYTES // (4 * vocabulary)))
    examples = comparison_text.examples(path) if path else []
    wholes: list[Any] = [w for e in examples if (w := comparison_text.conversation(e))]
    starts: list[Any] = [p for e in examples if (p := comparison_text.prompt_of(e))]
    if not wholes:
        origin, wholes = "built_in", comparison_text.built_in()
    if not starts:
        starts = [[{"role": "user", "content": text}] for text in comparison_text.PROMPTS]
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
    messages = comparison_text.plain(whole)
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
    """The merged model's logits on the held-out text, kept on disk, and the base's beside them."""

    def __init__(self, path: Path, text: Text, vocabulary: int) -> None:
        self.text = text
        self.vocabulary = vocabulary
        self._path = path
        self._rows: Logits | None = None
        self._base_rows: Logits | None = None

    def fill(self, model: Any) -> Logits:
        """Run the merged model over every text; returns its logits, (tokens, vocabulary)."""
        self._rows = self._run(model, self._path)
        return self._rows

    def fill_base(self, model: Any) -> Logits:
        """Run the base model over every text, so that what an adapter does can be told."""
        self._base_rows = self._run(model, self._path.with_suffix(".base.f32"))
        return self._base_rows

    def _run(self, model: Any, path: Path) -> Logits:
        # Written plainly: through a memory map a full disk would end the process by a signal.
        with disk_full_is_named(path), path.open("wb") as file:
            for part in logits_of(model, self.text.ids):
                file.write(np.ascontiguousarray(self._as_wide(part)).data)
        return read_logits(path, self.vocabulary)

    def _as_wide(self, logits: Logits) -> Logits:
        # A base may have fewer tokens than were trained: what it has not, it never says.
        missing = max(0, self.vocabulary - logits.shape[1])
        return np.pad(logits[:, : self.vocabulary], ((0, 0), (0, missing)), constant_values=NEVER)

    def measure_rows(self, rows: Logits) -> PositionScores:
        """Compare another model's logits, of all texts one after the other, with these."""
        ends = np.cumsum([len(ids) for ids in self.text.ids])
        parts = iter([rows[end - len(i) : end] for end, i in zip(ends, self.text.ids, strict=True)])
        return self.measure(lambda _: next(parts))

    def measure(self, run: Callable[[list[int]], Logits]) -> PositionScores:
        """Compare another model's logits with these.

        Args:
            run: Takes a text's ids and returns logits, (tokens, vocabulary).
        """
        assert self._rows is not None
        scores = PositionScores(kls=[], same_top1=[], reference_nlls=[], nlls=[])
        kept = made = 0.0
        at = 0
        for ids in self.text.ids:
            # The last position has no next token.
            place = slice(at, at + len(ids) - 1)
            at += len(ids)
            base = [] if self._base_rows is None else [self._base_rows[place]]
            given = (self._rows[place], run(ids)[:-1], *base)
            # Copies: what is mapped from the disk cannot be written, which torch warns of.
            rows = compared(*(torch.from_numpy(np.array(each)) for each in given))
            following = torch.tensor(ids[1:])[:, None]
            scores.kls.extend(rows.kls.tolist())
            scores.same_top1.extend(rows.same_top1.tolist())
            scores.reference_nlls.extend((-rows.expected.gather(1, following)[:, 0]).tolist())
            scores.nlls.extend((-rows.found.gather(1, following)[:, 0]).tolist())
            scores.base_kls.extend(rows.base_kls.tolist())
            made, kept = made + rows.made, kept + rows.kept
        return scores.model_copy(update={"effect_kept_fraction": kept / made if made else None})


def read_logits(path: Path, vocabulary: int) -> Logits:
    """Return a file's logits, (tokens, vocabulary), which stay on the disk."""
    return np.memmap(path, dtype=np.float32, mode="r").reshape(-1, vocabulary)


@dataclass(frozen=True)
class RowComparison:
    """Two models' logits, position by position, as log probabilities in float64."""

    expected: torch.Tensor
    found: torch.Tensor
    kls: torch.Tensor
    """Sum of p (log p - log q) of each position, in nats."""
    same_top1: torch.Tensor
    base_kls: torch.Tensor
    """Of the base from what was found; empty without a base."""
    made: float = 0.0
    """Size of what an adapter changes, <a - b, a - b>; of each row its mean is taken off."""
    kept: float = 0.0
    """How much of that was found, <m - b, a - b>: rounding adds what points elsewhere."""

    @property
    def effect_fraction(self) -> float | None:
        """Return how much of an adapter's change was found: 1 all, 0 nothing; None: no change."""
        return self.kept / self.made if self.made else None


def compared(
    expected: torch.Tensor, found: torch.Tensor, base: torch.Tensor | None = None
) -> RowComparison:
    """Compare logits, (tokens, vocabulary), of the tokens that all have.

    A base may have fewer tokens than were trained, and a converter may leave out rows that pad the
    vocabulary. In float64: a small divergence is a difference of large numbers.
    """
    given = [rows for rows in (expected, found, base) if rows is not None]
    width = min(rows.shape[1] for rows in given)
    p, q, *others = (torch.log_softmax(rows[:, :width].double(), -1) for rows in given)
    kls, same = (p.exp() * (p - q)).sum(-1), p.argmax(-1) == q.argmax(-1)
    if not others:
        return RowComparison(p, q, kls, same, torch.empty(0))
    b = others[0]
    wanted, seen = (rows - b - (rows - b).mean(-1, keepdim=True) for rows in (p, q))
    made, kept = float(wanted.square().sum()), float((wanted * seen).sum())
    return RowComparison(p, q, kls, same, (b.exp() * (b - q)).sum(-1), made, kept)


@dataclass
class Proof:
    """What a format is measured with."""

    tokenizer: Any
    reference: Reference
    parts: modelfile.PromptParts | None
    task: Task | None = None
    answers: list[list[int]] = field(default_factory=list)
    """The merged model's to the prompts; empty where it was not run."""
    tokens_per_second: float | None = None
    check: MergeCheck | None = None
    weight_check: WeightCheck | None = None

    @cached_property
    def tuned(self) -> dict[str, list[float]]:
        """Return the merged model's metrics, for each example of the task."""
        return self.scores(self.answers) if self.answers else {}

    @property
    def prompts(self) -> list[list[int]]:
        """Return what each format continues: the task's prompts, else those of the samples."""
        return self.task.prompts if self.task else self.reference.text.prompts

    @property
    def max_new_tokens(self) -> int:
        """Return how far each prompt is continued."""
        return self.task.max_new_tokens if self.task else SAMPLE_TOKENS

    @property
    def probes(self) -> list[str]:
        """Return the texts that a file has to split as the trained tokenizer does."""
        special = "".join(map(str, self.tokenizer.all_special_tokens))
        return [*PROBES, special, *self.reference.text.raw, *self.reference.text.prompt_texts]

    def has_same_ids(self, found: list[list[int]]) -> bool:
        """Return whether the probes were split as the trained tokenizer does."""
        wanted: list[list[int]] = self.tokenizer(self.probes, add_special_tokens=False).input_ids
        return found == wanted

    def shown(self, rows: list[list[int]]) -> list[str]:
        """Return the texts of the first prompts, or of the answers to them."""
        return [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in rows[:NUM_PROMPTS]]

    def scores(self, answers: list[list[int]]) -> dict[str, list[float]]:
        """Return the task's metrics of each of the answers to `prompts`; empty without a task."""
        return self.task.scores(self.tokenizer, answers) if self.task else {}


@torch.inference_mode()
def logits_of(model: Any, texts: list[list[int]]) -> Iterator[Logits]:
    """Yield the logits of each text, (tokens, vocabulary), of a transformers model."""
    for ids in texts:
        batch = torch.tensor([ids], device=model.device)
        yield model(batch).logits[0].float().cpu().numpy()


@torch.inference_mode()
def greedy(model: Any, prompts: list[list[int]], num_tokens: int) -> tuple[list[list[int]], float]:
    """Continue each prompt greedily with a transformers model.

    Returns:
        The ids that were added, and tokens per second, prompts included.
    """
    found = []
    began = time.monotonic()
    for ids in prompts:
        batch = torch.tensor([ids], device=model.device)
        made = model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=model.generation_config.pad_token_id or 0,
        )
        found.append(made[0, len(ids) :].tolist())
    return found, sum(map(len, found)) / max(time.monotonic() - began, 1e-9)
