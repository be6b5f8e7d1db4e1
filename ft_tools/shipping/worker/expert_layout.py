"""Weights in the layout and under the names of the published checkpoints.

transformers 5 trains and saves some families otherwise, and reads both; llama.cpp's converter reads
the published files only. Experts are held there as (expert, in, out), where transformers has
(expert, out, in), and a converter would take rows for columns. Kimi Linear's dense blocks are
`mlp` there, and transformers saves them under the name of the blocks with experts.

Source: transformers 5.24, conversion_mapping.py; llama.cpp, conversion/qwen3vl.py, kimi_linear.py
"""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ft_tools.models import model_folder, safetensors_headers
from ft_tools.shipping.worker.merging import weight_of

TURNED = ("qwen3_vl_moe",)
GATE_AND_UP = ".mlp.experts.gate_up_proj"
DOWN = ".mlp.experts.down_proj"
# A published name is never longer: a header keeps its length.
DENSE = re.compile(r"\.block_sparse_moe\.(gate|up|down)_proj\.weight$")
NAMES = {"kimi_linear": (DENSE, r".mlp.\1_proj.weight")}

Header = dict[str, Any]


def publish_layout(folder: Path, stop: Callable[[], None]) -> None:
    """Rewrite in place the weights of a model folder that are held as transformers saves them.

    Needs memory for one layer's experts.

    Args:
        folder: With config.json and safetensors.
        stop: Called between weights; raises to end early.
    """
    kind = model_folder.model_type(folder)
    hidden = model_folder.hidden_size(folder)
    if kind in TURNED and hidden is not None:
        _turn_experts(folder, hidden, stop)
    if kind in NAMES:
        _rename(folder, *NAMES[kind])


def _turn_experts(folder: Path, hidden: int, stop: Callable[[], None]) -> None:
    """Transpose the experts of a folder, each in its place."""
    for file in safetensors_headers.weight_files(folder):
        held = safetensors_headers.survey_file(file)
        turned = [name for name, tensor in held.items() if _is_turned(name, tensor.shape, hidden)]
        for name in turned:
            stop()
            found = weight_of(file, name).transpose(1, 2).contiguous()
            with file.open("r+b") as stream:
                stream.seek(held[name].start)
                stream.write(found.view(torch.uint8).numpy().data)
        if turned:
            header = _header(file)
            for name in turned:
                header[name]["shape"][1:] = reversed(header[name]["shape"][1:])
            _write_header(file, header)


def _is_turned(name: str, shape: tuple[int, ...], hidden: int) -> bool:
    """Return whether a tensor is (expert, out, in); transformers reads square ones alike."""
    if len(shape) != 3 or shape[1] == shape[2]:
        return False
    return (name.endswith(GATE_AND_UP) and shape[2] == hidden) or (
        name.endswith(DOWN) and shape[1] == hidden
    )


def _rename(folder: Path, saved: re.Pattern[str], published: str) -> None:
    """Rename tensors of a folder, in the headers of its files and in their index."""
    for file in safetensors_headers.weight_files(folder):
        header = _header(file)
        _write_header(file, {saved.sub(published, name): held for name, held in header.items()})
    index = folder / safetensors_headers.INDEX
    if index.is_file():
        listed = json.loads(index.read_bytes())
        files = listed["weight_map"].items()
        listed["weight_map"] = {saved.sub(published, name): file for name, file in files}
        index.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def _header(file: Path) -> Header:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        found: Header = json.loads(stream.read(length))
    return found


def _write_header(file: Path, header: Header) -> None:
    """Write a header over the one that a file has, which keeps its length."""
    with file.open("r+b") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        stream.write(written.ljust(length))
