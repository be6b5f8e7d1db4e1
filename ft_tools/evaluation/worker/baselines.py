"""Simple baselines: the majority answer, TF-IDF with logistic regression, the nearest example."""

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from functools import cache
from typing import Any

import numpy as np

from ft_tools.errors import MissingExtra
from ft_tools.evaluation.held_out import HeldOut, question_of
from ft_tools.evaluation.systems.answers import Answer, Batch
from ft_tools.evaluation.systems.spec import SimpleKind
from ft_tools.metrics.answers import columns_of, has_classes
from ft_tools.metrics.text import label
from ft_tools.similarity.minilm import find_minilm

RARE_FROM = 1000
"""Examples from which terms that occur once are left out: mostly typing errors."""
MAX_CHARACTER_TERMS = 200_000
Predict = Callable[[list[str]], list[str]]


def ask_simple(
    kind: SimpleKind, pool: Sequence[HeldOut], questions: Sequence[HeldOut]
) -> Generator[Batch]:
    """Learn from a pool, then answer all questions at once."""
    began = time.perf_counter()
    asked = [question_of(question) for question in questions]
    known, answers = [question_of(one) for one in pool], [one.reference for one in pool]
    if kind == "majority":
        texts = [majority_answer(answers)] * len(asked)
    elif kind == "tf_idf":
        texts = tf_idf(known, answers)(asked)
    else:
        texts = [answers[place] for place, *_ in nearest(asked, known, 1)]
    seconds = (time.perf_counter() - began) / len(texts)
    yield [(i, Answer(text, seconds=seconds)) for i, text in enumerate(texts)]


def majority_answer(references: Sequence[str]) -> str:
    """Return the most frequent answer.

    >>> majority_answer(["Yes", "no", "yes."])
    'Yes'
    """
    first: dict[str, str] = {}
    for reference in references:
        first.setdefault(label(reference), reference)
    return first[Counter(map(label, references)).most_common(1)[0][0]]


def tf_idf(asked: list[str], answers: list[str]) -> Predict:
    """Learn each key of JSON answers, or the whole answer; returns what answers questions."""
    predictors = {key: _column(asked, values) for key, values in columns_of(answers).items()}
    if None in predictors:
        return predictors[None]

    def predict(questions: list[str]) -> list[str]:
        rows = zip(*(one(questions) for one in predictors.values()), strict=True)
        return [
            json.dumps(
                {key: json.loads(v) for key, v in zip(predictors, row, strict=True) if v},
                ensure_ascii=False,
            )
            for row in rows
        ]

    return predict


def _column(asked: list[str], values: list[str]) -> Predict:
    """Learn one column; its most frequent value is the answer if it has no classes."""
    if not has_classes(values):
        usual = Counter(values).most_common(1)[0][0]
        return lambda questions: [usual] * len(questions)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    min_df = 2 if len(asked) >= RARE_FROM else 1
    # Words for languages with spaces; parts of words for all others, and for typing errors.
    terms = make_union(
        TfidfVectorizer(ngram_range=(1, 2), min_df=min_df, sublinear_tf=True),
        TfidfVectorizer(
            analyzer="char_wb",
            ngram_range=(2, 4),
            min_df=min_df,
            sublinear_tf=True,
            max_features=MAX_CHARACTER_TERMS,
        ),
    )
    model = make_pipeline(terms, LogisticRegression(C=10, max_iter=300, class_weight="balanced"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(asked, values)
    return lambda questions: [str(value) for value in model.predict(questions)]


def nearest(questions: Sequence[str], pool: Sequence[str], count: int) -> list[list[int]]:
    """Return for each question the places of the most similar texts, the nearest first."""
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
