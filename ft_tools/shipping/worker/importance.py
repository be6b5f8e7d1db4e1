"""An importance matrix: how strongly each input of each weight is driven by text of the task.

llama.cpp's quantizers round so that inputs with large mean squares lose least. Its own tool for
this is not part of the Python package, and none is needed: the merged model is here, and the matrix
is a mean of squares.
"""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

from ft_tools.errors import BadInput
from ft_tools.shipping import calibration
from ft_tools.shipping.worker import proving

# llama.cpp's own examples use more text; its published table gains nothing from it.
# Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/perplexity/README.md
MAX_TOKENS = 4096

Matrix = dict[str, npt.NDArray[np.float32]]
"""Mean squares of a weight's inputs, (d_in,), by the weight's name in the GGUF file."""


def measure(model: Any, rows: list[list[int]], source: Path) -> Matrix:
    """Run the merged model over calibration text and keep the mean squares of all inputs.

    Args:
        model: The merged model.
        rows: Ids of text like that of training, from `texts`.
        source: GGUF file of the model, for the names of its weights.
    """
    squares: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].detach().float().reshape(-1, inputs[0].shape[-1])
            squares[name] = squares.get(name, torch.zeros(rows.shape[1])) + rows.square().sum(0)
            counts[name] = counts.get(name, 0) + len(rows)

        return hook

    handles = [
        module.register_forward_pre_hook(watch(name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    try:
        with torch.inference_mode():
            for ids in rows:
                model(torch.tensor([ids]))
    finally:
        for handle in handles:
            handle.remove()
    names = names_in(source, list(squares))
    return {
        names[name]: (total / counts[name]).numpy()
        for name, total in squares.items()
        if name in names
    }


def texts(tokenizer: Any, path: Path, measured_on: Path | None) -> list[list[int]]:
    """Return the calibration examples' ids, as the chat template renders them, up to the budget."""
    examples = calibration.examples(path, measured_on)
    found: list[list[int]] = []
    left = MAX_TOKENS
    for ids in proving.ids_of(tokenizer, examples, proving.MAX_TEXT_TOKENS):
        if left > 1:
            found.append(ids[:left])
            left -= len(found[-1])
    return found


def read_file(path: Path) -> Matrix:
    """Read an importance matrix of llama.cpp's own tool, in its GGUF or its older layout.

    GGUF: `NAME.in_sum2`, (matrices, d_in), sums of squares, with `NAME.counts`, (matrices, 1).
    Older: a count of entries, then for each the length of its name, the name, the number of calls
    and of values, and the values, sums over the calls; little-endian.

    Raises:
        BadInput: It is neither.

    Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/imatrix/README.md
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
        found = _read_gguf(path) if start == b"GGUF" else _read_older(path)
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise _no_matrix(path) from error
    if not found:
        raise _no_matrix(path)
    return found


def _read_gguf(path: Path) -> Matrix:
    held = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}
    found = {}
    for name, sums in held.items():
        if name.endswith(".in_sum2"):
            weight = name.removesuffix(".in_sum2")
            counts = held[f"{weight}.counts"].reshape(-1, 1)
            rows = sums.reshape(len(counts), -1)
            # Experts that no text reached count alike.
            means = np.where(counts > 0, rows / np.maximum(counts, 1), 1.0)
            found[weight] = means.reshape(-1).astype(np.float32)
    return found


def _read_older(path: Path) -> Matrix:
    data, at = path.read_bytes(), 4
    (num_entries,) = struct.unpack_from("<i", data)
    found: Matrix = {}
    for _ in range(num_entries):
        (length,) = struct.unpack_from("<i", data, at)
        name = data[at + 4 : at + 4 + length].decode("utf-8")
        calls, size = struct.unpack_from("<ii", data, at + 4 + length)
        at += 12 + length
        if size < 1 or at + 4 * size > len(data):
            raise ValueError("cut short")
        values = np.frombuffer(data, dtype="<f4", count=size, offset=at)
        found[name] = (values / max(calls, 1)).astype(np.float32)
        at += 4 * size
    return found


def _no_matrix(path: Path) -> BadInput:
    return BadInput(
        f"imatrix {path.name!r} is no importance matrix; make one with llama-imatrix, or name "
        "training examples as `calibration` and one is made"
    )


def names_in(source: Path, modules: list[str]) -> dict[str, str]:
    """Return the GGUF names of modules' weights; a module without a counterpart is left out."""
    reader = gguf.GGUFReader(source)
    held = {tensor.name for tensor in reader.tensors}
    field = reader.fields["general.architecture"]
    architecture = bytes(field.parts[field.data[0]]).decode()
    by_name = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    blocks = 1 + max((int(n.split(".")[1]) for n in held if n.startswith("blk.")), default=0)
    table = gguf.get_tensor_name_map(by_name[architecture], blocks)
    found = {name: f"{table.get_name(name)}.weight" for name in modules}
    return {name: target for name, target in found.items() if target in held}


def save(matrix: Matrix, path: Path) -> None:
    """Keep a matrix for the other formats, and for a later attempt."""
    with path.open("wb") as stream:
        np.savez(stream, **matrix)  # type: ignore[arg-type]


def load(path: Path) -> Matrix:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}
