"""The task itself on a few held-out examples: what `evaluate` measures, for each shipped format."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ft_tools.errors import BadData
from ft_tools.evaluation.held_out import read_held_out
from ft_tools.evaluation.results import Scores
from ft_tools.evaluation.systems.asking import asked_as, read_document
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.metrics.choose import choose_metrics
from ft_tools.metrics.scores import Scoring
from ft_tools.metrics.table import score_outputs

MAX_NEW_TOKENS = 96
ROOM_TOKENS = 8


@dataclass(frozen=True)
class Task:
    """Prompts with wanted answers, and the metrics that suit them."""

    conversations: list[list[dict[str, Any]]]
    """Each example up to its answer; empty for plain text."""
    prompts: list[list[int]]
    references: list[str]
    metrics: list[str]
    max_new_tokens: int

    def scores(self, tokenizer: Any, answers: Sequence[list[int]]) -> Scores:
        """Return each metric of each answer, given as ids."""
        texts = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in answers]
        return score_outputs(self.metrics, texts, Scoring(self.references))


def task_of(
    tokens: Callable[[Any], list[int]],
    path: Path | None,
    max_examples: int,
    spec: SystemSpec | None,
) -> Task | None:
    """Read the task of a held-out file; None where its examples have no wanted answer.

    Args:
        tokens: Ids of a conversation up to its answer, or of a text.
        path: The held-out file.
        max_examples: The first so many are taken: each format answers them all.
        spec: The evaluated system: its system text and user template; None: as in the file.
    """
    if path is None:
        return None
    try:
        examples = read_held_out(path, max_examples=max_examples)
        if spec is not None:
            document = read_document(spec)
            examples = [asked_as(spec, example, document=document) for example in examples]
    except BadData:
        return None
    references = [e.reference for e in examples]
    chosen = list(choose_metrics(["auto"], references))
    longest = max(len(tokens(text)) for text in references) + ROOM_TOKENS
    prompts = [tokens(e.messages or e.prompt) for e in examples]
    talks = [e.messages for e in examples]
    return Task(talks, prompts, references, chosen, min(MAX_NEW_TOKENS, longest))


def means(scores: Scores) -> dict[str, float]:
    """Return the mean of each metric."""
    return {name: round(fmean(values), 4) for name, values in scores.items()}
