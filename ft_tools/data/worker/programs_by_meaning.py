"""Find programs that do what a benchmark's program does, with other names or in another language.

Three things are added up: the cosine of what the comments say, that of the whole programs, and
the values that both show in examples. None of them tells a paraphrase alone.

Source: benchmarks/contamination.py, fitted on the even problems of HumanEval
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ft_tools.data.read.token_store import TokenStore
from ft_tools.data.repeats.benchmark_forms import Item
from ft_tools.data.repeats.code_parts import FENCE, MAX_CHARS, comments_of, is_program, values_of
from ft_tools.data.repeats.near_by_meaning import Vectors
from ft_tools.data.worker.minilm import MiniLM, torch_product

WHOLE_WEIGHT = 0.4
VALUE_WEIGHT = 0.2
MAX_VALUES = 3
MIN_PROGRAM_SCORE = 0.84
MOST_OF_WHOLE = 0.95
"""The cosine of two whole programs is hardly above that, so most rows need not be encoded whole."""
ROWS = 512


class _Row(NamedTuple):
    """A program of an example."""

    owner: int
    comments: list[int]
    """Their numbers."""
    whole: int
    """Its number."""
    shared: "Counter[int]"
    """Item of the benchmark -> values that its examples have, too."""


class Programs:
    """The programs of a dataset, to be compared with those of a benchmark."""

    def __init__(self, model: MiniLM, items: Sequence[Item]) -> None:
        self._model = model
        self._items = [item for item in items if item.program]
        self._having: dict[str, list[int]] = defaultdict(list)
        for at, item in enumerate(self._items):
            for value in item.values:
                self._having[value].append(at)
        self._comments, self._wholes = TokenStore(), TokenStore()
        self._rows: list[_Row] = []

    def add(self, texts: Iterable[tuple[int, str]]) -> None:
        """Add (example, text); a text that holds no program is passed over."""
        programs = [(at, text) for at, text in texts if self._items and is_program(text)]
        wholes = self._model.tokens([FENCE.sub("\n", text[:MAX_CHARS]) for _, text in programs])
        for (index, text), whole in zip(programs, wholes, strict=True):
            shared: Counter[int] = Counter()
            for value in values_of(text):
                shared.update(self._having.get(value, ()))
            comments = [self._comments.add(ids) for ids in self._model.tokens(comments_of(text))]
            self._rows.append(_Row(index, comments, self._wholes.add(whole), shared))

    def near(self) -> set[int]:
        """Return the examples whose programs score at least `MIN_PROGRAM_SCORE`."""
        least = MIN_PROGRAM_SCORE - WHOLE_WEIGHT * MOST_OF_WHOLE
        scored = zip(self._rows, self._first_scores(), strict=True)
        doubtful = [(row, score) for row, score in scored if score.max() >= least]
        found: set[int] = set()
        if not doubtful:
            return found
        store, numbers = self._model.store(item.program for item in self._items)
        there = self._model.encode(store, numbers, exactly=True)
        for start in range(0, len(doubtful), ROWS):
            part = doubtful[start : start + ROWS]
            wholes = np.array([row.whole for row, _ in part], dtype=np.int64)
            here = self._model.encode(self._wholes, wholes, exactly=True)
            scores = np.stack([score for _, score in part])
            scores += WHOLE_WEIGHT * torch_product(here, there)
            hits = scores.max(axis=1) >= MIN_PROGRAM_SCORE
            found.update(row.owner for (row, _), hit in zip(part, hits, strict=True) if hit)
        return found

    def _first_scores(self) -> Iterator[Vectors]:
        """Yield what each row scores by its comments and values, with each item."""
        said = np.zeros((len(self._comments), len(self._items)), dtype=np.float32)
        commented = [at for at, item in enumerate(self._items) if item.comment]
        if len(self._comments) and commented:
            store, numbers = self._model.store(self._items[at].comment for at in commented)
            there = self._model.encode(store, numbers, exactly=True)
            every = np.arange(len(self._comments))
            here = self._model.encode(self._comments, every, exactly=True)
            said[:, commented] = torch_product(here, there)
        for row in self._rows:
            score = np.zeros(len(self._items), dtype=np.float32)
            if row.comments:
                score = said[row.comments].max(axis=0)
            for at, count in row.shared.items():
                score[at] += VALUE_WEIGHT * min(count, MAX_VALUES)
            yield score
