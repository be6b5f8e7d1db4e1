"""Search for near-duplicates and paraphrased benchmark questions by meaning.

Two examples are near if prompt and answer are (or what `deduplicate_on` says). So only one field is
encoded for every example, the one with fewer tokens; the other one only where the first has a
partner. That changes nothing in what is found. In `fast` mode an example is encoded only if cheap
vectors put it near another. MiniLM reads the beginning of a text; where two are near that go on
behind it, their words must be near too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ft_tools.data.read.ledger import Ledger
from ft_tools.data.read.scanned import Scan
from ft_tools.data.read.texts import in_chunks, shared_lines, texts_of, unlike_in_words, without
from ft_tools.data.read.token_store import Column, TokenStore
from ft_tools.data.repeats.duplicates import remove_near
from ft_tools.data.repeats.near import Near
from ft_tools.data.repeats.near_by_meaning import (
    Mask,
    Matches,
    Rounding,
    Rows,
    Vectors,
    find_matches,
)
from ft_tools.data.repeats.prefilter import Nearest, Prefilter, has_neighbour, linked, partners
from ft_tools.data.request import AuditRequest
from ft_tools.data.split import will_split
from ft_tools.data.worker.benchmarks_by_meaning import Paraphrases
from ft_tools.data.worker.minilm import SIZE, MiniLM, Sharpener, torch_nearest, torch_product
from ft_tools.data.worker.prefilter import PREFILTER_BELOW, Phase, Tick, candidates
from ft_tools.data.worker.static_vectors import FITTED_ROWS, StaticVectors

Columns = Mapping[str, Column]
"""The parts of the examples, by the names that `Texts` has for them."""
PARTS = ("prompt", "answer", "rejected")

# Rows from which the prefilter pays. Source: benchmarks/audit.py
FAST_ROWS = 20_000


class Semantic:
    """Near-duplicates and benchmark paraphrases by meaning."""

    def __init__(self, model: MiniLM, phase: Phase, tick: Tick) -> None:
        self.model = model
        self._phase = phase
        self._tick = tick
        self._notes: list[str] = []
        self._shared: frozenset[int] = frozenset()
        """Hashes of the prompt lines that are set aside."""
        self._whole: dict[int, Vectors] = {}
        """Vectors of a column's every text, by the column's id: other rounds use them again."""
        self.encoded: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        """The examples whose first field the last search gave to MiniLM, by index."""

    def find(self, scanned: Scan, request: AuditRequest) -> Near:
        """Remove near-duplicates, then what paraphrases a benchmark question."""
        self._notes = []
        self._whole = {}
        indices, parts = self._read(scanned, request)
        prompts = parts["prompt"]
        compared = _compared(parts, request)
        mode = request.semantic_mode
        is_fast = mode == "fast" or (mode == "auto" and len(indices) > FAST_ROWS)
        threshold = request.near_duplicate_threshold
        static = None
        if is_fast and len(indices):
            self._phase("fitting the prefilter")
            static = StaticVectors(self.model, list(compared.values()), request.seed)
        num_near = 0
        passed: dict[tuple[str, ...], tuple[Rows, Mask]] = {}
        for one in _rounds(scanned.ledger, indices, compared):
            names = tuple(one.columns)
            if names not in passed:
                passed[names] = self._candidates(one.columns, threshold, static)
            nearest = None if static is None else torch_nearest
            num_near += self._remove(scanned, request, indices, one, passed[names], nearest)
        if will_split(request) and not prompts.is_empty:
            self._link_prompts(scanned, request, indices, prompts, static)
        if request.benchmark_paths:
            asked = parts["answer"] if prompts.is_empty else prompts
            answered = None if prompts.is_empty else parts["answer"]
            self._phase("looking for benchmark questions")
            search = Paraphrases(self.model, static, self._shared, self._tick)
            self._notes.append(search.remove(scanned, request, indices, asked, answered))
        name = (
            "fast: static prefilter, then MiniLM" if is_fast else "exact: MiniLM on every example"
        )
        method = f"semantic, {name}; cosine > {threshold}"
        return Near(num_near, method, tuple(self._notes), by_meaning=True)

    def _read(self, scanned: Scan, request: AuditRequest) -> tuple[NDArray[np.int64], Columns]:
        """Return the indices of the kept examples, and their parts as tokens."""
        self._phase("reading what is compared")
        self._shared = shared_lines(scanned, request)
        if self._shared:
            self._notes.append(f"{len(self._shared)} prompt lines of a template were set aside")
        ledger = scanned.ledger
        total = len(ledger.kept(validation=False)) + len(ledger.kept(validation=True))
        indices = np.empty(total, dtype=np.int64)
        parts = {name: Column(TokenStore(), np.empty(total, dtype=np.int64)) for name in PARTS}
        done = num_cut = 0
        for chunk in in_chunks(texts_of(scanned, request)):
            end = done + len(chunk)
            indices[done:end] = [texts.index for texts in chunk]
            read = {
                "prompt": [without(texts.prompt, self._shared) for texts in chunk],
                "answer": [texts.answer for texts in chunk],
                "rejected": [texts.rejected for texts in chunk],
            }
            for name, part in read.items():
                column = parts[name]
                for at, (ids, is_cut) in enumerate(self.model.read(part), done):
                    column.numbers[at] = column.store.add(ids, is_cut=is_cut)
                    num_cut += is_cut
            done = end
            self._tick(done, total)
        if num_cut:
            self._notes.append(
                f"{num_cut} texts are longer than the {self.model.max_tokens} tokens that MiniLM "
                "reads: their beginnings were compared, and the words of all of them where an "
                "example would go"
            )
        return indices, parts

    def _candidates(
        self, compared: Columns, threshold: float, static: StaticVectors | None
    ) -> tuple[Rows, Mask]:
        """Return the rows that may be near another, and which of them near another first field."""
        columns = list(compared.values())
        if static is None:
            total = len(columns[0].numbers)
            return np.arange(total), np.ones(total, dtype=np.bool_)
        rows, unlike, note = candidates(
            self.model, static, columns, threshold, self._phase, self._tick
        )
        self._notes.append(note)
        return rows, unlike

    def _remove(
        self,
        scanned: Scan,
        request: AuditRequest,
        indices: NDArray[np.int64],
        one: "_Round",
        passed: tuple[Rows, Mask],
        nearest: Nearest | None,
    ) -> int:
        """Remove the near-duplicates of a round; return how many are of training examples."""
        ledger, threshold = scanned.ledger, request.near_duplicate_threshold
        columns = list(one.columns.values())
        mine = one.rows[passed[0]]
        rows, unlike = passed[0][mine], passed[1][mine]
        self.encoded = indices[rows[unlike]]
        matches = self._matches(columns, (rows, unlike), threshold, nearest).of
        found = {
            int(indices[row]): (int(indices[kept]), score)
            for row, (kept, score) in sorted(matches.items())
            if not one.leaks_only or indices[kept] < ledger.num_validation <= indices[row]
        }
        doubtful = {
            int(indices[row]): (int(indices[kept]), names)
            for row, (kept, _) in matches.items()
            if int(indices[row]) in found and (names := _cut_parts(one.columns, row, kept))
        }
        if doubtful:
            self._phase("comparing the words of long texts")
            differ = unlike_in_words(scanned, request, self._shared, doubtful)
            self._notes.append(f"{len(differ)} examples begin as others do, and stay")
            found = {index: match for index, match in found.items() if index not in differ}
        return sum(
            remove_near(ledger, index, kept, score, scanned.note)
            for index, (kept, score) in found.items()
        )

    def _matches(
        self,
        columns: Sequence[Column],
        candidates: tuple[Rows, Mask],
        threshold: float,
        nearest: Nearest | None,
    ) -> Matches:
        """Return the removed rows with their matches, the same as with every field of every row.

        The mask tells which rows have a possible partner with another text in the first field; in
        the others every partner has the same text, and that is near without being encoded.
        """
        margin = self.model.margin
        rows, unlike = candidates
        fields: list[Vectors] = []
        for at, column in enumerate(columns):
            if not len(rows):
                return Matches({})
            numbers, places = np.unique(column.numbers[rows], return_inverse=True)
            vectors = self._encode_some(column, numbers, np.unique(places[unlike]))
            if at + 1 < len(columns):
                self._phase("comparing")
                others = columns[at + 1].numbers[rows]
                link = Prefilter(threshold - 2 * margin, self.model.near, nearest=nearest)
                stay, unlike = partners(vectors, places, others, link)
                rows, places, unlike = rows[stay], places[stay], unlike[stay]
                fields = [field[stay] for field in fields]
            fields.append(vectors[places])
        self._phase("comparing")
        total = len(rows)
        sharpener = Sharpener(self.model, columns, rows, fields)
        worst = 0.0
        for tried in (margin, 2 * margin):
            rounding = Rounding(tried, sharpener.sharpen, worst) if margin else None
            found = find_matches(
                fields, threshold, torch_product, lambda at: self._tick(at, total), rounding
            )
            worst = rounding.worst if rounding else 0.0
            if worst <= tried / 2:
                break
        else:
            # This data blurs more than the margin was measured for.
            self.model.use_float32()
            self._whole = {}
            return self._matches(columns, candidates, threshold, nearest)
        if margin:
            self._notes.append(
                f"encoded in bfloat16; {sharpener.num_exact} texts within {tried} of the "
                f"threshold again in float32, where cosines moved by {worst:.4f} at most"
            )
        return Matches({int(rows[a]): (int(rows[b]), score) for a, (b, score) in found.of.items()})

    def _encode_some(self, column: Column, numbers: Rows, wanted: Rows) -> Vectors:
        """Return the vectors of texts, (n, 384); only the wanted ones are MiniLM's.

        The others get a direction of their own, near nothing but itself.
        """
        whole = self._whole.get(id(column))
        if whole is not None:
            return whole[numbers]
        self._phase(f"encoding {len(wanted)} texts with MiniLM")
        if len(wanted) == len(column.store):
            self._whole[id(column)] = self.model.encode(column.store, numbers)
            return self._whole[id(column)]
        vectors = np.random.default_rng(0).standard_normal((len(numbers), SIZE), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[wanted] = self.model.encode(column.store, numbers[wanted])
        return vectors

    def _link_prompts(
        self,
        scanned: Scan,
        request: AuditRequest,
        indices: NDArray[np.int64],
        prompts: Column,
        static: StaticVectors | None,
    ) -> None:
        """Link examples whose prompts are near, so that the split keeps them together."""
        self._phase("linking near prompts")
        ledger = scanned.ledger
        rows = np.array(
            [at for at, index in enumerate(indices.tolist()) if not ledger.removal[index]]
        )
        if not len(rows):
            return
        numbers, places = np.unique(prompts.numbers[rows], return_inverse=True)
        threshold = request.near_duplicate_threshold
        if static is not None:
            # What the cheap vectors are off is on the side of keeping more together.
            prefilter = Prefilter(
                threshold - PREFILTER_BELOW / 2, self.model.near, nearest=torch_nearest
            )
            roots = linked(static.of(prompts.store, numbers), prefilter)
        else:
            roots = self._linked_prompts(prompts, numbers, threshold, request.seed)
        roots = roots[places]
        _, first = np.unique(roots, return_index=True)
        start = dict(zip(roots[first].tolist(), indices[rows[first]].tolist(), strict=True))
        for root, index in zip(roots.tolist(), indices[rows].tolist(), strict=True):
            ledger.link(index, start[root])

    def _linked_prompts(
        self, prompts: Column, numbers: NDArray[np.int64], threshold: float, seed: int
    ) -> Rows:
        """Return for each prompt the first one that MiniLM links it with.

        Where the search did not encode the prompts, the prefilter says which ones MiniLM sees.
        """
        # What bfloat16 is off is on the side of keeping more together, too.
        link = Prefilter(threshold - self.model.margin, self.model.near)
        whole = self._whole.get(id(prompts))
        if whole is not None:
            return linked(whole[numbers], link)
        near = np.arange(len(numbers))
        if len(numbers) > FITTED_ROWS:
            cheap = StaticVectors(self.model, [prompts], seed).of(prompts.store, numbers)
            prefilter = Prefilter(threshold - PREFILTER_BELOW, self.model.near)
            near = np.flatnonzero(has_neighbour(cheap, prefilter, near)[0])
        roots = np.arange(len(numbers))
        roots[near] = near[linked(self.model.encode(prompts.store, numbers[near]), link)]
        return roots


def semantic(folder: Path, phase: Phase, tick: Tick) -> Semantic:
    """Return a search with the model of a folder."""
    return Semantic(MiniLM(folder, tick), phase, tick)


@dataclass(frozen=True)
class _Round:
    """A search among some rows."""

    columns: Columns
    rows: Mask
    leaks_only: bool


def _rounds(ledger: Ledger, indices: NDArray[np.int64], compared: Columns) -> Iterator[_Round]:
    """Yield what is searched, one round after the other has removed its rows.

    Marked answers are compared with those that have the same mark. What leaks from the validation
    file does so whatever its mark or its rejected answer is.
    """
    labels = np.array(ledger.label)[indices]
    marks = np.unique(labels)
    loose = {name: column for name, column in compared.items() if name != "rejected"}
    if ledger.num_validation and loose and (len(loose) < len(compared) or len(marks) > 1):
        yield _Round(loose, np.ones(len(indices), dtype=np.bool_), leaks_only=True)
    for mark in marks:
        kept = np.array(ledger.removal)[indices] == 0
        yield _Round(compared, kept & (labels == mark), leaks_only=False)


def _compared(parts: Columns, request: AuditRequest) -> Columns:
    """Return the parts that are compared, the cheap one first; a text has an answer only."""
    names = ["answer", "rejected"]
    if not parts["prompt"].is_empty and request.deduplicate_on != "response":
        names = ["prompt"] if request.deduplicate_on == "prompt" else ["prompt", *names]
    if parts["rejected"].is_empty:
        names = [name for name in names if name != "rejected"]
    return {name: parts[name] for name in sorted(names, key=lambda name: parts[name].num_tokens)}


def _cut_parts(columns: Columns, row: int, kept: int) -> frozenset[str]:
    """Return which parts MiniLM did not read to the end, of a row and its match."""
    return frozenset(
        name
        for name, column in columns.items()
        if any(column.store.is_cut(int(column.numbers[at])) for at in (row, kept))
    )
