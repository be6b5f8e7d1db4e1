"""Cheap vectors that stand in for MiniLM's, as a prefilter: a look-up a token and one small matrix.

Every token of MiniLM's vocabulary has a vector, the model's own output for that token alone, cut to
its main directions. A text is the sum of its tokens, once plain and once with rare tokens weighted
up; a linear map, fitted on some of the very data, turns both sums into an estimate of MiniLM's
vector. Without the map the prefilter would lose a third of the near-duplicates among code.

Source: Arora et al. 2017 (weights a / (a + frequency)), model2vec (vectors by distillation);
measured, benchmarks/audit.py
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ft_tools import workspace
from ft_tools.data.read.token_store import Column, TokenStore
from ft_tools.data.repeats.near_by_meaning import Vectors
from ft_tools.data.worker.minilm import MiniLM
from ft_tools.publish import private_folder, sha256, write_file

TABLE_SIZE = 256
STATIC_SIZE = 128
SMOOTHING = 1e-3
# Rows that MiniLM encodes to fit the map, and how many tokens of each. 500 rows lose seven times as
# many pairs, 2,000 as few; whole texts take twice as long and gain nothing. More directions than
# 128 lose more. Source: benchmarks/audit.py
FITTED_ROWS = 1000
FITTED_TOKENS = 48
RIDGE = 1e-3
CONSTANT = 0.3
CHUNK = 8192


class StaticVectors:
    """Estimates of MiniLM's vectors from the tokens alone."""

    def __init__(self, model: MiniLM, columns: Sequence[Column], seed: int) -> None:
        self._table = torch.from_numpy(_table_of(model))
        counts = np.zeros(len(self._table), dtype=np.int64)
        for column in columns:
            counts += column.store.counts(len(counts))
        share = torch.from_numpy(counts / max(1, counts.sum()))
        weights = (SMOOTHING / (SMOOTHING + share)).to(torch.float32)
        self._table = torch.cat([self._table, self._table * weights[:, None]], dim=1)
        self._map = self._fit(model, columns, seed)

    def of(self, store: TokenStore, numbers: NDArray[np.int64]) -> Vectors:
        """Return the vectors of some texts, (n, 128), of length one."""
        made = np.empty((len(numbers), STATIC_SIZE), dtype=np.float32)
        for start in range(0, len(numbers), CHUNK):
            sums = self._sums(store, numbers[start : start + CHUNK])
            unit = torch.nn.functional.normalize(sums @ self._map, dim=1)
            made[start : start + CHUNK] = unit.numpy()
        return made

    def _sums(self, store: TokenStore, numbers: NDArray[np.int64]) -> torch.Tensor:
        """Return both sums of each text and a constant, (n, 513)."""
        flat, starts = store.joined(numbers)
        bags = torch.nn.functional.embedding_bag(
            torch.from_numpy(flat), self._table, torch.from_numpy(starts), mode="sum"
        )
        parts = [torch.nn.functional.normalize(part, dim=1) for part in bags.chunk(2, dim=1)]
        return torch.cat([*parts, torch.full((len(bags), 1), CONSTANT)], dim=1)

    def _fit(self, model: MiniLM, columns: Sequence[Column], seed: int) -> torch.Tensor:
        """Return the linear map from the sums to MiniLM's main directions, (513, 128)."""
        count = len(columns[0].numbers)
        rows = np.random.default_rng(seed).permutation(count)[:FITTED_ROWS]
        sums, wanted = [], []
        for column in columns:
            store = column.store.shortened(np.unique(column.numbers[rows]), FITTED_TOKENS)
            numbers = np.arange(len(store))
            sums.append(self._sums(store, numbers))
            wanted.append(torch.from_numpy(model.encode(store, numbers)))
        x, y = torch.cat(sums), torch.cat(wanted)
        _, directions = torch.linalg.eigh(y.T @ y)
        y = y @ directions[:, -STATIC_SIZE:]
        scale = RIDGE * x.pow(2).sum() / x.shape[1]
        fitted: torch.Tensor = torch.linalg.solve(x.T @ x + scale * torch.eye(x.shape[1]), x.T @ y)
        return fitted


def _table_of(model: MiniLM) -> Vectors:
    """Return the vectors of the vocabulary, (vocabulary, 256), made once a machine and cached."""
    digest = sha256(model.folder / "model.safetensors")[:16]
    cached: Path = workspace.cache_dir() / "static" / f"{digest}-{TABLE_SIZE}.npy"
    if cached.is_file():
        table: Vectors = np.load(cached, allow_pickle=False)
        return table
    table = _distil(model)
    private_folder(cached.parent)
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    write_file(cached, buffer.getvalue())
    return table


def _distil(model: MiniLM) -> Vectors:
    start, *_, end = model.tokens(["a"])[0]
    size = int(model.network.get_input_embeddings().num_embeddings)
    parts = []
    with torch.inference_mode():
        for at in range(0, size, 1024):
            tokens = torch.arange(at, min(at + 1024, size))
            ids = torch.stack(
                [torch.full_like(tokens, start), tokens, torch.full_like(tokens, end)], dim=1
            )
            parts.append(model.network(input_ids=ids).last_hidden_state.mean(dim=1))
    vectors = torch.cat(parts)
    centred = vectors - vectors.mean(dim=0)
    # Main directions; eigenvectors of the covariance, the largest first.
    _, directions = torch.linalg.eigh(centred.T @ centred)
    table: Vectors = (centred @ directions[:, -TABLE_SIZE:]).to(torch.float32).numpy()
    return table
