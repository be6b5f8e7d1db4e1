"""How far two ways to load a model raise memory: `python -m tests.tiny.load_peak FOLDER`."""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import load
from tests.tiny.peaks import growth, print_growths


def ours(folder):
    load(folder, Placement("cpu", "bfloat16", 0))


def converted(folder):
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).bfloat16()


def growth_of(way):
    torch.set_num_threads(1)
    # What the classes' own modules take is the library's.
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    MixtralForCausalLM(MixtralConfig(**small, num_attention_heads=1, num_key_value_heads=1))
    with growth() as peak:
        way(Path(sys.argv[1]))
    return max(peak) - peak[0]


if __name__ == "__main__":
    print_growths({"ours": lambda: growth_of(ours), "converted": lambda: growth_of(converted)})
