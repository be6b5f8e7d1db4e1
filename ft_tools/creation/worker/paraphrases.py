"""Find rows that ask by meaning what a test row asks, with MiniLM."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ft_tools.data.worker.near_by_meaning import BENCHMARK_BELOW
from ft_tools.similarity.token_store import Column
from ft_tools.similarity.worker.by_meaning import near_known
from ft_tools.similarity.worker.minilm import MiniLM


def find_paraphrases(
    minilm: Path,
    questions: Sequence[str],
    known: Sequence[str],
    cosine: float,
    tick: Callable[[int, int], None],
) -> list[bool]:
    """Return of each question whether a known one says the same."""
    model = MiniLM(minilm, tick)
    column = Column(*model.store(questions))
    near = near_known(model, column, known, cosine, BENCHMARK_BELOW)
    return [bool(near[number]) for number in column.numbers]
