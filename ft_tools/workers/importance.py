"""An importance matrix: how strongly each input of each weight is driven by text of the task.

llama.cpp's quantizers round so that inputs with large mean squares lose least. Its own tool for
this is not part of the Python package, and none is needed: the merged model is here, and the matrix
is a mean of squares.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

from ft_tools.shipping import held_out
from ft_tools.workers import proving

# llama.cpp's own examples use more text; its published table gains nothing from it.
# Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/perplexity/README.md
MAX_TOKENS = 4096

Matrix = dict[str, npt.NDArray[np.float32]]
"""Mean squares of a weight's inputs, (d_in,), by the weight's name in the GGUF file."""


def measure(model: Any, tokenizer: Any, calibration: Path, source: Path) -> Matrix:
    """Run the merged model over calibration text and keep the mean squares of all inputs.

    Args:
        model: The merged model.
        tokenizer: Its tokenizer.
        calibration: JSONL file of examples like those it was trained on.
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
            for ids in texts(tokenizer, calibration):
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


def texts(tokenizer: Any, calibration: Path) -> list[list[int]]:
    """Return the calibration examples' ids, as the chat template renders them, up to the budget."""
    found: list[list[int]] = []
    left = MAX_TOKENS
    for example in held_out.examples(calibration):
        whole = held_out.conversation(example)
        if whole and left > 1:
            rendered = proving.render(tokenizer, whole, generation=False)
            found.append(proving.tokens(tokenizer, rendered)[: min(left, proving.MAX_TEXT_TOKENS)])
            left -= len(found[-1])
    return found


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
