"""Experts in the layout of the published checkpoints, where transformers saves another.

Published files of these families hold each layer's experts as (expert, in, out). transformers 5
trains and saves (expert, out, in), and reads both; llama.cpp's converter reads the published layout
only, and would take rows for columns.

Source: transformers 5.24, conversion_mapping.py; llama.cpp, conversion/qwen3vl.py
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch

from ft_tools.models import model_folder, safetensors_headers
from ft_tools.shipping.worker.merging import weight_of

FAMILIES = ("qwen3_vl_moe",)
GATE_AND_UP = ".mlp.experts.gate_up_proj"
DOWN = ".mlp.experts.down_proj"


def publish_layout(folder: Path, stop: Callable[[], None]) -> None:
    """Transpose the experts of a model folder that are held as transformers saves them.

    Each is rewritten in place; needs memory for one layer's experts.

    Args:
        folder: With config.json and safetensors.
        stop: Called between weights; raises to end early.
    """
    hidden = model_folder.hidden_size(folder)
    if model_folder.model_type(folder) not in FAMILIES or hidden is None:
        return
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
            _turn_shapes(file, turned)


def _is_turned(name: str, shape: tuple[int, ...], hidden: int) -> bool:
    """Tell whether a tensor is (expert, out, in); what is square is read alike by transformers."""
    if len(shape) != 3 or shape[1] == shape[2]:
        return False
    return (name.endswith(GATE_AND_UP) and shape[2] == hidden) or (
        name.endswith(DOWN) and shape[1] == hidden
    )


def _turn_shapes(file: Path, names: list[str]) -> None:
    """Swap the last two sizes in a file's header, which keeps its length."""
    with file.open("r+b") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
        for name in names:
            header[name]["shape"][1:] = reversed(header[name]["shape"][1:])
        written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        stream.seek(8)
        stream.write(written.ljust(length))
