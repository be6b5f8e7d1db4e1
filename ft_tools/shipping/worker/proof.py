"""What a merge and every format are measured with: held-out text, logits, answers.

The merged model's logits stay on the disk, the base's beside them, so that a format is compared
token by token with both, and the merge itself with the base and its adapter.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from ft_tools.errors import BadData
from ft_tools.evaluation.held_out import read_held_out
from ft_tools.evaluation.results import Scores as TaskScores
from ft_tools.evaluation.systems.asking import asked_as, read_document
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.metrics.choose import choose_metrics
from ft_tools.metrics.table import score_outputs
from ft_tools.models import safetensors_headers
from ft_tools.models.worker.end_tokens import after_channel
from ft_tools.publish import disk_full_is_named
from ft_tools.shipping import comparison_text, quality
from ft_tools.shipping.adapter import LORA_A, LORA_B, MAGNITUDE, read_config
from ft_tools.shipping.estimates import LOGITS_BYTES, LOGITS_TOKENS
from ft_tools.shipping.modelfile import PromptParts
from ft_tools.shipping.quality import PositionScores
from ft_tools.shipping.report import MergeCheck, WeightCheck
from ft_tools.shipping.worker import merging

MAX_TEXT_TOKENS = 256
NEVER = -1e4
"""Logit of a token that a model does not have."""
ROWS_AT_ONCE = 64
"""Positions that are compared at a time, in float64."""
SAMPLE_TOKENS, MAX_NEW_TOKENS, ROOM_TOKENS = 32, 96, 8
NUM_PROMPTS = 3
NUM_INPUTS = 8
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
"""Of one text or of all, (tokens, vocabulary)."""


@dataclass
class HeldOut:
    """Text to compare on, and the prompts that each model answers; ids are of the tokenizer."""

    origin: str
    ids: list[list[int]]
    raw: list[str]
    """The texts; together with `prompt_texts` they have to be tokenized as in training."""
    prompts: list[list[int]]
    prompt_texts: list[str] = field(default_factory=list)
    conversations: list[list[dict[str, Any]]] = field(default_factory=list)
    """The task's examples up to their answers; an empty one is plain text."""
    references: list[str] = field(default_factory=list)
    """Wanted answers to the prompts; none: they are samples only."""
    metrics: list[str] = field(default_factory=list)
    max_new_tokens: int = SAMPLE_TOKENS

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens of the text."""
        return sum(map(len, self.ids))


def held_out(
    tokenizer: Any,
    path: Path | None,
    origin: str,
    vocabulary: int,
    max_examples: int = 0,
    spec: SystemSpec | None = None,
) -> HeldOut:
    """Tokenize a file's examples, or the built-in text, and read the task of the file."""
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
    found = HeldOut(origin, ids, raw[: len(ids)], prompts, shown)
    if path is None or not max_examples:
        return found
    return replace(found, **_task(tokenizer, path, max_examples, spec))


def _task(tokenizer: Any, path: Path, max_examples: int, spec: SystemSpec | None) -> dict[str, Any]:
    """Return the fields of a file whose examples have wanted answers; none of another file."""
    try:
        examples = read_held_out(path, max_examples=max_examples)
        if spec is not None:
            document = read_document(spec)
            examples = [asked_as(spec, example, document=document) for example in examples]
    except BadData:
        return {}

    def ids_of(whole: Any) -> list[int]:
        return tokens(tokenizer, render(tokenizer, whole, generation=True))

    references = [e.reference for e in examples]
    chosen = list(choose_metrics(["auto"], references))
    longest = max(len(ids_of(e.written)) for e in examples) + ROOM_TOKENS
    return {
        "prompts": [ids_of(e.asked if e.is_text else e.messages) for e in examples],
        "conversations": [[] if e.is_text else e.messages for e in examples],
        "references": references,
        "metrics": chosen,
        "max_new_tokens": min(MAX_NEW_TOKENS, longest),
    }


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


@dataclass
class Proof:
    """The merged model on held-out text, and what its formats are compared with."""

    tokenizer: Any
    held_out: HeldOut
    path: Path
    """File for the merged model's logits; those of the base lie beside it."""
    vocabulary: int
    parts: PromptParts | None = None
    answers: list[list[int]] = field(default_factory=list)
    """The merged model's to the prompts; empty where it was not run."""
    tokens_per_second: float | None = None
    check: MergeCheck | None = None
    weight_check: WeightCheck | None = None

    @property
    def base_path(self) -> Path:
        """Return the file for the logits of the base, by which what the adapter does is known."""
        return self.path.with_suffix(".base.f32")

    def fill(self, model: Any, path: Path | None = None) -> None:
        """Keep a model's logits of all texts: the merged model's, if no other file is named."""
        path = path or self.path
        # Written plainly: through a memory map a full disk would end the process by a signal.
        with disk_full_is_named(path), path.open("wb") as file:
            for part in logits_of(model, self.held_out.ids):
                # A base may have fewer tokens than were trained: what it has not, it never says.
                missing = max(0, self.vocabulary - part.shape[1])
                wide = np.pad(
                    part[:, : self.vocabulary], ((0, 0), (0, missing)), constant_values=NEVER
                )
                file.write(np.ascontiguousarray(wide).data)

    def by_text(self, path: Path, vocabulary: int) -> Iterator[Logits]:
        """Yield the logits of each text out of a file, which stay on the disk."""
        rows, at = np.memmap(path, dtype=np.float32, mode="r").reshape(-1, vocabulary), 0
        for ids in self.held_out.ids:
            yield rows[at : at + len(ids)]
            at += len(ids)

    def merged_rows(self) -> Iterator[Logits]:
        """Yield the merged model's logits of each text."""
        return self.by_text(self.path, self.vocabulary)

    def base_rows(self) -> Iterator[Logits] | None:
        """Yield the base's logits of each text; None where it was not run."""
        is_there = self.base_path.is_file()
        return self.by_text(self.base_path, self.vocabulary) if is_there else None

    def measure(self, found: Iterable[Logits]) -> PositionScores:
        """Compare a format's logits of each text with the merged model's."""
        return compare(self.held_out.ids, self.merged_rows(), found, self.base_rows())

    def check_merge(self, adapted: Any, dtype: str, reference: str) -> MergeCheck:
        """Compare the merged model with what it has to equal: the base with its adapter."""
        with adapted.disable_adapter():
            self.fill(adapted, self.base_path)
        texts = self.held_out.ids
        found = compare(texts, logits_of(adapted, texts), self.merged_rows(), self.base_rows())
        check = MergeCheck(
            mean_kl=fmean(found.kls),
            adapter_kl=fmean(found.effect_kls),
            applied_fraction=found.effect_fraction,
            max_abs_logit_difference=found.largest_difference,
            top1_agreement=fmean(found.same_top1),
            num_tokens=len(found.kls),
            compute_dtype=dtype,
            reference=reference,
        )
        return quality.judged(check)

    def mean_kl_from(self, model: Any) -> float:
        """Return the mean divergence of the merged model from another one, nats per token."""
        texts = self.held_out.ids
        return fmean(compare(texts, logits_of(model, texts), self.merged_rows()).kls)

    @cached_property
    def tuned(self) -> TaskScores:
        """Return the merged model's metrics, for each example of the task."""
        return self.scores(self.answers) if self.answers else {}

    def scores(self, answers: Sequence[list[int]]) -> TaskScores:
        """Return the task's metrics of each of the answers to the prompts; none without a task."""
        if not self.held_out.references:
            return {}
        said = (after_channel(self.tokenizer, ids) for ids in answers)
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in said]
        return score_outputs(self.held_out.metrics, texts, self.held_out.references)

    @property
    def probes(self) -> list[str]:
        """Return the texts that a file has to split as the trained tokenizer does."""
        special = "".join(map(str, self.tokenizer.all_special_tokens))
        return [*PROBES, special, *self.held_out.raw, *self.held_out.prompt_texts]

    def has_same_ids(self, found: list[list[int]]) -> bool:
        """Return whether the probes were split as the trained tokenizer does."""
        wanted: list[list[int]] = self.tokenizer(self.probes, add_special_tokens=False).input_ids
        return found == wanted

    def shown(self, rows: list[list[int]]) -> list[str]:
        """Return the texts of the first prompts, or of the answers to them."""
        return [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in rows[:NUM_PROMPTS]]


def means(scores: TaskScores) -> dict[str, float]:
    """Return the mean of each metric."""
    return {name: round(fmean(values), 4) for name, values in scores.items()}


def compare(
    texts: list[list[int]],
    expected: Iterable[Logits],
    found: Iterable[Logits],
    base: Iterable[Logits] | None = None,
) -> PositionScores:
    """Compare two models' logits at every position that has a next token."""
    scores = PositionScores()
    for ids, *models in zip(texts, expected, found, *([] if base is None else [base]), strict=True):
        for at in range(0, len(ids) - 1, ROWS_AT_ONCE):
            # The last position has no next token.
            place = slice(at, min(at + ROWS_AT_ONCE, len(ids) - 1))
            following = torch.tensor(ids[place.start + 1 : place.stop + 1])[:, None]
            # Copies: what is mapped from the disk cannot be written, which torch warns of.
            _add(scores, following, [torch.from_numpy(np.array(rows[place])) for rows in models])
    return scores


def _add(scores: PositionScores, following: torch.Tensor, models: list[torch.Tensor]) -> None:
    """Add rows of logits, (tokens, vocabulary), of the tokens that all models have.

    A base may have fewer tokens than were trained, and a converter may leave out rows that pad the
    vocabulary. In float64: a small divergence is a difference of large numbers.
    """
    width = min(rows.shape[1] for rows in models)
    expected, found = (rows[:, :width] for rows in models[:2])
    scores.largest_difference = max(
        scores.largest_difference, float((expected - found).abs().max())
    )
    p, q, *others = (torch.log_softmax(rows[:, :width].double(), -1) for rows in models)
    scores.kls.extend(_kl(p, q).tolist())
    scores.same_top1.extend((p.argmax(-1) == q.argmax(-1)).tolist())
    scores.reference_nlls.extend((-p.gather(1, following)[:, 0]).tolist())
    scores.nlls.extend((-q.gather(1, following)[:, 0]).tolist())
    for b in others:
        scores.base_kls.extend(_kl(b, q).tolist())
        scores.effect_kls.extend(_kl(p, b).tolist())
        wanted, seen = (rows - b - (rows - b).mean(-1, keepdim=True) for rows in (p, q))
        scores.effect += float(wanted.square().sum())
        scores.kept += float((wanted * seen).sum())


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return the sum of p (log p - log q) of each row of log probabilities, in nats."""
    return (p.exp() * (p - q)).sum(-1)


def compare_weights(base: Path, adapter: Path, merged: Path) -> WeightCheck:
    """Compare merged weights with base and adapter, one after the other, on random inputs.

    W' x against W x + s B A x (DoRA: scaled as it learned), where the adapter is applied as in
    training, never summed up to a weight. Needs memory for one weight. Shape: x (d_in, NUM_INPUTS).
    """
    config = read_config(adapter)
    files = {name: t.file.name for name, t in safetensors_headers.survey(merged).items()}
    groups = merging.group_by_target(load_file(adapter / safetensors_headers.ADAPTER))
    dice = torch.Generator().manual_seed(0)
    wanted_size = projected = worst = 0.0
    for name, change in groups.items():
        before = merging.weight_of(base / files[name], name).float()
        after = merging.weight_of(merged / files[name], name).float()
        if "whole" in change:
            expected, found, start = change["whole"].float(), after, before
        else:
            if config.get("fan_in_fan_out"):
                before, after = before.T, after.T
            x = torch.randn(before.shape[1], NUM_INPUTS, generator=dice)
            start, found = before @ x, after @ x
            a, b = change[LORA_A].float(), change[LORA_B].float()
            scale = merging.scaling_of(name, change, config)
            expected = start + scale * (b @ (a @ x))
            if MAGNITUDE in change:
                length = torch.linalg.norm(before + scale * (b @ a), dim=1)
                expected = expected * (change[MAGNITUDE].float() / length).unsqueeze(1)
        effect = (expected - start).double()
        wanted_size += float(effect.square().sum())
        projected += float((effect * (found - start)).sum())
        worst = max(worst, float((found - expected).norm() / expected.norm().clamp_min(1e-30)))
    applied = projected / wanted_size if wanted_size else None
    check = WeightCheck(
        num_weights=len(groups), applied_fraction=applied, max_relative_difference=worst
    )
    return quality.judged(check)


@torch.inference_mode()
def logits_of(model: Any, texts: list[list[int]]) -> Iterator[Logits]:
    """Yield the logits of each text, (tokens, vocabulary), of a transformers model."""
    for ids in texts:
        yield model(torch.tensor([ids], device=model.device)).logits[0].float().cpu().numpy()


@torch.inference_mode()
def greedy(model: Any, prompts: list[list[int]], num_tokens: int) -> tuple[list[list[int]], float]:
    """Continue each prompt greedily with a transformers model, as `quality.answered`."""

    def answer(ids: list[int]) -> list[int]:
        batch = torch.tensor([ids], device=model.device)
        made = model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=model.generation_config.pad_token_id or 0,
        )
        added: list[int] = made[0, len(ids) :].tolist()
        return added

    return quality.answered(prompts, answer)
