"""The models of an audit: MiniLM, and the static embedding made from it.

The static embedding gives every token of MiniLM's vocabulary a vector once (the model's own output
for that token alone), cut to its main directions; a text is the sum of its tokens, rare ones
weighted up. It costs a table look-up a token and stands in for MiniLM only as a gate.

Source: Arora et al. 2017 (weights a / (a + frequency)), model2vec (vectors by distillation)
"""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from ft_tools import workspace
from ft_tools.data.audit import Near
from ft_tools.data.contamination import questions_of
from ft_tools.data.duplicates import remove_near
from ft_tools.data.neighbours import Vectors, best_match, find_twins, has_neighbour
from ft_tools.data.reports import AuditRequest
from ft_tools.data.scan import Scan
from ft_tools.data.texts import shared_lines, texts_of, without
from ft_tools.publish import private_folder, sha256, write_file

Phase = Callable[[str], None]
Tick = Callable[[int, int], None]
Triple = tuple[int, str, str]

STATIC_SIZE = 256
SMOOTHING = 1e-3
MAX_TOKENS = 254

# Rows from which the gate pays. Source: benchmarks/audit.py
FAST_ROWS = 20_000
# Static cosine below which MiniLM's is not above 0.95 for 99.7% of such pairs, at MiniLM's 0.95.
# Source: facts/dataset section 2 ("Gate, measured again").
GATE_BELOW = 0.10
CHUNK = 4096
SAMPLE = 256
# Measured on rephrase_gsm8k against gsm8k_test, with gsm8k_train as the rows that are no copies;
# the numbers are in references/data.md. The static gate of 0.65 lost 0.3% of what is found.
BENCHMARK_COSINE = 0.83
BENCHMARK_GATE = 0.65


def torch_product(a: Vectors, b: Vectors) -> Vectors:
    """Return a @ b.T on every core."""
    product: Vectors = (torch.from_numpy(a) @ torch.from_numpy(b).T).numpy()
    return product


class Encoder:
    """MiniLM, and the static embedding distilled from it."""

    def __init__(self, folder: Path, tick: Tick) -> None:
        self._model = SentenceTransformer(str(folder), device="cpu")
        self._tokenizer = self._model.tokenizer
        self._folder = folder
        self._tick = tick
        self._weights: torch.Tensor | None = None

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return MiniLM's vectors, (n, 384), unit length; equal texts are encoded once."""
        places: dict[str, int] = {}
        where = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
        unique = sorted(places, key=len, reverse=True)
        vectors = np.empty((len(unique), 384), dtype=np.float32)
        step = 512
        for start in range(0, len(unique), step):
            part = unique[start : start + step]
            made = self._model.encode(
                part, batch_size=64, normalize_embeddings=True, show_progress_bar=False
            )
            vectors[[places[text] for text in part]] = made
            self._tick(min(start + step, len(unique)), len(unique))
        return vectors[where] if len(where) else vectors

    def learn_frequencies(self, texts: Sequence[str]) -> None:
        """Weight tokens by how rare they are in these texts; before the first `static`."""
        table = torch.from_numpy(self._static_table())
        ids = self._ids(texts)
        flat = np.array([token for one in ids for token in one], dtype=np.int64)
        counts = np.bincount(flat, minlength=len(table))
        share = torch.from_numpy(counts / max(1, len(flat)))
        weights = (SMOOTHING / (SMOOTHING + share)).to(torch.float32)
        self._weights = table * weights[:, None]

    def static(self, texts: Sequence[str]) -> Vectors:
        """Return static vectors, (n, 256), unit length."""
        if self._weights is None:
            self.learn_frequencies(texts)
        assert self._weights is not None
        ids = self._ids(texts)
        lengths = np.array([len(one) for one in ids], dtype=np.int64)
        flat = torch.tensor([token for one in ids for token in one], dtype=torch.int64)
        starts = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64))
        bags = torch.nn.functional.embedding_bag(flat, self._weights, starts, mode="sum")
        # A text without tokens gets a direction of its own, so that two of them are alike.
        bags[torch.from_numpy(lengths == 0), 0] = 1.0
        unit: Vectors = torch.nn.functional.normalize(bags, dim=1).numpy()
        return unit

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=True,
            max_length=MAX_TOKENS,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return ids

    def _static_table(self) -> Vectors:
        """Return the static vectors of the vocabulary, (vocabulary, 256), made once and cached."""
        digest = sha256(self._folder / "model.safetensors")[:16]
        cached = workspace.cache_dir() / "static" / f"{digest}-{STATIC_SIZE}.npy"
        if cached.is_file():
            table: Vectors = np.load(cached, allow_pickle=False)
            return table
        table = self._distil()
        private_folder(cached.parent)
        buffer = io.BytesIO()
        np.save(buffer, table, allow_pickle=False)
        write_file(cached, buffer.getvalue())
        return table

    def _distil(self) -> Vectors:
        start, end = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        network = self._model[0].auto_model
        size = len(self._tokenizer)
        parts = []
        with torch.inference_mode():
            for at in range(0, size, 1024):
                tokens = torch.arange(at, min(at + 1024, size))
                ids = torch.stack(
                    [torch.full_like(tokens, start), tokens, torch.full_like(tokens, end)], dim=1
                )
                hidden = network(input_ids=ids, attention_mask=torch.ones_like(ids))
                parts.append(hidden.last_hidden_state.mean(dim=1))
                self._tick(at, size)
        vectors = torch.cat(parts)
        centred = vectors - vectors.mean(dim=0)
        # Main directions; eigenvectors of the covariance, the largest first.
        _, directions = torch.linalg.eigh(centred.T @ centred)
        table: Vectors = (centred @ directions[:, -STATIC_SIZE:]).to(torch.float32).numpy()
        return table


class Semantic:
    """Near-duplicates and benchmark paraphrases by meaning."""

    def __init__(self, encoder: Encoder, phase: Phase, tick: Tick) -> None:
        self._encoder = encoder
        self._phase = phase
        self._tick = tick

    def find(self, scanned: Scan, request: AuditRequest) -> Near:
        """Remove near-duplicates, then what paraphrases a benchmark question."""
        shared = shared_lines(scanned, request)
        ledger = scanned.ledger
        num_rows = len(ledger.kept(validation=False)) + len(ledger.kept(validation=True))
        mode = request.semantic_mode
        is_fast = mode == "fast" or (mode == "auto" and num_rows > FAST_ROWS)
        notes = []
        if shared:
            notes.append(f"{len(shared)} prompt lines of a template were set aside")
        if is_fast:
            rows, note = self._candidates(scanned, request, shared, num_rows)
            notes.append(note)
        else:
            rows = list(self._triples(scanned, request, shared))
        self._phase(f"encoding {len(rows)} examples with MiniLM")
        fields = self._encoded(rows, request)
        self._phase("comparing")
        twins = find_twins(fields, request.near_duplicate_threshold, torch_product)
        num_near = 0
        for row, (kept, score) in sorted(twins.of.items()):
            num_near += remove_near(
                ledger, rows[row][0], rows[kept][0], round(score, 4), scanned.note
            )
        if request.benchmark_paths:
            notes.append(self._benchmarks(scanned, request, is_fast))
        name = "fast: static gate, then MiniLM" if is_fast else "exact: MiniLM on every example"
        threshold = request.near_duplicate_threshold
        return Near(num_near, f"semantic, {name}; cosine > {threshold}", tuple(notes))

    def _triples(
        self, scanned: Scan, request: AuditRequest, shared: frozenset[int]
    ) -> Iterator[Triple]:
        for index, prompt, answer in texts_of(scanned, request):
            yield index, without(prompt, shared), answer

    def _encoded(self, rows: Sequence[Triple], request: AuditRequest) -> list[Vectors]:
        """Encode the fields that are compared; a text has an answer only."""
        fields = []
        has_prompts = any(prompt for _, prompt, _ in rows)
        if request.deduplicate_on != "response" and has_prompts:
            fields.append(self._encoder.encode([prompt for _, prompt, _ in rows]))
        if request.deduplicate_on != "prompt" or not has_prompts:
            fields.append(self._encoder.encode([answer for _, _, answer in rows]))
        return fields

    def _candidates(
        self, scanned: Scan, request: AuditRequest, shared: frozenset[int], num_rows: int
    ) -> tuple[list[Triple], str]:
        """Return the rows that the static gate puts near another, and how much it may miss."""
        self._phase("static embedding")
        indices, fields = self._static_fields(scanned, request, shared, num_rows)
        gate = request.near_duplicate_threshold - GATE_BELOW
        self._phase(f"gate: static cosine >= {gate:.2f}")
        near = has_neighbour(fields, gate, torch_product, lambda at: self._tick(at, num_rows))
        wanted = set(indices[near].tolist())
        outside = np.flatnonzero(~near)
        drawn = np.random.default_rng(request.seed).permutation(outside)[:SAMPLE]
        sample = set(indices[drawn].tolist())
        rows, probes = [], []
        for row in self._triples(scanned, request, shared):
            if row[0] in wanted:
                rows.append(row)
            elif row[0] in sample:
                probes.append(row)
        missed = self._missed(rows, probes, request)
        note = (
            f"gate at static cosine {gate:.2f}: {len(rows)} of {num_rows} examples went to MiniLM; "
            f"of {len(probes)} drawn from the others, {missed} had a near-duplicate after all"
        )
        return rows, note

    def _static_fields(
        self, scanned: Scan, request: AuditRequest, shared: frozenset[int], num_rows: int
    ) -> tuple[np.ndarray, list[Vectors]]:
        both = request.deduplicate_on == "prompt_and_response"
        indices = np.empty(num_rows, dtype=np.int64)
        prompts = np.empty((num_rows, STATIC_SIZE), dtype=np.float32)
        answers = np.empty((num_rows, STATIC_SIZE), dtype=np.float32)
        done = 0
        for chunk in _chunks(self._triples(scanned, request, shared)):
            asked = [prompt for _, prompt, _ in chunk]
            answered = [answer for _, _, answer in chunk]
            if done == 0:
                self._encoder.learn_frequencies(asked + answered)
            end = done + len(chunk)
            indices[done:end] = [index for index, _, _ in chunk]
            if both or request.deduplicate_on == "prompt":
                prompts[done:end] = self._encoder.static(asked)
            if both or request.deduplicate_on == "response":
                answers[done:end] = self._encoder.static(answered)
            done = end
            self._tick(done, num_rows)
        fields = {"prompt": [prompts], "response": [answers], "prompt_and_response": [prompts]}
        return indices, fields[request.deduplicate_on] + ([answers] if both else [])

    def _missed(
        self, rows: Sequence[Triple], probes: Sequence[Triple], request: AuditRequest
    ) -> int:
        """Count the drawn rows that MiniLM puts near a candidate or another drawn row."""
        if not probes:
            return 0
        # Probes come last, so each is compared with everything before it.
        fields = self._encoded([*rows, *probes], request)
        near = find_twins(fields, request.near_duplicate_threshold, torch_product)
        return sum(row >= len(rows) for row in near.of)

    def _benchmarks(self, scanned: Scan, request: AuditRequest, is_fast: bool) -> str:
        """Remove the examples whose prompt paraphrases a benchmark question."""
        self._phase("looking for benchmark questions")
        paths = [workspace.existing(name) for name in request.benchmark_paths]
        questions = [text for path in paths for text in questions_of(path)]
        vectors = self._encoder.encode(questions)
        gate = self._encoder.static(questions) if is_fast else None
        found = 0
        for chunk in _chunks(texts_of(scanned, request)):
            asked = [(index, prompt or answer) for index, prompt, answer in chunk]
            if gate is not None:
                close = best_match(self._encoder.static([t for _, t in asked]), gate, torch_product)
                asked = [
                    one for one, score in zip(asked, close, strict=True) if score >= BENCHMARK_GATE
                ]
            if not asked:
                continue
            best = best_match(self._encoder.encode([t for _, t in asked]), vectors, torch_product)
            for (index, _), score in zip(asked, best.tolist(), strict=True):
                if score >= BENCHMARK_COSINE:
                    scanned.note("benchmark_semantic", index)
                    scanned.ledger.remove(index, "benchmark_semantic")
                    found += 1
        return (
            f"{found} examples are within cosine {BENCHMARK_COSINE} of one of "
            f"{len(questions)} benchmark questions"
        )


def _chunks(rows: Iterator[Triple]) -> Iterator[list[Triple]]:
    chunk: list[Triple] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
