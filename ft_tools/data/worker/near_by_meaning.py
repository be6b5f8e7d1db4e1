"""Remove the near-duplicates of an audit, and paraphrased benchmark questions, by meaning.

What many prompts share line by line (a template, a preamble) is set aside, so that it does not make
them all alike; where nothing else would be left, the prompt stays whole.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ft_tools import workspace
from ft_tools.data.judge.findings import note
from ft_tools.data.read.example_texts import text_of
from ft_tools.data.read.ledger import hash_of
from ft_tools.data.read.scan import Scan
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.repeats.duplicates import remove_near
from ft_tools.data.repeats.near import Near, link_before_split
from ft_tools.data.request import AuditRequest
from ft_tools.formats.example import content_of
from ft_tools.similarity.ngrams import SIZE
from ft_tools.similarity.token_store import Column, TokenStore
from ft_tools.similarity.words import KEPT, most_of_one
from ft_tools.similarity.worker.by_meaning import Phase, RowTexts, Tick, find_near, near_known
from ft_tools.similarity.worker.minilm import MiniLM

Columns = Mapping[str, Column]
"""The parts of the examples, by the names that `Texts` has for them."""
PARTS = ("prompt", "answer", "rejected")
# Measured on rephrase_gsm8k against gsm8k_test, with gsm8k_train as the rows that are no copies;
# the numbers are in references/data.md.
MIN_LINE_CHARS = 12
SAMPLE_ROWS, CHUNK = 20_000, 4096
"""Rows whose prompts are looked at for what they share, and rows that are tokenized together."""
BENCHMARK_COSINE = 0.83
BENCHMARK_BELOW = 0.65
"""99% of the paraphrases that MiniLM finds have sketches with a cosine of 0.18 or more."""


class Texts(NamedTuple):
    """What an example says, by the parts that are compared."""

    at: int
    prompt: str
    answer: str
    rejected: str
    questions: tuple[str, ...]
    """What a conversation asks, one after another; empty if it asks once."""


class ByMeaning:
    """Near-duplicates and benchmark paraphrases by meaning."""

    def __init__(self, folder: Path, phase: Phase, tick: Tick) -> None:
        self.model = MiniLM(folder, tick)
        self._phase = phase
        self._tick = tick
        self._questions = TokenStore()
        """What conversations ask that ask several times: one of it may be a benchmark's."""
        self._asked: list[tuple[int, int]] = []
        """Of each of these questions, its row and its number in the store."""

    def find(self, scanned: Scan, request: AuditRequest) -> Near:
        """Remove near-duplicates, then what paraphrases a benchmark question."""
        notes: list[str] = []
        indices, parts = self._read(scanned, request, notes)
        ledger, threshold = scanned.ledger, request.near_duplicate_threshold
        columns = _compared(parts, request)
        compared = RowTexts(
            list(columns.values()),
            [name != "rejected" for name in columns],
            np.array(ledger.label, dtype=np.int8)[indices],
            int(np.searchsorted(indices, ledger.num_validation)),
            lambda one, other: ledger.differ_in_numbers(int(indices[one]), int(indices[other])),
        )
        found = find_near(self.model, compared, threshold, self._phase, self._tick)
        num_near = sum(
            remove_near(ledger, int(indices[row]), int(indices[kept]), score, scanned.note)
            for row, kept, score in found.matches
        )
        for row in sorted(found.apart):
            scanned.note("alike_but_for_numbers", int(indices[row]))
        if found.num_compared < len(indices):
            notes.append(note("first_compared", count=found.num_compared, total=len(indices)))
        notes += link_before_split(scanned, request)
        if request.benchmark_paths:
            self._phase("looking for benchmark questions")
            notes.append(self._remove_paraphrases(scanned, request, indices, parts))
        method = f"semantic: MiniLM cosine > {threshold}"
        return Near(num_near, method, tuple(notes), by_meaning=True)

    def _read(
        self, scanned: Scan, request: AuditRequest, notes: list[str]
    ) -> tuple[NDArray[np.int64], Columns]:
        """Return the indices of the kept examples, and their parts as tokens."""
        self._phase("reading what is compared")
        shared = shared_lines(scanned)
        ledger = scanned.ledger
        total = len(ledger.kept(validation=False)) + len(ledger.kept(validation=True))
        indices = np.empty(total, dtype=np.int64)
        parts = {name: Column(TokenStore(), np.empty(total, dtype=np.int64)) for name in PARTS}
        done = 0
        rows = texts_of(scanned)
        while chunk := list(islice(rows, CHUNK)):
            end = done + len(chunk)
            indices[done:end] = [texts.at for texts in chunk]
            read = {
                "prompt": [without(texts.prompt, shared) for texts in chunk],
                "answer": [texts.answer for texts in chunk],
                "rejected": [texts.rejected for texts in chunk],
            }
            for name, part in read.items():
                column = parts[name]
                tokens = self.model.tokens(part)
                column.numbers[done:end] = [column.store.add(ids) for ids in tokens]
            if request.benchmark_paths:
                asked = [(at, q) for at, texts in enumerate(chunk, done) for q in texts.questions]
                tokens = self.model.tokens([question for _, question in asked])
                owned = zip(asked, map(self._questions.add, tokens), strict=True)
                self._asked += [(at, number) for (at, _), number in owned]
            done = end
            self._tick(done, total)
        longest = self.model.max_tokens
        if num_cut := sum(int((part.store.lengths() > longest).sum()) for part in parts.values()):
            notes.append(note("texts_cut_by_meaning", count=num_cut, most=longest))
        return indices, parts

    def _remove_paraphrases(
        self, scanned: Scan, request: AuditRequest, indices: NDArray[np.int64], parts: Columns
    ) -> str:
        """Remove the examples of which a part is near a benchmark question; say how many."""
        ledger = scanned.ledger
        benchmarks = Benchmarks([workspace.existing(name) for name in request.benchmark_paths])
        near = np.zeros(len(indices), dtype=np.bool_)
        # An answer that tells what a short question asks is no copy of the question.
        long = [one for one in benchmarks.questions if len(one.split()) >= SIZE]
        for name, questions in (("prompt", benchmarks.questions), ("answer", long)):
            column = parts[name]
            known = near_known(self.model, column, questions, BENCHMARK_COSINE, BENCHMARK_BELOW)
            near |= known[column.numbers]
        owners, placed = np.array(self._asked, dtype=np.int64).reshape(-1, 2).T
        column = Column(self._questions, placed)
        known = near_known(
            self.model, column, benchmarks.questions, BENCHMARK_COSINE, BENCHMARK_BELOW
        )
        near[owners[known[placed]]] = True
        kept = [index for index in indices[near].tolist() if not ledger.removal[index]]
        for index in kept:
            scanned.note("benchmark_semantic", index)
            if index >= ledger.num_validation:
                ledger.remove(index, "benchmark_semantic")
        numbers = {"questions": benchmarks.num_questions, "cosine": BENCHMARK_COSINE}
        return note("benchmarks_paraphrased", count=len(kept), **numbers)


def _compared(parts: Columns, request: AuditRequest) -> Columns:
    """Return the parts that are compared, the cheap one first; a text has an answer only."""
    names = ["answer", "rejected"]
    if not parts["prompt"].is_empty and request.deduplicate_on != "response":
        names = ["prompt"] if request.deduplicate_on == "prompt" else ["prompt", *names]
    if parts["rejected"].is_empty:
        names = [name for name in names if name != "rejected"]
    return {name: parts[name] for name in sorted(names, key=lambda name: parts[name].num_tokens)}


def texts_of(scanned: Scan) -> Iterator[Texts]:
    """Yield what each example says that is kept so far."""
    kept = {at for at, removal in enumerate(scanned.ledger.removal) if removal == KEPT}
    for index, _, example in scanned.examples_at(kept):
        asked, answered = example.prompt_and_answer()
        questions = tuple(content_of(turn) for turn in asked if turn["role"] == "user")
        several = questions if len(questions) > 1 else ()
        yield Texts(index, text_of(asked), text_of(answered), text_of(example.rejected), several)


def shared_lines(scanned: Scan) -> frozenset[int]:
    """Return the hashes of prompt lines that belong to a template."""
    counts: Counter[int] = Counter()
    num_seen = 0
    for texts in islice(texts_of(scanned), SAMPLE_ROWS):
        num_seen += 1
        lines = {line for line in _lines(texts.prompt) if len(line) >= MIN_LINE_CHARS}
        counts.update(map(hash_of, lines))
    limit = most_of_one(num_seen)
    return frozenset(line for line, count in counts.items() if count > limit)


def without(prompt: str, shared: frozenset[int]) -> str:
    r"""Return a prompt without the lines of a template.

    >>> without("You are a helpful model.\nAdd 1 and 2.", frozenset({hash_of("Add 1 and 2.")}))
    'You are a helpful model.'
    """
    if not shared:
        return prompt
    own = "\n".join(line for line in _lines(prompt) if hash_of(line) not in shared)
    return own if own.strip() else prompt


def _lines(prompt: str) -> list[str]:
    return [line.strip() for line in prompt.split("\n")]
