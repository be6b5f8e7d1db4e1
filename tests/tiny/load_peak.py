"""How far loading a model raises memory: `python -m tests.tiny.load_peak FOLDER WAY`.

Prints the growth in bytes of anonymous memory, which no kernel can drop, sampled by a thread.
"""

import json
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import load


def anonymous():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def growth():
    """Give a list of samples of anonymous memory, the first of before the block."""
    seen, over = [anonymous()], threading.Event()

    def sample():
        while not over.is_set():
            seen.append(anonymous())
            time.sleep(0.002)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    yield seen
    over.set()
    thread.join()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, way = Path(sys.argv[1]), sys.argv[2]
    # What the classes' own modules take is the library's.
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    MixtralForCausalLM(MixtralConfig(**small, num_attention_heads=1, num_key_value_heads=1))
    with growth() as peak:
        if way == "ours":
            load(folder, Placement("cpu", "bfloat16", 0))
        else:
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).bfloat16()
    sys.stdout.write(json.dumps(max(peak) - peak[0]))
