"""Look for benchmark questions in prompts, word by word: n-grams find copies, not paraphrases.

The number of words is 13 (GPT-3, lm-evaluation-harness); with 8, 1.26% of GSM8K's own training
questions are flagged. Questions shorter than 13 words are compared whole. Paraphrases need the
semantic search of the worker.

Source: https://arxiv.org/abs/2005.14165 appendix C; facts/dataset section 0, finding 5.
"""

from collections.abc import Iterator
from pathlib import Path

from ft_tools.data.example import content_of
from ft_tools.data.formats import normalise
from ft_tools.data.ledger import WORDS, hash_of
from ft_tools.data.source import find_sources, read

NGRAM_WORDS = 13
MIN_WORDS = 5


class Benchmarks:
    """The word n-grams of benchmark questions, as hashes."""

    def __init__(self, paths: list[Path]) -> None:
        self.num_questions = 0
        self._grams: set[int] = set()
        self._short: set[int] = set()
        for path in paths:
            for question in questions_of(path):
                self._add(question)

    def matches(self, prompt: str) -> list[str]:
        """Return the finding's id if a question, or 13 words of one, is in the prompt."""
        if not self.num_questions:
            return []
        words = WORDS.findall(prompt.casefold())
        if len(words) <= NGRAM_WORDS:
            found = hash_of(" ".join(words)) in self._short or (
                len(words) == NGRAM_WORDS and hash_of(" ".join(words)) in self._grams
            )
        else:
            found = any(hash_of(gram) in self._grams for gram in _grams(words))
        return ["benchmark_ngram"] if found else []

    def _add(self, question: str) -> None:
        words = WORDS.findall(question.casefold())
        if len(words) < MIN_WORDS:
            return
        self.num_questions += 1
        if len(words) < NGRAM_WORDS:
            self._short.add(hash_of(" ".join(words)))
        self._grams.update(hash_of(gram) for gram in _grams(words))


def questions_of(path: Path) -> Iterator[str]:
    """Yield the questions of a benchmark file: its prompts, or its texts."""
    for source in find_sources(path):
        for row in read(source):
            if row.problem:
                continue
            example = normalise(row.number, row.value)
            if example.text is not None:
                yield example.text
            else:
                asked, _ = example.prompt_and_answer()
                yield "\n".join(content_of(m) for m in asked if m["role"] == "user")


def _grams(words: list[str]) -> Iterator[str]:
    for at in range(len(words) - NGRAM_WORDS + 1):
        yield " ".join(words[at : at + NGRAM_WORDS])
