"""An importance matrix: how strongly each input of each weight is driven by text of the task.

llama.cpp's quantizers round so that inputs with large mean squares lose least. Its own tool for
this is not part of the Python package, and none is needed: the merged model is here, and the matrix
is a mean of squares.
"""

import re
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

from ft_tools.errors import BadInput, Refused
from ft_tools.models.gguf_header import read_header
from ft_tools.shipping import calibration
from ft_tools.shipping.worker import proving

# llama.cpp's own examples use more text; its published table gains nothing from it.
# Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/perplexity/README.md
MAX_TOKENS = 4096

FUSED = 3
"""Dimensions of a parameter that holds all experts of a layer."""
LAYER = re.compile(r"(?<=\.)\d+(?=\.)")

Matrix = dict[str, npt.NDArray[np.float32]]
"""Mean squares of a weight's inputs, (matrices * d_in,), by the weight's name in the GGUF file."""


class Squares:
    """Sums of squares of a weight's inputs, one row a matrix of it: (matrices, d_in)."""

    def __init__(self, num_matrices: int, width: int) -> None:
        self.sums = torch.zeros(num_matrices, width, dtype=torch.float64)
        self.counts = torch.zeros(num_matrices, 1, dtype=torch.float64)

    def add(self, inputs: torch.Tensor, matrix: int = 0) -> None:
        """Add inputs, (tokens, d_in)."""
        rows = inputs.detach().float().reshape(-1, inputs.shape[-1])
        self.sums[matrix] += rows.square().sum(0).double().cpu()
        self.counts[matrix] += len(rows)

    def means(self) -> npt.NDArray[np.float32]:
        """Return the means, (matrices * d_in,); experts that no text reached get the others'."""
        typical = self.sums.sum(0) / self.counts.sum().clamp_min(1)
        means = torch.where(self.counts > 0, self.sums / self.counts.clamp_min(1), typical)
        return np.asarray(means.flatten().float().numpy())


def measure(model: Any, rows: list[list[int]], source: Path) -> Matrix:
    """Run the merged model over calibration text and keep the mean squares of all inputs.

    Args:
        model: The merged model.
        rows: Ids of text like that of training, from `texts`.
        source: GGUF file of the model, for the names of its weights.

    Raises:
        Refused: Its experts are built in a way that is not known here.
    """
    linears: dict[str, Squares] = {}
    experts: dict[str, Squares] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            handles.append(module.register_forward_pre_hook(_watch_linear(linears, name)))
        elif any(p.dim() == FUSED for p in module.parameters(recurse=False)) and _is_experts(name):
            _require_known(module)
            hook = _watch_experts(experts, name)
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        with torch.inference_mode():
            for ids in rows:
                model(torch.tensor([ids], device=model.device))
    finally:
        for handle in handles:
            handle.remove()
    names = names_in(source, list(linears))
    found = {names[name]: total.means() for name, total in linears.items() if name in names}
    return found | {name: total.means() for name, total in experts.items()}


def _watch_linear(linears: dict[str, Squares], name: str) -> Any:
    def hook(module: torch.nn.Linear, inputs: tuple[torch.Tensor, ...]) -> None:
        linears.setdefault(name, Squares(1, module.in_features)).add(inputs[0])

    return hook


def _watch_experts(experts: dict[str, Squares], name: str) -> Any:
    """Return a hook that follows each token to its experts, and into them to the down projection.

    Shapes: hidden states (tokens, d), chosen experts (tokens, k), gate_up_proj (E, 2 f, d).
    """
    block = f"blk.{LAYER.findall(name)[-1]}"

    def hook(module: Any, inputs: tuple[torch.Tensor, ...], named: dict[str, Any]) -> None:
        hidden = named.get("hidden_states", inputs[0] if inputs else None)
        chosen = named.get("top_k_index", inputs[1] if len(inputs) > 1 else None)
        assert hidden is not None
        assert chosen is not None
        tokens = hidden.reshape(-1, hidden.shape[-1])
        count, width, _ = module.gate_up_proj.shape
        for part, d_in in (
            ("gate", tokens.shape[1]),
            ("up", tokens.shape[1]),
            ("down", width // 2),
        ):
            experts.setdefault(f"{block}.ffn_{part}_exps.weight", Squares(count, d_in))
        for expert in range(count):
            routed = tokens[(chosen == expert).any(-1)]
            if not len(routed):
                continue
            both = torch.nn.functional.linear(routed, module.gate_up_proj[expert])
            gate, up = both.chunk(2, dim=-1)
            for part, seen in (
                ("gate", routed),
                ("up", routed),
                ("down", module.act_fn(gate) * up),
            ):
                experts[f"{block}.ffn_{part}_exps.weight"].add(seen, expert)

    return hook


def _is_experts(name: str) -> bool:
    return name.endswith("experts") and bool(LAYER.search(name))


def _require_known(module: Any) -> None:
    """Refuse experts that are not `gate_up_proj` (E, 2 f, d), `down_proj` (E, d, f), gated.

    Raises:
        Refused: They are something else.
    """
    gate_up, down = getattr(module, "gate_up_proj", None), getattr(module, "down_proj", None)
    is_known = (
        gate_up is not None
        and down is not None
        and hasattr(module, "act_fn")
        and not getattr(module, "is_transposed", False)
        and getattr(module, "gate_up_proj_bias", None) is None
        and tuple(gate_up.shape[::2]) == tuple(down.shape[:2])
        and gate_up.shape[1] == 2 * down.shape[2]
    )
    if not is_known:
        raise Refused(
            f"an importance matrix cannot be measured here for experts like {type(module).__name__}"
            "; pass one of llama.cpp's own tool as `imatrix`, or leave `calibration` out"
        )


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
        f"imatrix {path.name!r} is not an importance matrix; make one with llama-imatrix, or name "
        "training examples as `calibration` and one is made"
    )


def names_in(source: Path, modules: list[str]) -> dict[str, str]:
    """Return the GGUF names of modules' weights; a module without a counterpart is left out."""
    header = read_header(source)
    held = header.tensors.keys()
    by_name = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    blocks = 1 + max((int(n.split(".")[1]) for n in held if n.startswith("blk.")), default=0)
    table = gguf.get_tensor_name_map(by_name[str(header.values["general.architecture"])], blocks)
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
