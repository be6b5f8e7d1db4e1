"""all-MiniLM-L6-v2 on a CPU: no padding, each distinct text once, bfloat16 where that is quicker.

The vectors are those of SentenceTransformer.encode. Texts are sorted by their tokens and a batch
holds about as many tokens as fit the cache, so padding costs nothing; a batch of 256 pads every
text to the longest and is 2.3 times slower. In bfloat16 cosines are off by up to 0.001 near 0.95,
so what is close to a threshold is decided in float32 (`by_meaning.cosines`).

Source: benchmarks/audit.py
"""

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from ft_tools.similarity.token_store import Rows, TokenStore

Tick = Callable[[int, int], None]
Vectors = NDArray[np.float32]
SIZE = 384
MOST_TOKENS = 4000
"""Of a text, that are held; MiniLM reads its first ones."""
BATCH_TOKENS = 4096
# Four times the largest error seen between 0.9 and 1 on 1,024 texts of gsm8k_train.
MARGIN = 0.004
# bfloat16 has to be this much quicker, or float32 is used.
QUICKER = 1.4


class MiniLM:
    """The model, its tokenizer, and the copy in bfloat16 if this machine is quicker with it."""

    def __init__(self, folder: Path, tick: Tick) -> None:
        self.folder = folder
        model = SentenceTransformer(str(folder), device="cpu")
        self.network = model[0].auto_model.eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self.max_tokens = int(model.max_seq_length)
        """What it reads of a text."""
        self.num_tokens = int(self.network.get_input_embeddings().num_embeddings)
        self._tokenizer.enable_truncation(MOST_TOKENS)
        self._tick = tick
        self._quick = copy.deepcopy(self.network).to(torch.bfloat16) if _has_bfloat16() else None

    @property
    def margin(self) -> float:
        """Return how far from the threshold a cosine has to be to decide."""
        return 0.0 if self._quick is None else MARGIN

    def use_float32(self) -> None:
        """Encode everything in float32 from now on."""
        self._quick = None

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, the special ones included, at most `MOST_TOKENS`."""
        return [made.ids for made in self._tokenizer.encode_batch_fast(list(texts))]

    def store(self, texts: Iterable[str]) -> tuple[TokenStore, Rows]:
        """Return the distinct texts as tokens, and the number of each."""
        store = TokenStore()
        numbers = [store.add(ids) for ids in self.tokens(list(texts))]
        return store, np.array(numbers, dtype=np.int64)

    def encode(self, store: TokenStore, numbers: Rows, *, exactly: bool = False) -> Vectors:
        """Return the vectors of some sequences, (n, 384), of length one."""
        network = self.network if exactly or self._quick is None else self._quick
        lengths = np.minimum(store.lengths()[numbers], self.max_tokens)
        order = np.argsort(-lengths, kind="stable")
        vectors = np.empty((len(numbers), SIZE), dtype=np.float32)
        at = 0
        while at < len(order):
            part = order[at : at + max(1, BATCH_TOKENS // int(lengths[order[at]]))]
            vectors[part] = _forward(network, *store.padded(numbers[part], self.max_tokens))
            at += len(part)
            self._tick(at, len(order))
        return vectors


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
    """Return whether this processor multiplies in bfloat16 faster than in float32, by trying."""
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
