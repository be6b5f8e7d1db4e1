"""Search for near-duplicates and paraphrased benchmark questions by meaning.

Two examples are near if prompt and answer are (or what `deduplicate_on` says). So only one field is
encoded for every example, the one with fewer tokens; the other one only where the first has a
partner. That changes nothing in what is found. In `fast` mode an example is encoded only if cheap
vectors put it near another.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ft_tools import workspace
from ft_tools.data.audit import Near
from ft_tools.data.contamination import questions_of
from ft_tools.data.duplicates import remove_near
from ft_tools.data.gate import Drawn, Gate, has_neighbour, linked
from ft_tools.data.neighbours import Blur, Rows, Twins, Vectors, best_match, find_twins
from ft_tools.data.reports import AuditRequest
from ft_tools.data.scan import Scan
from ft_tools.data.split import will_split
from ft_tools.data.texts import shared_lines, texts_of, without
from ft_tools.data.token_store import Column, TokenStore
from ft_tools.workers.audit_minilm import MiniLM, torch_product
from ft_tools.workers.audit_static import FITTED_ROWS, STATIC_SIZE, StaticVectors

Phase = Callable[[str], None]
Tick = Callable[[int, int], None]
Texts = tuple[int, str, str]

# Rows from which the gate pays. Source: benchmarks/audit.py
FAST_ROWS = 20_000
# Cheap cosine below the threshold at which a pair still goes to MiniLM, for one field and for the
# mean of two: at most 0.5% of the pairs that MiniLM puts above 0.95 are lost. The mean is nearer to
# the truth: the same loss field by field passes half as many again. Source: benchmarks/audit.py
GATE_BELOW = 0.10
MEAN_GATE_BELOW = 0.05
# Pairs drawn from just below the gate and from above it, to measure what it misses.
DRAWN_BELOW = 0.05
DRAWN_PAIRS = 256
CHUNK = 4096
# Measured on rephrase_gsm8k against gsm8k_test, with gsm8k_train as the rows that are no copies;
# the numbers are in references/data.md.
BENCHMARK_COSINE = 0.83
BENCHMARK_GATE_BELOW = 0.15


class Semantic:
    """Near-duplicates and benchmark paraphrases by meaning."""

    def __init__(self, model: MiniLM, phase: Phase, tick: Tick) -> None:
        self.model = model
        self._phase = phase
        self._tick = tick
        self._notes: list[str] = []
        self._whole: dict[int, Vectors] = {}
        """Vectors of a column's every text, by the column's id: linking prompts uses them again."""
        self.encoded: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        """The examples that the last search compared with MiniLM, by index."""

    def find(self, scanned: Scan, request: AuditRequest) -> Near:
        """Remove near-duplicates, then what paraphrases a benchmark question."""
        self._notes = []
        self._whole = {}
        indices, prompts, answers = self._read(scanned, request)
        compared = _compared(prompts, answers, request)
        mode = request.semantic_mode
        is_fast = mode == "fast" or (mode == "auto" and len(indices) > FAST_ROWS)
        threshold = request.near_duplicate_threshold
        rows = np.arange(len(indices))
        static = None
        if is_fast and len(indices):
            self._phase("fitting the gate")
            static = StaticVectors(self.model, compared, request.seed)
            rows = self._candidates(static, compared, threshold)
        self.encoded = indices[rows]
        twins = self._twins(compared, rows, threshold)
        num_near = 0
        for row, (kept, score) in sorted(twins.of.items()):
            num_near += remove_near(
                scanned.ledger, int(indices[row]), int(indices[kept]), score, scanned.note
            )
        if will_split(request) and not prompts.is_empty:
            self._link_prompts(scanned, request, indices, prompts, static)
        if request.benchmark_paths:
            asked = answers if prompts.is_empty else prompts
            self._benchmarks(scanned, request, indices, asked, static)
        name = "fast: static gate, then MiniLM" if is_fast else "exact: MiniLM on every example"
        return Near(num_near, f"semantic, {name}; cosine > {threshold}", tuple(self._notes))

    def _read(
        self, scanned: Scan, request: AuditRequest
    ) -> tuple[NDArray[np.int64], Column, Column]:
        """Return the indices of the kept examples, and their prompts and answers as tokens."""
        self._phase("reading what is compared")
        shared = shared_lines(scanned, request)
        if shared:
            self._notes.append(f"{len(shared)} prompt lines of a template were set aside")
        ledger = scanned.ledger
        total = len(ledger.kept(validation=False)) + len(ledger.kept(validation=True))
        indices = np.empty(total, dtype=np.int64)
        stores = TokenStore(), TokenStore()
        numbers = np.empty((2, total), dtype=np.int64)
        done = 0
        for chunk in _chunks(texts_of(scanned, request)):
            end = done + len(chunk)
            indices[done:end] = [index for index, _, _ in chunk]
            texts = [without(p, shared) for _, p, _ in chunk], [a for _, _, a in chunk]
            for store, field, part in zip(stores, numbers, texts, strict=True):
                field[done:end] = [store.add(ids) for ids in self.model.tokens(part)]
            done = end
            self._tick(done, total)
        return indices, Column(stores[0], numbers[0]), Column(stores[1], numbers[1])

    def _candidates(
        self, static: StaticVectors, columns: Sequence[Column], threshold: float
    ) -> Rows:
        """Return which rows the gate puts near another, and note what it may miss."""
        gate = threshold - (GATE_BELOW if len(columns) == 1 else MEAN_GATE_BELOW)
        self._phase(f"gate: static cosine >= {gate:.2f}")
        total = len(columns[0].numbers)
        vectors = _side_by_side(static, columns)
        below = Drawn(gate - DRAWN_BELOW, gate, DRAWN_PAIRS)
        above = Drawn(gate, 2.0, DRAWN_PAIRS)
        near = has_neighbour(
            vectors, Gate(gate, torch_product, lambda at: self._tick(at, total), (below, above))
        )
        del vectors
        self._phase("measuring the gate")
        missed = self._share_near(below, columns, threshold) * below.num_pairs
        found = self._share_near(above, columns, threshold) * above.num_pairs
        recall = found / (found + missed) if found + missed else 1.0
        rows = np.flatnonzero(near)
        self._notes.append(
            f"gate at static cosine {gate:.2f}: {len(rows)} of {total} examples went to MiniLM; "
            f"pair recall about {recall:.1%}, from {len(below.pairs)} pairs drawn of "
            f"{below.num_pairs} just below it and {len(above.pairs)} of {above.num_pairs} above"
        )
        return rows

    def _share_near(self, drawn: Drawn, columns: Sequence[Column], threshold: float) -> float:
        """Return which share of the drawn pairs MiniLM puts above the threshold."""
        if not len(drawn.pairs):
            return 0.0
        near = np.ones(len(drawn.pairs), dtype=np.bool_)
        for column in columns:
            pairs = column.numbers[drawn.pairs[near]]
            numbers, places = np.unique(pairs, return_inverse=True)
            vectors = self.model.encode(column.store, numbers)
            a, b = places.reshape(-1, 2).T
            near[near] = np.einsum("ij,ij->i", vectors[a], vectors[b]) > threshold
            if not near.any():
                break
        return float(near.mean())

    def _twins(self, columns: Sequence[Column], rows: Rows, threshold: float) -> Twins:
        """Return the removed rows with their twins, the same as with every field of every row."""
        margin = self.model.margin
        fields: list[Vectors] = []
        for at, column in enumerate(columns):
            if not len(rows):
                return Twins({})
            numbers, places = np.unique(column.numbers[rows], return_inverse=True)
            self._phase(f"encoding {len(numbers)} texts with MiniLM")
            vectors = self.model.encode(column.store, numbers)
            if len(numbers) == len(column.store):
                self._whole[id(column)] = vectors
            if at + 1 < len(columns):
                self._phase("comparing")
                stay = _partners(vectors, places, threshold - margin)
                rows, places = rows[stay], places[stay]
                fields = [field[stay] for field in fields]
            fields.append(vectors[places])
        self._phase("comparing")
        blur = None
        if margin:
            blur = Blur(margin, _Sharpener(self.model, columns, rows, fields).sharpen)
        total = len(rows)
        found = find_twins(fields, threshold, torch_product, lambda at: self._tick(at, total), blur)
        if blur is not None and blur.worst > margin / 2:
            # This data blurs more than the margin was measured for.
            self.model.use_float32()
            return self._twins(columns, rows, threshold)
        if blur is not None:
            self._notes.append(
                f"encoded in bfloat16; {blur.num_sharpened} examples within {margin} of the "
                f"threshold again in float32, where cosines moved by {blur.worst:.4f} at most"
            )
        return Twins({int(rows[a]): (int(rows[b]), score) for a, (b, score) in found.of.items()})

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
        rows = np.array([at for at, index in enumerate(indices.tolist()) if not ledger.fate[index]])
        if not len(rows):
            return
        numbers, places = np.unique(prompts.numbers[rows], return_inverse=True)
        threshold = request.near_duplicate_threshold
        if static is not None:
            # What the cheap vectors are off is on the side of keeping more together.
            gate = Gate(threshold - GATE_BELOW / 2, torch_product)
            roots = linked(static.of(prompts.store, numbers), gate)
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

        Where the search did not encode the prompts, the gate says which ones MiniLM has to see.
        """
        # What bfloat16 is off is on the side of keeping more together, too.
        link = Gate(threshold - self.model.margin, torch_product)
        whole = self._whole.get(id(prompts))
        if whole is not None:
            return linked(whole[numbers], link)
        near = np.arange(len(numbers))
        if len(numbers) > FITTED_ROWS:
            cheap = StaticVectors(self.model, [prompts], seed).of(prompts.store, numbers)
            near = np.flatnonzero(has_neighbour(cheap, Gate(threshold - GATE_BELOW, torch_product)))
        roots = np.arange(len(numbers))
        roots[near] = near[linked(self.model.encode(prompts.store, numbers[near]), link)]
        return roots

    def _benchmarks(
        self,
        scanned: Scan,
        request: AuditRequest,
        indices: NDArray[np.int64],
        asked: Column,
        static: StaticVectors | None,
    ) -> None:
        """Remove the examples whose prompt paraphrases a benchmark question."""
        self._phase("looking for benchmark questions")
        paths = [workspace.existing(name) for name in request.benchmark_paths]
        store, numbers = self.model.store(text for path in paths for text in questions_of(path))
        every = np.arange(len(store))
        texts = np.unique(asked.numbers)
        if static is not None:
            close = best_match(
                static.of(asked.store, texts), static.of(store, every), torch_product
            )
            texts = texts[close >= BENCHMARK_COSINE - BENCHMARK_GATE_BELOW]
        questions = self.model.encode(store, every, exactly=True)
        for exactly, line in ((False, self.model.margin), (True, 0.0)):
            best = best_match(
                self.model.encode(asked.store, texts, exactly=exactly), questions, torch_product
            )
            texts = texts[best >= BENCHMARK_COSINE - line]
        rows = np.flatnonzero(np.isin(asked.numbers, texts))
        kept = [index for index in indices[rows].tolist() if not scanned.ledger.fate[index]]
        for index in kept:
            scanned.note("benchmark_semantic", index)
            scanned.ledger.remove(index, "benchmark_semantic")
        self._notes.append(
            f"{len(kept)} examples are within cosine {BENCHMARK_COSINE} of one of "
            f"{len(numbers)} benchmark questions"
        )


def semantic(folder: Path, phase: Phase, tick: Tick) -> Semantic:
    """Return a search with the model of a folder."""
    return Semantic(MiniLM(folder, tick), phase, tick)


class _Sharpener:
    """Replaces vectors in bfloat16 by those in float32, each distinct text once."""

    def __init__(
        self, model: MiniLM, columns: Sequence[Column], rows: Rows, fields: Sequence[Vectors]
    ) -> None:
        self._model = model
        self._fields = fields
        self._stores = [column.store for column in columns]
        self._numbers = [column.numbers[rows] for column in columns]
        self._exact: list[dict[int, Vectors]] = [{} for _ in columns]

    def sharpen(self, rows: Rows) -> None:
        """Make the vectors of some rows exact, in every field."""
        for store, numbers, exact, field in zip(
            self._stores, self._numbers, self._exact, self._fields, strict=True
        ):
            mine = numbers[rows].tolist()
            new = sorted(set(mine) - exact.keys())
            if new:
                made = self._model.encode(store, np.array(new, dtype=np.int64), exactly=True)
                exact.update(zip(new, made, strict=True))
            field[rows] = np.stack([exact[number] for number in mine])


def _compared(prompts: Column, answers: Column, request: AuditRequest) -> list[Column]:
    """Return the fields that are compared, the cheap one first; a text has an answer only."""
    if prompts.is_empty or request.deduplicate_on == "response":
        return [answers]
    if request.deduplicate_on == "prompt":
        return [prompts]
    return sorted((prompts, answers), key=lambda column: column.num_tokens)


def _side_by_side(static: StaticVectors, columns: Sequence[Column]) -> Vectors:
    """Return a cheap vector a row: the cosine of two is the mean of the cosines of the fields."""
    size = STATIC_SIZE
    joined = np.empty((len(columns[0].numbers), size * len(columns)), dtype=np.float32)
    for at, column in enumerate(columns):
        vectors = static.of(column.store, np.arange(len(column.store))) / len(columns) ** 0.5
        joined[:, at * size : (at + 1) * size] = vectors[column.numbers]
    return joined


def _partners(vectors: Vectors, places: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """Tell for each row whether another one is near in this field, or has the same text."""
    alone = has_neighbour(vectors, Gate(threshold, torch_product))
    copies = np.bincount(places, minlength=len(vectors)) > 1
    mask: NDArray[np.bool_] = (alone | copies)[places]
    return mask


def _chunks(rows: Iterator[Texts]) -> Iterator[list[Texts]]:
    chunk: list[Texts] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
