"""Compare estimate_vram's formulas with traces of the real model classes.

    python benchmarks/trace.py [--output benchmarks/trace.json] [--model NAME ...]

Twelve architectures, each trained in full, with LoRA and with QLoRA, with and without gradient
checkpointing, on fake tensors: no GPU, no weights, no measured constant. Each is traced twice, with
its own vocabulary, where logits often dominate, and with one of 2,048, where the blocks do.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ft_tools import facts
from ft_tools.models.families import shape_from_config
from ft_tools.vram.decide import setup_of
from ft_tools.vram.phases import phases
from ft_tools.vram.request import VramRequest
from ft_tools.vram.trace import by_formula
from ft_tools.workers.trace import options_of, trace_step, with_layers

MODELS = (
    "meta-llama/Llama-3.2-1B",
    "mistralai/Mistral-7B-v0.1",
    "Qwen/Qwen2.5-1.5B",
    "Qwen/Qwen3-0.6B",
    "google/gemma-2-2b",
    "google/gemma-3-1b-pt",
    "microsoft/Phi-3-mini-4k-instruct",
    "HuggingFaceTB/SmolLM2-1.7B",
    "mistralai/Mixtral-8x7B-v0.1",
    "ibm-granite/granite-3.3-2b-instruct",
    "allenai/OLMo-2-0425-1B",
    "tiiuae/falcon-7b",
)
DEPTH = 3
SEQ_LEN = 4096
SMALL_VOCABULARY = 2048
NOTABLE = 0.05
# Ids that the smaller vocabulary has no room for.
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}


def compare(model: str, method: str, checkpointing: bool, vocabulary: int | None) -> dict[str, Any]:
    """Trace one setup, and return both peaks in bytes and how far they are apart."""
    config = with_layers(facts.model(model).config, DEPTH) | IDS
    if vocabulary is not None:
        config["vocab_size"] = vocabulary
    shape = shape_from_config(config, model)
    adapters: dict[str, Any] = {}
    if method != "full":
        names = tuple(linear.name for linear in shape.linears)
        adapters = {"lora_rank": 16, "target_modules": names}
    request = VramRequest(
        model=model,
        method=method,
        seq_len=SEQ_LEN,
        gradient_checkpointing=checkpointing,
        optimizer="adamw_torch",
        attention="flash",
        loss_head="full_logits",
        **adapters,
    )
    setup = replace(setup_of(request, shape), workspace_bytes=0)
    began = time.monotonic()
    traced = trace_step(config, options_of(setup))
    formula = by_formula(phases(setup))
    return {
        "model": model,
        "method": method,
        "checkpointing": checkpointing,
        "vocabulary": config["vocab_size"],
        "difference": max(formula.values()) / max(traced.values()) - 1,
        "phases": {name: formula[name] / traced[name] - 1 for name in traced},
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="one of the catalog; default: twelve")
    parser.add_argument("--output", type=Path, help="where to write the numbers as JSON")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    rows: list[dict[str, Any]] = []
    for model in arguments.model or MODELS:
        for method in ("full", "lora", "qlora"):
            for checkpointing in (True, False):
                for vocabulary in (None, SMALL_VOCABULARY):
                    row = compare(model, method, checkpointing, vocabulary)
                    rows.append(row)
                    print(
                        f"{model:36} {method:5} {'gc' if checkpointing else '--'} "
                        f"V={row['vocabulary']:<6} {100 * row['difference']:+6.2f}%",
                        {k: round(100 * v, 1) for k, v in row["phases"].items()},
                        flush=True,
                    )
    sizes = [abs(row["difference"]) for row in rows]
    notable = [row for row in rows if abs(row["difference"]) > NOTABLE]
    print(f"median {100 * statistics.median(sizes):.2f}%, worst {100 * max(sizes):.2f}%")
    print(f"{len(notable)} of {len(rows)} above {NOTABLE:.0%}")
    if arguments.output:
        result = {
            "median": statistics.median(sizes),
            "worst": max(sizes),
            "rows": rows,
            "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        }
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
