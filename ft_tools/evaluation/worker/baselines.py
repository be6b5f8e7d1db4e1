"""Simple baselines: the majority answer, TF-IDF with logistic regression, the nearest example."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from ft_tools.errors import MissingExtra
from ft_tools.evaluation.held_out import HeldOut, question_of
from ft_tools.evaluation.systems.classifier import learn
from ft_tools.evaluation.systems.spec import SimpleKind
from ft_tools.evaluation.systems.system import Answer, Batch, Stop
from ft_tools.metrics.text import label
from ft_tools.similarity.minilm import find_minilm


class SimpleSystem:
    """Answers what a simple method predicts from a training file."""

    def __init__(self, kind: SimpleKind, pool: Sequence[HeldOut]) -> None:
        self._kind = kind
        self._asked = [question_of(example) for example in pool]
        self._answers = [example.reference for example in pool]

    def answer(self, questions: Sequence[HeldOut], should_stop: Stop) -> Iterator[Batch]:
        """Learn, then answer all questions at once."""
        began = time.perf_counter()
        texts = self._predict([question_of(question) for question in questions])
        seconds = (time.perf_counter() - began) / len(texts)
        yield [(i, Answer(text, 0, True, seconds)) for i, text in enumerate(texts)]

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def _predict(self, questions: list[str]) -> list[str]:
        if self._kind == "majority":
            return [majority_answer(self._answers)] * len(questions)
        if self._kind == "tf_idf":
            return learn(self._asked, self._answers)(questions)
        return [self._answers[place] for place, *_ in nearest(questions, self._asked, 1)]


def majority_answer(references: Sequence[str]) -> str:
    """Return the most frequent answer.

    >>> majority_answer(["Yes", "no", "yes."])
    'Yes'
    """
    first: dict[str, str] = {}
    for reference in references:
        first.setdefault(label(reference), reference)
    return first[Counter(map(label, references)).most_common(1)[0][0]]


def nearest(questions: Sequence[str], pool: Sequence[str], count: int) -> list[list[int]]:
    """Return for each question the places of the most similar texts, the nearest first.

    Raises:
        MissingExtra: The embedding model is not installed.
    """
    vectors = [
        _minilm().encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        for texts in (questions, pool)
    ]
    similarity = np.asarray(vectors[0]) @ np.asarray(vectors[1]).T
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    return [[int(place) for place in row] for row in order]


@cache
def _minilm() -> Any:
    folder = find_minilm()
    if folder is None:
        raise MissingExtra("data", "all-MiniLM-L6-v2")
    # Loads torch, which the other baselines do without.
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")
