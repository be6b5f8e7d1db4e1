"""Look for questions of benchmarks in prompts and answers, word by word: copies, not paraphrases.

Paraphrases need the search by meaning of the worker.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools.errors import BadData
from ft_tools.formats.example import content_of
from ft_tools.formats.formats import normalise
from ft_tools.formats.readers.source import find_sources, read
from ft_tools.similarity.ngrams import NGrams

# Columns of published benchmarks that no format of training data has, in lower case: MATH,
# HellaSwag, WinoGrande, PIQA, OpenBookQA, MT-Bench, SVAMP.
QUESTIONS = ("question", "problem", "ctx", "sentence", "goal", "question_stem", "turns", "body")


class Benchmarks:
    """The questions of benchmarks, and the runs of words in them."""

    def __init__(self, paths: list[Path]) -> None:
        """Read the questions.

        Raises:
            BadData: A file has no question that can be read.
        """
        self.questions: list[str] = []
        """Those that are long enough to be looked for."""
        self.num_too_short = 0
        self.num_without = 0
        """Rows in which no question was found."""
        self._runs = NGrams()
        for path in paths:
            before = self.num_questions + self.num_too_short
            for question in _questions_in(path):
                if not question:
                    self.num_without += 1
                elif self._runs.add(question):
                    self.questions.append(question)
                else:
                    self.num_too_short += 1
            if self.num_questions + self.num_too_short == before:
                problem = "no row has a benchmark question that is recognised"
                cure = "give the column with the questions the name `question`"
                raise BadData(path, problem, cure)

    @property
    def num_questions(self) -> int:
        """Return how many questions are looked for."""
        return len(self.questions)

    def matches(self, prompt: str, turns: Sequence[str] = (), answer: str = "") -> list[str]:
        """Return the finding's id if a question is in a prompt, one of its turns, or an answer."""
        return ["benchmark_ngram"] if self._runs.holds((prompt, *turns, answer)) else []


def _questions_in(path: Path) -> Iterator[str]:
    """Yield the question of each row; empty where none is recognised."""
    for source in find_sources(path):
        for row in read(source):
            yield "" if row.problem else _question(row.number, row.value)


def _question(number: int, row: Any) -> str:
    example = normalise(number, row)
    if example.text is not None:
        return example.text.strip()
    turns, _ = example.prompt_and_answer()
    asked = "\n".join(content_of(turn) for turn in turns if turn["role"] == "user").strip()
    return asked or _named(row)


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
