"""Look for benchmark questions in prompts, word by word: n-grams find copies, not paraphrases.

The number of words is 13 (GPT-3, lm-evaluation-harness); with 8, 1.26% of GSM8K's own training
questions are flagged. Questions shorter than 13 words are compared whole, with the
prompt and with each question of a conversation. Paraphrases need the
semantic search of the worker.

Source: https://arxiv.org/abs/2005.14165 appendix C; the shares of GSM8K are of its own files,
https://github.com/openai/grade-school-math, counted once.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools.data.read.ledger import hash_of
from ft_tools.data.repeats.word_pairs import WORDS
from ft_tools.errors import BadData
from ft_tools.examples.example import content_of
from ft_tools.examples.formats import normalise
from ft_tools.examples.source import find_sources, read

NGRAM_WORDS = 13
MIN_WORDS = 5
# Columns of benchmarks that no format of training data has, in lower case: MATH, HellaSwag,
# WinoGrande, PIQA, OpenBookQA, MT-Bench, SVAMP.
QUESTIONS = ("question", "problem", "ctx", "sentence", "goal", "question_stem", "turns", "body")


class Benchmarks:
    """The word n-grams of benchmark questions, as hashes."""

    def __init__(self, paths: list[Path]) -> None:
        """Read the questions.

        Raises:
            BadData: A file has no question that can be read.
        """
        self.num_questions = 0
        self.num_too_short = 0
        """Questions that are too short to be looked for word by word."""
        self.num_without = 0
        """Rows in which no question was found."""
        self._grams: set[int] = set()
        self._short: set[int] = set()
        for path in paths:
            before = self.num_questions + self.num_too_short
            for question in questions_of(path):
                self._add(question)
            if self.num_questions + self.num_too_short == before:
                raise BadData(
                    path,
                    "no row has a benchmark question that is recognised",
                    "give the column with the questions the name `question`",
                )

    def matches(self, prompt: str, turns: Sequence[str] = ()) -> list[str]:
        """Return the finding's id if a question, or 13 words of one, is in the prompt.

        Args:
            prompt: All that was said before the answer.
            turns: The questions in it, each of which may be a short one.
        """
        if not self.num_questions:
            return []
        words = WORDS.findall(prompt.casefold())
        found = any(hash_of(gram) in self._grams for gram in _grams(words))
        for turn in (prompt, *turns) if self._short and not found else ():
            words = WORDS.findall(turn.casefold())
            found = found or (len(words) < NGRAM_WORDS and hash_of(" ".join(words)) in self._short)
        return ["benchmark_ngram"] if found else []

    def _add(self, question: str) -> None:
        if not question:
            self.num_without += 1
            return
        words = WORDS.findall(question.casefold())
        if len(words) < MIN_WORDS:
            self.num_too_short += 1
            return
        self.num_questions += 1
        if len(words) < NGRAM_WORDS:
            self._short.add(hash_of(" ".join(words)))
        self._grams.update(hash_of(gram) for gram in _grams(words))


def questions_of(path: Path) -> Iterator[str]:
    """Yield the question of each row of a benchmark file; empty where none is recognised."""
    for source in find_sources(path):
        for row in read(source):
            if row.problem:
                yield ""
                continue
            example = normalise(row.number, row.value)
            if example.text is not None:
                asked = example.text
            else:
                turns, _ = example.prompt_and_answer()
                asked = "\n".join(content_of(m) for m in turns if m["role"] == "user")
            yield asked.strip() or _named(row.value)


def _named(row: Any) -> str:
    """Return what the columns of a benchmark that is no training data ask.

    >>> _named({"Problem": "What is 2 + 2?", "level": "1"})
    'What is 2 + 2?'
    """
    if not isinstance(row, Mapping):
        return ""
    columns = {str(name).lower(): value for name, value in row.items()}
    for name in QUESTIONS:
        value = columns.get(name)
        if isinstance(value, Mapping):
            # The stem of a multiple choice, as ARC has it.
            value = value.get("stem")
        if isinstance(value, list) and all(isinstance(turn, str) for turn in value):
            value = "\n".join(value)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def _grams(words: list[str]) -> Iterator[str]:
    for at in range(len(words) - NGRAM_WORDS + 1):
        yield " ".join(words[at : at + NGRAM_WORDS])
