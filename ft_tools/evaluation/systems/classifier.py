"""Classify texts by TF-IDF with logistic regression, as `evaluate` measured it.

    pip install scikit-learn
    python classifier.py train.jsonl < mail.txt           # one question
    python classifier.py train.jsonl questions.jsonl      # one JSON string per line

It learns from the conversations of the training file in seconds, and needs no model and no GPU.
To serve it, keep what `train(path)` returns and call that. The evaluation left out of the file what
is a held-out question; this learns from all of it but answers that are marked bad.
"""

import json
import sys
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

# Terms that occur once in a large file are mostly typing errors.
RARE_FROM = 1000
MAX_CHARACTER_TERMS = 200_000
MAX_CLASSES, MIN_EXAMPLES_PER_CLASS = 100, 2

Predict = Callable[[list[str]], list[str]]


def train(path: str) -> Predict:
    """Learn from a file of JSON lines or a JSON array; returns what answers questions."""
    with open(path, encoding="utf-8-sig") as file:
        text = file.read()
    is_array = text.lstrip().startswith("[")
    rows = json.loads(text) if is_array else [json.loads(t) for t in text.split("\n") if t.strip()]
    # Marks of the KTO format.
    pairs = [_pair(row) for row in rows if "completion" not in row or row.get("label") is not False]
    return learn([asked for asked, _ in pairs], [answer for _, answer in pairs])


def learn(asked: list[str], answers: list[str]) -> Predict:
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


def columns_of(answers: Sequence[str]) -> dict[str | None, list[str]]:
    """Return what there is to predict: each key of JSON objects, else the whole answer under None.

    Of a JSON key the values are JSON, empty where it is missing.
    """
    parsed = [_object(answer) for answer in answers]
    if not all(parsed):
        names: dict[str, str] = {}
        # Answers that differ only in case or punctuation are one class, written as first seen.
        return {None: [names.setdefault(_label(answer), answer) for answer in answers]}
    keys = dict.fromkeys(key for value in parsed for key in value)
    return {
        key: [json.dumps(v[key], ensure_ascii=False) if key in v else "" for v in parsed]
        for key in keys
    }


def has_classes(values: Sequence[str]) -> bool:
    """Return whether the values are few enough to be classes."""
    few = min(MAX_CLASSES, len(values) // MIN_EXAMPLES_PER_CLASS)
    return 1 < len(set(values)) <= max(2, few)


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


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    """Return the question, which is the last user turn, and the answer of a training row."""
    turns = row.get("messages")
    if turns is None and isinstance(row["prompt"], str):
        return row["prompt"], row["completion"].strip()
    turns = turns or [*row["prompt"], *row["completion"]]
    users = [turn for turn in turns[:-1] if turn["role"] == "user"]
    return str(users[-1].get("content") or ""), str(turns[-1].get("content") or "").strip()


def _object(text: str) -> dict[str, Any]:
    """Return the JSON object of a text; empty if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _label(text: str) -> str:
    """Return a class name without case, spaces and punctuation around it."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return plain.strip(" .,:;!?\"'`*")


def _questions(paths: list[str]) -> list[str]:
    """Return the text on the standard input, or the JSON strings of a file."""
    if not paths:
        return [sys.stdin.read().strip()]
    with open(paths[0], encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def _main() -> None:
    if find_spec("sklearn") is None:
        sys.exit(f"{sys.executable} has no scikit-learn: pip install scikit-learn")
    if len(sys.argv) not in {2, 3}:
        sys.exit(f"usage: {sys.argv[0]} train.jsonl [questions.jsonl]")
    for found in train(sys.argv[1])(_questions(sys.argv[2:])):
        sys.stdout.write(found + "\n")


if __name__ == "__main__":
    _main()
