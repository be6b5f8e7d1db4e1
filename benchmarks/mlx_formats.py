"""What MLX's formats keep of a real fine-tune, by the logits of their weights.

    python -m benchmarks.mlx_formats [DEMO]

DEMO is the folder of a finished demo; default: the newest one in demo-output/. Its adapter is
merged into SmolLM2-135M-Instruct, quantized as merge_and_quantize does, and compared with the
merged model on the demo's validation tickets. The quantized weights are expanded by MLX and
multiplied in torch: the same numbers up to float32 rounding, while MLX's own quantized products
take minutes without Metal. Writes mlx_formats.json beside this file.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ft_tools import workspace
from ft_tools.models import demo
from ft_tools.shipping import formats, quality
from ft_tools.shipping.worker import merging, mlx_folder, proof

PACKAGES = ["torch", "transformers", "mlx", "mlx-lm"]
NUM_TEXTS = 10


def main() -> None:
    """Merge, quantize, compare, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, nargs="?", help="folder of a finished demo")
    folder = parser.parse_args().demo or max(Path("demo-output").glob("*"), default=None)
    if folder is None:
        parser.error("there is no demo-output; run `make demo` first")
    os.environ[workspace.VARIABLE] = str(folder.resolve())
    (adapter,) = folder.glob("runs/sft-*/artifacts/adapter")
    tokenizer = AutoTokenizer.from_pretrained(demo.folder())
    held_out = folder / "clean" / "validation.jsonl"
    text = proof.held_out(tokenizer, held_out, "given", len(tokenizer))
    text.ids, text.raw = text.ids[:NUM_TEXTS], text.raw[:NUM_TEXTS]
    with tempfile.TemporaryDirectory() as where:
        merged = Path(where) / "merged"
        merged.mkdir()
        merging.merge_by_shards(demo.folder(), adapter, merged, lambda: None)
        merging.copy_small_files(demo.folder(), adapter, merged)
        reference = proof.Proof(tokenizer, text, Path(where) / "rows.f32", len(tokenizer))
        model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
        reference.fill(model)
        base = AutoModelForCausalLM.from_pretrained(demo.folder(), dtype=torch.float32).eval()
        reference.fill(base, reference.base_path)
        adapter_effect, _ = quality.summarise(
            reference.measure(proof.logits_of(base, text.ids)), True
        )
        rows = [measure(name, merged, model, reference) for name in ("mlx:8bit", "mlx:4bit")]
    result = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "model": demo.HUB_ID,
        "num_held_out_tokens": text.num_tokens,
        "adapter_kl": adapter_effect.mean_kl,
        "formats": rows,
    }
    out = Path(__file__).with_suffix(".json")
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(name, merged, model, reference):
    """Quantize the merged model and compare what its weights compute."""
    bits = int(formats.find(name).type_name.removesuffix("bit"))
    with tempfile.TemporaryDirectory() as into:
        mlx_folder.write(merged, Path(into), bits)
        size = sum(file.stat().st_size for file in Path(into).glob("*.safetensors"))
        loaded = model.load_state_dict(expanded(mlx_folder.opened(Path(into))), strict=False)
    assert not loaded.unexpected_keys, loaded
    found, _ = quality.summarise(
        reference.measure(proof.logits_of(model, reference.held_out.ids)), True
    )
    return {"format": name, "size_bytes": size, **found.model_dump(exclude={"tokenizer_parity"})}


def expanded(model):
    """Return the weights of a quantized model as tensors, by the names of transformers."""
    held = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            weight = mx.dequantize(
                module.weight, module.scales, module.biases, module.group_size, module.bits
            )
            held[f"{path}.weight"] = torch.from_numpy(np.array(weight.astype(mx.float32)))
    return held


if __name__ == "__main__":
    main()
