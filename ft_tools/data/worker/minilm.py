"""all-MiniLM-L6-v2 on a CPU: no padding, each distinct text once, bfloat16 where that is quicker.

The vectors are those of SentenceTransformer.encode. Texts are sorted by their tokens and a batch
holds about as many tokens as fit the cache, so padding costs nothing; a batch of 256 pads every
text to the longest and is 2.3 times slower. In bfloat16 cosines are off by up to 0.001 near 0.95,
so what is close to the threshold is decided in float32 (`repeats.neighbours.Rounding`).

Source: benchmarks/audit.py
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from ft_tools.data.read.token_store import Column, TokenStore
from ft_tools.data.repeats.near_by_meaning import DENSE, Rows, Vectors, cosines
from ft_tools.data.repeats.prefilter import Cells, Near

Tick = Callable[[int, int], None]
SIZE = 384
BATCH_TOKENS = 4096
# Four times the largest error seen between 0.9 and 1 on 1,024 texts of gsm8k_train.
MARGIN = 0.004
# Of a product of rows of length one: 2^-9 for each factor and for the result, and a little more.
BFLOAT16_ERROR = 0.0062
# bfloat16 has to be this much quicker, or float32 is used.
QUICKER = 1.4
TRIED_TEXTS = 64


def torch_product(a: Vectors, b: Vectors) -> Vectors:
    """Return a @ b.T on every core."""
    product: Vectors = (torch.from_numpy(a) @ torch.from_numpy(b).T).numpy()
    return product


def float32_near(a: Vectors, b: Vectors, lowest: float) -> tuple[Rows, Rows, Vectors]:
    """Return the pairs of rows of a and b with at least this cosine, and the cosines."""
    scores = torch.from_numpy(a) @ torch.from_numpy(b).T
    at, column = torch.nonzero(scores >= lowest, as_tuple=True)
    return at.numpy(), column.numpy(), scores[at, column].numpy()


def bfloat16_near(a: Vectors, b: Vectors, lowest: float) -> tuple[Rows, Rows, Vectors]:
    """Do as `float32_near`, twice as fast: a look in bfloat16, then float32 for what is close."""
    rough = torch.from_numpy(a).bfloat16() @ torch.from_numpy(b).bfloat16().T
    at, column = torch.nonzero(rough >= lowest - BFLOAT16_ERROR, as_tuple=True)
    if len(at) > DENSE * rough.numel():
        return float32_near(a, b, lowest)
    rows, columns = at.numpy(), column.numpy()
    scores = cosines(a, rows, b, columns)
    near = scores >= lowest
    return rows[near], columns[near], scores[near]


def torch_nearest(rows: Vectors, centres: Vectors, count: int) -> Cells:
    """Return the `count` nearest centres of each row, the nearest first, on every core."""
    scores = torch.from_numpy(rows) @ torch.from_numpy(centres).T
    places: Cells = scores.topk(count, dim=1).indices.numpy()
    return places


class MiniLM:
    """The model, its tokenizer, and the copy in bfloat16 if this machine is quicker with it."""

    def __init__(self, folder: Path, tick: Tick) -> None:
        self.folder = folder
        model = SentenceTransformer(str(folder), device="cpu")
        self.network = model[0].auto_model.eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self.max_tokens = int(model.max_seq_length)
        """What it reads of a text; the rest is cut off."""
        self._tokenizer.enable_truncation(self.max_tokens)
        self._tick = tick
        self._quick = copy.deepcopy(self.network).to(torch.bfloat16) if _has_bfloat16() else None

    @property
    def margin(self) -> float:
        """Return how far from the threshold a cosine has to be to decide."""
        return 0.0 if self._quick is None else MARGIN

    @property
    def near(self) -> Near:
        """Return the quickest way here to find the near ones of many pairs."""
        return float32_near if self._quick is None else bfloat16_near

    def use_float32(self) -> None:
        """Encode everything in float32 from now on."""
        self._quick = None

    def tokens_per_second(self) -> float:
        """Return how fast texts of 64 tokens are encoded on this machine now, by trying."""
        store, numbers = self.store(f"{at} " + "word " * 61 for at in range(TRIED_TEXTS))
        self.encode(store, numbers[:1])
        began = time.perf_counter()
        self.encode(store, numbers)
        return float(store.lengths().sum()) / (time.perf_counter() - began)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, the special ones included, cut at what the model reads."""
        return [ids for ids, _ in self.read(texts)]

    def read(self, texts: Sequence[str]) -> Iterator[tuple[list[int], bool]]:
        """Yield the tokens of each text as `tokens` does, and whether it was cut."""
        for made in self._tokenizer.encode_batch_fast(list(texts)):
            ids = made.ids
            yield ids, len(ids) == self.max_tokens and bool(made.overflowing)

    def store(self, texts: Iterable[str]) -> tuple[TokenStore, NDArray[np.int64]]:
        """Return the distinct texts as tokens, and the number of each."""
        store = TokenStore()
        numbers = [store.add(ids) for ids in self.tokens(list(texts))]
        return store, np.array(numbers, dtype=np.int64)

    def encode(
        self, store: TokenStore, numbers: NDArray[np.int64], *, exactly: bool = False
    ) -> Vectors:
        """Return the vectors of some sequences, (n, 384), of length one."""
        network = self.network if exactly or self._quick is None else self._quick
        lengths = store.lengths()[numbers]
        order = np.argsort(-lengths, kind="stable")
        vectors = np.empty((len(numbers), SIZE), dtype=np.float32)
        at = 0
        while at < len(order):
            part = order[at : at + max(1, BATCH_TOKENS // int(lengths[order[at]]))]
            vectors[part] = _forward(network, *store.padded(numbers[part]))
            at += len(part)
            self._tick(at, len(order))
        return vectors


class Sharpener:
    """Replaces vectors in bfloat16 by those in float32, each distinct text once."""

    def __init__(
        self, model: MiniLM, columns: Sequence[Column], rows: Rows, fields: Sequence[Vectors]
    ) -> None:
        self._model = model
        self._fields = fields
        self._stores = [column.store for column in columns]
        self._numbers = [column.numbers[rows] for column in columns]
        self._exact: list[dict[int, Vectors]] = [{} for _ in columns]

    @property
    def num_exact(self) -> int:
        """Return how many texts are in float32."""
        return sum(map(len, self._exact))

    def sharpen(self, at: int, rows: Rows) -> None:
        """Make the vectors of some rows exact in one field."""
        exact, mine = self._exact[at], self._numbers[at][rows].tolist()
        new = sorted(set(mine) - exact.keys())
        if new:
            numbers = np.array(new, dtype=np.int64)
            made = self._model.encode(self._stores[at], numbers, exactly=True)
            exact.update(zip(new, made, strict=True))
        self._fields[at][rows] = np.stack([exact[number] for number in mine])


def _forward(
    network: torch.nn.Module, ids: NDArray[np.int64], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the mean of the last hidden states over each text's tokens, of length one."""
    with torch.inference_mode():
        there = torch.from_numpy(mask)
        seen = None if mask.all() else there.to(torch.int64)
        hidden = network(input_ids=torch.from_numpy(ids), attention_mask=seen).last_hidden_state
        weights = there.unsqueeze(-1).to(torch.float32)
        means = (hidden.to(torch.float32) * weights).sum(dim=1) / weights.sum(dim=1)
        unit: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).numpy()
    return unit


def _has_bfloat16() -> bool:
    """Tell whether this processor multiplies in bfloat16 faster than in float32, by trying."""
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        a, b = torch.ones(2048, SIZE, dtype=kind), torch.ones(1536, SIZE, dtype=kind)
        took = []
        for _ in range(5):
            began = time.perf_counter()
            torch.nn.functional.linear(a, b)
            took.append(time.perf_counter() - began)
        seconds[kind] = min(took)
    return seconds[torch.float32] > QUICKER * seconds[torch.bfloat16]
