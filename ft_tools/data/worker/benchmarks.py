"""Find what paraphrases a benchmark question, in any question of an example, by meaning."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ft_tools import workspace
from ft_tools.data.read.scan import Scan
from ft_tools.data.read.texts import in_chunks, texts_of, without
from ft_tools.data.read.token_store import Column, TokenStore
from ft_tools.data.repeats.benchmarks import MIN_WORDS, questions_of
from ft_tools.data.repeats.neighbours import Rows, best_match
from ft_tools.data.repeats.word_pairs import WORDS
from ft_tools.data.request import AuditRequest
from ft_tools.data.worker.minilm import MiniLM, torch_product
from ft_tools.data.worker.prefilter import Tick
from ft_tools.data.worker.static_vectors import StaticVectors

# Measured on rephrase_gsm8k against gsm8k_test, with gsm8k_train as the rows that are no copies;
# the numbers are in references/data.md.
BENCHMARK_COSINE = 0.83
BENCHMARK_PREFILTER_BELOW = 0.15


@dataclass(frozen=True)
class Paraphrases:
    """A search among the benchmark files of a request."""

    model: MiniLM
    static: StaticVectors | None
    """Cheap vectors that say which texts MiniLM has to see; None: it sees all."""
    shared: frozenset[int]
    """Hashes of the prompt lines that are set aside."""
    tick: Tick

    def remove(
        self, scanned: Scan, request: AuditRequest, indices: NDArray[np.int64], asked: Column
    ) -> str:
        """Remove the examples whose prompt, or one question of it, is near; say how many.

        Args:
            scanned: The data.
            request: Names the benchmark files.
            indices: Of the examples, one for each text of `asked`.
            asked: Their prompts.
        """
        ledger = scanned.ledger
        paths = [workspace.existing(name) for name in request.benchmark_paths]
        store, numbers = self.model.store(
            question for path in paths for question in questions_of(path) if question
        )
        found: set[int] = set()
        for column, owners in ((asked, indices), self._questions(scanned, request)):
            if len(owners):
                texts = self._near(column, store)
                found.update(owners[np.isin(column.numbers, texts)].tolist())
        kept = [index for index in sorted(found) if not ledger.removal[index]]
        for index in kept:
            scanned.note("benchmark_semantic", index)
            if index >= ledger.num_validation:
                ledger.remove(index, "benchmark_semantic")
        return (
            f"{len(kept)} examples are within cosine {BENCHMARK_COSINE} of one of "
            f"{len(numbers)} benchmark questions"
        )

    def _questions(self, scanned: Scan, request: AuditRequest) -> tuple[Column, NDArray[np.int64]]:
        """Return the questions of conversations that ask several, and the index of each one's."""
        store = TokenStore()
        numbers: list[int] = []
        owners: list[int] = []
        for chunk in in_chunks(texts_of(scanned, request)):
            asked = [
                (texts.index, question)
                for texts in chunk
                for question in texts.questions
                if len(WORDS.findall(question)) >= MIN_WORDS
            ]
            owners += [index for index, _ in asked]
            cleared = [without(question, self.shared) for _, question in asked]
            numbers += [store.add(ids) for ids in self.model.tokens(cleared)]
            self.tick(chunk[-1].index, len(scanned.ledger))
        return Column(store, np.array(numbers, dtype=np.int64)), np.array(owners, dtype=np.int64)

    def _near(self, asked: Column, benchmark: TokenStore) -> Rows:
        """Return the numbers of the texts that are near a question of a benchmark."""
        every = np.arange(len(benchmark))
        texts: Rows = np.unique(asked.numbers)
        if self.static is not None:
            close = best_match(
                self.static.of(asked.store, texts), self.static.of(benchmark, every), torch_product
            )
            texts = texts[close >= BENCHMARK_COSINE - BENCHMARK_PREFILTER_BELOW]
        questions = self.model.encode(benchmark, every, exactly=True)
        for exactly, line in ((False, self.model.margin), (True, 0.0)):
            best = best_match(
                self.model.encode(asked.store, texts, exactly=exactly), questions, torch_product
            )
            texts = texts[best >= BENCHMARK_COSINE - line]
        return texts
