"""Find what paraphrases a part of a benchmark, in any part of an example, by meaning."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ft_tools import workspace
from ft_tools.data.read.scanned import Scan
from ft_tools.data.read.texts import Texts, in_chunks, texts_of, without
from ft_tools.data.read.token_store import Column, TokenStore
from ft_tools.data.repeats.benchmark_forms import Item, is_telling, items_of, last_part
from ft_tools.data.repeats.benchmarks import MIN_WORDS, NGRAM_WORDS
from ft_tools.data.repeats.code_parts import is_program
from ft_tools.data.repeats.near_by_meaning import Mask, Rows, Vectors, best_match
from ft_tools.data.request import AuditRequest
from ft_tools.data.worker.minilm import MiniLM, torch_product
from ft_tools.data.worker.prefilter import Tick
from ft_tools.data.worker.programs_by_meaning import MIN_PROGRAM_SCORE, Programs
from ft_tools.data.worker.static_vectors import StaticVectors
from ft_tools.similarity.words import WORDS

# Measured on rephrase_gsm8k against gsm8k_test, with gsm8k_train as the rows that are no copies;
# the numbers are in references/data.md.
BENCHMARK_COSINE = 0.83
# For a question without its choices or the passage before it, and for what a program does said in
# a prompt. Source: benchmarks/contamination.py
ASKED_COSINE = 0.78
TASK_COSINE = 0.85
BENCHMARK_PREFILTER_BELOW = 0.15

Compared = tuple[Column, NDArray[np.int64]]
"""Texts, and the example of each."""


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
        self,
        scanned: Scan,
        request: AuditRequest,
        indices: NDArray[np.int64],
        asked: Column,
        answered: Column | None,
    ) -> str:
        """Remove the examples that are near a part of a benchmark; say how many.

        Args:
            scanned: The data.
            request: Names the benchmark files.
            indices: Of the examples, one for each text of `asked` and of `answered`.
            asked: Their prompts, or their texts.
            answered: Their answers, if they have prompts.
        """
        ledger = scanned.ledger
        paths = [workspace.existing(name) for name in request.benchmark_paths]
        items = [item for path in paths for item in items_of(path) if item.question]
        questions, lasts, programs = self._read(scanned, request, items)
        prompts: list[Compared] = [(asked, indices), questions]
        answers: list[Compared] = [] if answered is None else [(answered, indices)]
        whole = self._known([item.question for item in items], BENCHMARK_COSINE)
        # An answer that tells what a short question asks is no copy of the question. A
        # program is compared as one: whatever counts vowels is near the question that asks for it.
        long = whole.only(
            [not i.program and len(WORDS.findall(i.question)) >= NGRAM_WORDS for i in items]
        )
        told = [item.asked for item in items if is_telling(item.asked)]
        alone = self._known(told, ASKED_COSINE)
        tasks = self._known([item.comment for item in items if item.comment], TASK_COSINE)
        in_prompts = self._near(prompts, [whole, alone, tasks])
        found = {
            "a question": in_prompts[0] | self._near(answers, [long])[0],
            "a question without its passage or choices": in_prompts[1]
            | self._near([lasts], [alone])[0],
            "a program": in_prompts[2] | programs.near(),
        }
        kept = [at for at in sorted(set().union(*found.values())) if not ledger.removal[at]]
        for index in kept:
            scanned.note("benchmark_semantic", index)
            if index >= ledger.num_validation:
                ledger.remove(index, "benchmark_semantic")
        said = ", ".join(f"{len(part)} {name}" for name, part in found.items() if part)
        return (
            f"{len(kept)} examples paraphrase a part of one of {len(items)} benchmark questions"
            f"{f' ({said})' if said else ''}: cosines {BENCHMARK_COSINE} for a question, "
            f"{ASKED_COSINE} without its passage or choices, {TASK_COSINE} for what a program "
            f"does; a program with comments by a score of {MIN_PROGRAM_SCORE}. Translations into "
            "other natural languages are not found"
        )

    def _read(
        self, scanned: Scan, request: AuditRequest, items: list[Item]
    ) -> tuple[Compared, Compared, Programs]:
        """Read the texts again for their parts.

        Returns:
            The questions of conversations that ask several, what prompts ask without a passage or
            choices, and the programs.
        """
        questions, lasts = _Owned(self), _Owned(self)
        programs = Programs(self.model, items)
        for chunk in in_chunks(texts_of(scanned, request)):
            questions.add(
                (texts.index, question)
                for texts in chunk
                for question in texts.questions
                if len(WORDS.findall(question)) >= MIN_WORDS
            )
            lasts.add((texts.index, last) for texts in chunk for last in _last_parts(texts))
            programs.add((t.index, text) for t in chunk for text in (t.prompt, t.answer))
            self.tick(chunk[-1].index, len(scanned.ledger))
        return questions.column(), lasts.column(), programs

    def _known(self, texts: Sequence[str], cosine: float) -> "_Known":
        """Return the vectors of texts of the benchmarks."""
        store, numbers = self.model.store(texts)
        every = np.arange(len(store))
        cheap = None if self.static is None else self.static.of(store, every)[numbers]
        return _Known(self.model.encode(store, every, exactly=True)[numbers], cheap, cosine)

    def _near(self, compared: Iterable[Compared], known: "Sequence[_Known]") -> list[set[int]]:
        """Return for each group of the benchmarks' texts the examples that are near one of it."""
        found: list[set[int]] = [set() for _ in known]
        for column, owners in compared:
            if len(owners):
                for group, texts in zip(found, self._near_texts(column, known), strict=True):
                    group.update(owners[np.isin(column.numbers, texts)].tolist())
        return found

    def _near_texts(self, asked: Column, known: "Sequence[_Known]") -> Iterator[Rows]:
        """Yield for each group the numbers of the texts near one of it; each is encoded once."""
        texts: Rows = np.unique(asked.numbers)
        if self.static is not None:
            cheap = self.static.of(asked.store, texts)
            passes = [group.may_hold(cheap) for group in known]
            texts = texts[np.any(passes, axis=0)]
        vectors = self.model.encode(asked.store, texts)
        for group in known:
            close = texts[group.best(vectors) >= group.cosine - self.model.margin]
            exact = self.model.encode(asked.store, close, exactly=True)
            yield close[group.best(exact) >= group.cosine]


class _Known(NamedTuple):
    """Texts of the benchmarks, as vectors, and how near to one a copy is."""

    vectors: Vectors
    cheap: Vectors | None
    cosine: float

    def best(self, rows: Vectors) -> Vectors:
        """Return each row's highest cosine with any of the texts."""
        return best_match(rows, self.vectors, torch_product)

    def may_hold(self, rows: Vectors) -> Mask:
        """Tell which rows cheap vectors put near one of the texts."""
        assert self.cheap is not None
        best = best_match(rows, self.cheap, torch_product)
        near: Mask = best >= self.cosine - BENCHMARK_PREFILTER_BELOW
        return near

    def only(self, wanted: Sequence[bool]) -> "_Known":
        """Return some of them."""
        rows = np.flatnonzero(wanted)
        cheap = None if self.cheap is None else self.cheap[rows]
        return _Known(self.vectors[rows], cheap, self.cosine)


class _Owned:
    """Texts that are no column of the data, and the example of each."""

    def __init__(self, search: Paraphrases) -> None:
        self._search = search
        self._store = TokenStore()
        self._numbers: list[int] = []
        self._owners: list[int] = []

    def add(self, texts: Iterable[tuple[int, str]]) -> None:
        """Add (example, text)."""
        pairs = list(texts)
        self._owners += [index for index, _ in pairs]
        cleared = [without(text, self._search.shared) for _, text in pairs]
        self._numbers += [self._store.add(ids) for ids in self._search.model.tokens(cleared)]

    def column(self) -> Compared:
        """Return what was added."""
        numbers = np.array(self._numbers, dtype=np.int64)
        return Column(self._store, numbers), np.array(self._owners, dtype=np.int64)


def _last_parts(texts: Texts) -> Iterable[str]:
    """Yield what each prompt asks without its passage or choices, where it has any."""
    prompts = texts.questions or (texts.prompt or texts.answer,)
    return filter(None, (last_part(text) for text in prompts if not is_program(text)))
