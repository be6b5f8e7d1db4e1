"""Weights in the layout and under the names of the published checkpoints.

transformers 5 trains and saves some families otherwise, and reads both; llama.cpp's converter reads
the published files only. Experts are held there as (expert, in, out), where transformers has
(expert, out, in), and a converter would take rows for columns. Kimi Linear's dense blocks are
`mlp` there, and transformers saves them under the name of the blocks with experts.

Source: transformers 5.24, conversion_mapping.py; llama.cpp, conversion/qwen3vl.py, kimi_linear.py
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ft_tools.models import model_folder, safetensors_headers

KIMI = "kimi_linear"
CHANGED = (KIMI, "qwen3_vl_moe")
GATE_AND_UP, DOWN = ".mlp.experts.gate_up_proj", ".mlp.experts.down_proj"
DENSE = re.compile(r"\.block_sparse_moe\.(gate|up|down)_proj\.weight$")


def publish_layout(folder: Path, stop: Callable[[], None]) -> None:
    """Rewrite the weights of a model folder that are held as transformers saves them.

    Needs memory for one file.

    Args:
        folder: With config.json and safetensors.
        stop: Called between files; raises to end early.
    """
    kind, hidden = model_folder.model_type(folder), model_folder.hidden_size(folder)
    if kind not in CHANGED or hidden is None:
        return
    for file in safetensors_headers.weight_files(folder):
        stop()
        held = load_file(file)
        changed = {_name(kind, name): _turned(kind, name, held[name], hidden) for name in held}
        if any(changed.get(name) is not tensor for name, tensor in held.items()):
            # Beside it: what was read may stay mapped.
            beside = file.with_suffix(".new")
            save_file(changed, beside, metadata={"format": "pt"})
            beside.replace(file)
    index = folder / safetensors_headers.INDEX
    if index.is_file():
        listed = json.loads(index.read_bytes())
        listed["weight_map"] = {_name(kind, n): file for n, file in listed["weight_map"].items()}
        index.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def _name(kind: str, name: str) -> str:
    return DENSE.sub(r".mlp.\1_proj.weight", name) if kind == KIMI else name


def _turned(kind: str, name: str, tensor: torch.Tensor, hidden: int) -> torch.Tensor:
    if kind == KIMI or not _is_turned(name, tuple(tensor.shape), hidden):
        return tensor
    return tensor.transpose(1, 2).contiguous()


def _is_turned(name: str, shape: tuple[int, ...], hidden: int) -> bool:
    """Return whether a tensor is (expert, out, in); transformers reads square ones alike."""
    if len(shape) != 3 or shape[1] == shape[2]:
        return False
    return (name.endswith(GATE_AND_UP) and shape[2] == hidden) or (
        name.endswith(DOWN) and shape[1] == hidden
    )
