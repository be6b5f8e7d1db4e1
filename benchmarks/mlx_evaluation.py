"""The same model and adapter evaluated by torch and by MLX: same texts, same likelihoods.

    python -m benchmarks.mlx_evaluation --prompts 200

SmolLM2-135M-Instruct in float32, alone and below a PEFT adapter with random weights, is asked
everyday questions greedily in batches, and reads the answers of torch. Where two texts part, the
difference of the two tokens' logits is torch's. MLX multiplies with scipy's OpenBLAS (see
`benchmarks.fast_blas`), and with its own for a few prompts: the speed a user on Linux has.

Claim: at least 99% of texts are the same, the others part where two tokens are nearly tied. Writes
mlx_evaluation.json beside this file.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, set_seed

from benchmarks import fast_blas
from benchmarks.backends import NEAR_TIE, texts_asked
from benchmarks.evaluate import batched, gap_where_texts_part
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.models import LoadPlan, ModelFiles
from ft_tools.evaluation.worker.loaded_models import LoadedModels
from ft_tools.evaluation.worker.mlx_writer import MlxWriter
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.models import demo

TOKENS = 24
OWN_BLAS_PROMPTS = 8
PACKAGES = ["torch", "transformers", "peft", "mlx", "mlx-lm"]


def adapter_in(folder: Path) -> Path:
    """Save an adapter whose weights are random, as PEFT does."""
    set_seed(0)
    base = AutoModelForCausalLM.from_pretrained(demo.folder())
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    model.save_pretrained(folder)
    return folder


def writers(adapter: Path | None) -> tuple[TransformersWriter, MlxWriter]:
    """Return the model in torch and in MLX."""
    files = ModelFiles(
        name="m",
        kind="adapter" if adapter else "folder",
        load_from=str(demo.folder()),
        adapter=str(adapter) if adapter else None,
        files_sha256="",
    )
    found = [
        LoadedModels(LoadPlan(device=place, place=place, dtype="float32", num_bytes=0), []).writer(
            files
        )
        for place in ("cpu", "mlx")
    ]
    theirs, ours = found
    assert isinstance(theirs, TransformersWriter)
    assert isinstance(ours, MlxWriter)
    return theirs, ours


def measure(adapter: Path | None, count: int, size: int) -> dict[str, Any]:
    """Compare the texts and the likelihoods of both."""
    theirs, ours = writers(adapter)
    asked = [theirs.render(HeldOut(line=0, prompt=text), "chat") for text in texts_asked(count)]
    wanted, torch_seconds = batched(theirs, asked, TOKENS, size)
    said, mlx_seconds = batched(ours, asked, TOKENS, size)
    parted = [i for i in range(count) if said[i] != wanted[i]]
    gaps = {i: gap_where_texts_part(theirs, asked[i], said[i], wanted[i]) for i in parted}
    texts = [(prompt, prompt + text) for prompt, text in zip(asked, wanted, strict=True)][:32]
    pairs = zip(theirs.likelihoods(texts), ours.likelihoods(texts), strict=True)
    return {
        "prompts": count,
        "different_texts": len(set(wanted)),
        "same_fraction": round(1 - len(parted) / count, 4),
        "logit_gaps_where_texts_part": {i: round(gap, 6) for i, gap in gaps.items()},
        "every_difference_is_a_near_tie": all(gap < NEAR_TIE for gap in gaps.values()),
        "largest_difference_of_nats_per_token": max(
            round(abs(a.nats - b.nats) / a.num_tokens, 8) for a, b in pairs
        ),
        "seconds": {"torch": round(torch_seconds, 1), "mlx": round(mlx_seconds, 1)},
    }  # fmt: skip


def own_blas() -> dict[str, float]:
    """Return the seconds for a token of one sequence with MLX as it is installed."""
    _, ours = writers(None)
    asked = [ours.render(HeldOut(line=0, prompt=text), "chat") for text in texts_asked(64)]
    asked = asked[:OWN_BLAS_PROMPTS]
    began = time.perf_counter()
    tokens = sum(output.num_tokens for output in ours.generate(asked, 8))
    seconds = time.perf_counter() - began
    read = sum(len(ours.encode(prompt)) for prompt in asked)
    return {"seconds": round(seconds, 1), "tokens_read": read, "tokens_written": tokens}


def main() -> None:
    """Measure both sides and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--own-blas", action="store_true", help="measure the speed of that only")
    arguments = parser.parse_args()
    if arguments.own_blas:
        sys.stdout.write(json.dumps(own_blas()))
        return
    with tempfile.TemporaryDirectory() as name:
        if "LD_PRELOAD" not in os.environ:
            env = fast_blas.environment(Path(name))
            command = [sys.executable, "-m", "benchmarks.mlx_evaluation", *sys.argv[1:]]
            sys.exit(subprocess.run(command, env=env, check=False).returncode)
        # As many as MLX uses.
        torch.set_num_threads(1)
        adapter = adapter_in(Path(name))
        found = {
            side: measure(used, arguments.prompts, arguments.batch_size)
            for side, used in (("base", None), ("adapter", adapter))
        }
    plain = {key: value for key, value in os.environ.items() if key not in fast_blas.NAMES}
    command = [sys.executable, "-m", "benchmarks.mlx_evaluation", "--own-blas"]
    said = subprocess.run(command, env=plain, check=True, capture_output=True, text=True).stdout
    result = {
        "claim": "the same texts and likelihoods from torch and MLX",
        "model": demo.HUB_ID,
        "new_tokens": TOKENS,
        "batch_size": arguments.batch_size,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {each: importlib.metadata.version(each) for each in PACKAGES},
        "load_average": round(os.getloadavg()[0], 1),
        **found,
        "mlx_with_its_own_blas": json.loads(said),
    }
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
