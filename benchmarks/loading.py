"""Memory of loading and running a model, against the bytes of its weights.

    python -m benchmarks.loading

Three Llamas of random weights are saved in bfloat16 and loaded as workers load them, each in a
process of its own, in float32, bfloat16 and NF4; then they read 256 tokens. Memory is what no
kernel can drop (RssAnon), sampled every two milliseconds. `ratio` is its growth over the bytes that
`models/placement.py` counts for the weights: thresholds.toml's `loading.margin` has to cover it.
`process_gib` is what a worker's libraries take before: `loading.process_gib` has to cover it.

Writes loading.json beside this file.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ft_tools import facts
from ft_tools.models.placement import Dtype, Placement, weight_bytes
from ft_tools.models.size import size_of_files

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
SHAPES = {
    "80M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8},
    "250M": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 14},
    "700M": {"hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 18},
}
WAYS: dict[str, tuple[Dtype, bool]] = {
    "float32": ("float32", False),
    "bfloat16": ("bfloat16", False),
    "nf4": ("bfloat16", True),
}
NUM_TOKENS = 256
VOCABULARY = 8192


def anonymous() -> int:
    """Return the bytes of this process's memory that no kernel can drop."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def child(folder: Path, way: str) -> None:
    """Load a model and run it; prints what the process took before, and its peak after."""
    # What a worker imports before it loads.
    import bitsandbytes  # noqa: F401
    import peft  # noqa: F401

    from ft_tools.models.worker.loading import load

    torch.set_num_threads(1)
    before = anonymous()
    seen, over = [before], threading.Event()

    def sample() -> None:
        while not over.is_set():
            seen.append(anonymous())
            time.sleep(0.002)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    dtype, four_bit = WAYS[way]
    place = Placement("cpu", dtype, 0, four_bit)
    model = load(folder, place, quantization=NF4 if four_bit else None)
    with torch.inference_mode():
        model(torch.arange(NUM_TOKENS)[None] % VOCABULARY)
    over.set()
    thread.join()
    print(json.dumps({"process": before, "peak": max(seen)}))


def measure(folder: Path, shape: str) -> list[dict[str, Any]]:
    """Measure one model in each way."""
    config = LlamaConfig(
        **SHAPES[shape],
        vocab_size=VOCABULARY,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
    )
    model = folder / shape
    LlamaForCausalLM(config).bfloat16().save_pretrained(model)
    size = size_of_files(model)
    logits = NUM_TOKENS * VOCABULARY * 4
    rows = []
    for way, (dtype, four_bit) in WAYS.items():
        argv = [sys.executable, "-m", "benchmarks.loading", "--child", str(model), way]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        seen = json.loads(said.splitlines()[-1])
        weights = weight_bytes(size, dtype, four_bit=four_bit)
        growth = seen["peak"] - seen["process"]
        rows.append(
            {
                "model": shape,
                "params": size.num_params,
                "loaded_in": way,
                "weights_mib": round(weights / 2**20, 1),
                "growth_mib": round(growth / 2**20, 1),
                "ratio": round((growth - logits) / weights, 3),
                "process_gib": round(seen["process"] / 2**30, 3),
            }
        )
    return rows


def main() -> None:
    """Measure all, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "WAY"))
    chosen = parser.parse_args()
    if chosen.child:
        child(Path(chosen.child[0]), chosen.child[1])
        return
    with tempfile.TemporaryDirectory() as name:
        rows = [row for shape in SHAPES for row in measure(Path(name), shape)]
    result = {
        "claim": "loading.margin and loading.process_gib cover what is measured",
        "margin": facts.number("loading.margin"),
        "process_gib": facts.number("loading.process_gib"),
        "largest_ratio": max(row["ratio"] for row in rows),
        "largest_process_gib": max(row["process_gib"] for row in rows),
        "rows": rows,
        "machine": f"{platform.machine()}, CPU only",
        "torch": torch.__version__,
    }
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
