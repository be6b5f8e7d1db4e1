"""How far two ways to merge raise this process's memory: `python -m tests.tiny.merge_peak ...`.

Takes a base, an adapter and a folder to write to; prints the growth in bytes over what the imported
libraries take. The second way is the plain one, a file at a time through safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ft_tools.models import safetensors_headers
from ft_tools.shipping.adapter import read_config
from ft_tools.shipping.worker import merging
from tests.tiny.peaks import resident


def ours(base, adapter, into):
    merging.merge_by_shards(base, adapter, into, None, lambda: None)


def a_file_at_a_time(base, adapter, into):
    config = read_config(adapter)
    deltas = merging.group_by_target(load_file(adapter / safetensors_headers.ADAPTER))
    for file in safetensors_headers.weight_files(base):
        merged = load_file(file)
        for name in merged.keys() & deltas.keys():
            merged[name] = merging.fold(merged[name], deltas[name], name, config)
        save_file(merged, into / file.name)


def growth(way, base, adapter, into):
    into.mkdir()
    # Resets VmHWM, see proc(5).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    way(base, adapter, into)
    return resident("VmHWM") - before


if __name__ == "__main__":
    torch.set_num_threads(1)
    # What the first product of two matrices sets up is the library's.
    torch.ones(8, 8) @ torch.ones(8, 8)
    base, adapter, into = map(Path, sys.argv[1:])
    peaks = {
        "ours": growth(ours, base, adapter, into / "ours"),
        "a file at a time": growth(a_file_at_a_time, base, adapter, into / "plain"),
    }
    sys.stdout.write(json.dumps(peaks))
