"""Run a GGUF file in llama.cpp: what shipping and evaluation both need."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from ft_tools.errors import BadInput

BATCH_TOKENS = 512
ALL_LAYERS = -1


def num_threads() -> int:
    """Return the threads to use; llama.cpp's wait busily, so too many cost time."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    return min(int(asked), cores) if asked.isdigit() and int(asked) > 0 else cores


def gpu_layers() -> int:
    """Return how many layers a card takes: all where llama.cpp was built for one, else none."""
    return ALL_LAYERS if llama_cpp.llama_supports_gpu_offload() else 0


def open_file(
    path: Path | str, num_context: int, *, vocab_only: bool = False, verbose: bool = False
) -> Any:
    """Open a GGUF file, on a card where llama.cpp was built for one and the file fits there.

    Raises:
        BadInput: llama.cpp cannot load the file.
    """
    on_card = 0 if vocab_only else gpu_layers()
    # A file that is larger than what the card has free is run in memory.
    for layers in dict.fromkeys((on_card, 0)):
        try:
            return llama_cpp.Llama(
                str(path),
                n_ctx=num_context,
                n_batch=min(num_context, BATCH_TOKENS),
                n_threads=num_threads(),
                n_threads_batch=num_threads(),
                n_gpu_layers=layers,
                vocab_only=vocab_only,
                seed=0,
                verbose=verbose,
            )
        except ValueError as found:
            error = found
    raise BadInput(
        f"llama.cpp (llama-cpp-python {llama_cpp.__version__}) cannot load {path}: it is "
        "damaged, or of an architecture or a layout that this version does not know, or a "
        f"context of {num_context} tokens does not fit in memory; "
        "`python -m pip install -U llama-cpp-python`, or take another format"
    ) from error


def tokenize(model: Any, text: str) -> list[int]:
    """Return a text's ids, special tokens recognised, nothing added."""
    return list(model.tokenize(text.encode("utf-8"), add_bos=False, special=True))


def logits_in_batches(
    model: Any, ids: Sequence[int], start: int = 0
) -> Iterator[npt.NDArray[np.float32]]:
    """Give the logits after each token from `start` on, a batch of the file's at a time.

    Only these are made: `logits_all` of llama-cpp-python would keep a row for each place of the
    context.

    Yields:
        (tokens, vocabulary).

    Raises:
        ValueError: llama.cpp cannot read the text.
    """
    context, size = model.ctx, model.n_vocab()
    _forget(model)
    batch = llama_cpp.llama_batch_init(model.n_batch, 0, 1)
    try:
        for first in range(0, len(ids), model.n_batch):
            places = range(first, min(first + model.n_batch, len(ids)))
            _fill(batch, ids, places, start)
            if llama_cpp.llama_decode(context, batch):
                raise ValueError(f"llama.cpp cannot read a text of {len(ids)} tokens")
            wanted = [i for i, place in enumerate(places) if place >= start]
            rows = np.empty((len(wanted), size), dtype=np.float32)
            for row, i in zip(rows, wanted, strict=True):
                pointer = llama_cpp.llama_get_logits_ith(context, i)
                row[:] = np.ctypeslib.as_array(pointer, shape=(size,))
            yield rows
    finally:
        llama_cpp.llama_batch_free(batch)
        _forget(model)


def _forget(model: Any) -> None:
    model.reset()
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(model.ctx), True)


def _fill(batch: Any, ids: Sequence[int], places: range, start: int) -> None:
    """Put the tokens of some places into a batch of llama.cpp, as one sequence."""
    batch.n_tokens = len(places)
    for i, place in enumerate(places):
        batch.token[i] = ids[place]
        batch.pos[i] = place
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = place >= start
