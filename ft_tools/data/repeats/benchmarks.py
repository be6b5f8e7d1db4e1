"""Look for parts of benchmarks in prompts and answers, word by word: copies, not paraphrases.

The number of words is 13 (GPT-3, lm-evaluation-harness); with 8, 1.26% of GSM8K's own training
questions are flagged. Questions shorter than 13 words are compared whole, with the
prompt and with each question of a conversation. Programs are compared with their names masked.
Paraphrases need the semantic search of the worker.

Source: https://arxiv.org/abs/2005.14165 appendix C; the shares of GSM8K are of its own files,
https://github.com/openai/grade-school-math, counted once.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ft_tools.data.read.ledger import hash_of
from ft_tools.data.repeats.benchmark_forms import Item, is_telling, items_of
from ft_tools.data.repeats.code_parts import (
    NGRAM_TOKENS,
    is_program,
    shape_of,
    without_comments,
)
from ft_tools.errors import BadData
from ft_tools.similarity.words import WORDS

NGRAM_WORDS = 13
MIN_WORDS = 5


class Benchmarks:
    """The word n-grams of benchmarks, and the runs of tokens of their programs, as hashes."""

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
        self.forms: Counter[str] = Counter()
        """Published benchmark -> rows of files that have its form."""
        self.parts: Counter[str] = Counter()
        """Part -> rows in which it can be looked for, or cannot."""
        self._grams: set[int] = set()
        self._short: set[int] = set()
        self._shapes: set[int] = set()
        for path in paths:
            before = self.num_questions + self.num_too_short
            for item in items_of(path):
                self._add(item)
            if self.num_questions + self.num_too_short == before:
                raise BadData(
                    path,
                    "no row has a benchmark question that is recognised",
                    "give the column with the questions the name `question`",
                )

    def matches(self, prompt: str, turns: Sequence[str] = (), answer: str = "") -> list[str]:
        """Return the finding's id if a part of a benchmark is in an example.

        Args:
            prompt: All that was said before the answer.
            turns: The questions in it, each of which may be a short one.
            answer: What is trained on, which may hold a question, a solution or a program, too.
        """
        if not self.num_questions:
            return []
        found = self._holds_words(prompt) or self._holds_words(answer)
        for turn in (prompt, *turns, answer) if self._short and not found else ():
            words = WORDS.findall(turn.casefold())
            found = found or (len(words) < NGRAM_WORDS and hash_of(" ".join(words)) in self._short)
        found = found or self._holds_program(prompt) or self._holds_program(answer)
        return ["benchmark_ngram"] if found else []

    def _holds_words(self, text: str) -> bool:
        words = WORDS.findall(text.casefold())
        return any(hash_of(gram) in self._grams for gram in _grams(words, NGRAM_WORDS))

    def _holds_program(self, text: str) -> bool:
        if not self._shapes or not is_program(text):
            return False
        shape = shape_of(without_comments(text))
        return any(hash_of(gram) in self._shapes for gram in _grams(shape, NGRAM_TOKENS))

    def _add(self, item: Item) -> None:
        if not item.question:
            self.num_without += 1
            return
        self.forms[item.benchmark] += bool(item.benchmark)
        words = WORDS.findall(item.question.casefold())
        if len(words) < MIN_WORDS:
            self.num_too_short += 1
            return
        self.num_questions += 1
        if len(words) < NGRAM_WORDS:
            self._short.add(hash_of(" ".join(words)))
        self._grams.update(map(hash_of, _grams(words, NGRAM_WORDS)))
        self._add_parts(item)

    def _add_parts(self, item: Item) -> None:
        if item.asked:
            self.parts["asked" if is_telling(item.asked) else "asked_too_general"] += 1
            words = WORDS.findall(item.asked.casefold())
            if is_telling(item.asked) and MIN_WORDS <= len(words) < NGRAM_WORDS:
                self._short.add(hash_of(" ".join(words)))
        if item.answer:
            grams = [*map(hash_of, _grams(WORDS.findall(item.answer.casefold()), NGRAM_WORDS))]
            self.parts["answer" if grams else "answer_too_short"] += 1
            self._grams.update(grams)
        if item.solution:
            shape = shape_of(without_comments(item.solution))
            grams = [*map(hash_of, _grams(shape, NGRAM_TOKENS))]
            self.parts["program" if grams else "program_too_short"] += 1
            self._shapes.update(grams)


def _grams(words: list[str], size: int) -> Iterator[str]:
    for at in range(len(words) - size + 1):
        yield " ".join(words[at : at + size])
