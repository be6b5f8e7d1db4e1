"""Compare estimate_vram's formulas with traces of the real model classes.

    python -m benchmarks.trace [--output benchmarks/trace.json] [--model NAME ...]

Twelve architectures, each trained in full, with LoRA and with QLoRA, with and without gradient
checkpointing, on fake tensors: no GPU, no weights, no measured constant. Each is traced in three
views: with its own vocabulary and full logits, which often dominate; with TRL's own loss, as
`launch_sft` trains; and with a vocabulary of 2,048, where the blocks dominate. Differences above 5%
are printed with their reason, and one without a reason fails.
"""

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers.utils import logging

from benchmarks.step_trace import by_formula, trace_step, with_layers, without_workspace
from ft_tools import facts
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.models.config import shape_from_config

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
VIEWS = (("full_logits", None), ("trl_fused", None), ("full_logits", SMALL_VOCABULARY))
NOTABLE = 0.05
REASONS: dict[tuple[str, str], str] = {}
"""(model, method) -> why the formula and the trace differ notably there."""
# Ids that the smaller vocabulary has no room for.
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}


def compare(
    model: str, method: str, checkpointing: bool, head: str, vocabulary: int | None
) -> dict[str, Any]:
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
        loss_head=head,
        **adapters,
    )
    setup = without_workspace(setup_of(request, shape))
    began = time.monotonic()
    traced = trace_step(config, setup)
    formula = by_formula(setup)
    return {
        "model": model,
        "method": method,
        "checkpointing": checkpointing,
        "head": head,
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
    for model, method, checkpointing, (head, vocabulary) in itertools.product(
        arguments.model or MODELS, ("full", "lora", "qlora"), (True, False), VIEWS
    ):
        row = compare(model, method, checkpointing, head, vocabulary)
        rows.append(row)
        print(
            f"{model:36} {method:5} {'gc' if checkpointing else '--'} {head:11} "
            f"V={row['vocabulary']:<6} {100 * row['difference']:+6.2f}%",
            {k: round(100 * v, 1) for k, v in row["phases"].items()},
            flush=True,
        )
    by_view = {f"{head}, {v or 'own'} vocabulary": (head, v) for head, v in VIEWS}
    views = {name: spread(rows, view) for name, view in by_view.items()}
    for name, view in views.items():
        print(f"{name}: median {100 * view['median']:.2f}%, worst {100 * view['worst']:.2f}%")
    notable = [row for row in rows if abs(row["difference"]) > NOTABLE]
    for row in notable:
        row["reason"] = REASONS.get((row["model"], row["method"]), "not explained")
        print(f"{row['model']} {row['method']} {100 * row['difference']:+.1f}%: {row['reason']}")
    print(f"{len(notable)} of {len(rows)} above {NOTABLE:.0%}")
    if arguments.output:
        names = ("torch", "transformers", "peft", "trl")
        result = {
            "views": views,
            "above_5_percent": len(notable),
            "versions": {name: version(name) for name in names},
            "machine": platform.machine(),
        }
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    unexplained = any(row["reason"] == "not explained" for row in notable)
    return 1 if unexplained else 0


def spread(rows: list[dict[str, Any]], view: tuple[str, int | None]) -> dict[str, Any]:
    """Return the median and the worst difference of one view, over all and by method."""
    head, vocabulary = view
    seen = [
        row
        for row in rows
        if row["head"] == head and (row["vocabulary"] == SMALL_VOCABULARY) == bool(vocabulary)
    ]
    parts: dict[str, Any] = {}
    for row in seen:
        part = f"{row['method']}, {'recomputed' if row['checkpointing'] else 'kept'}"
        parts.setdefault(part, []).append(abs(row["difference"]))
    sizes = [abs(row["difference"]) for row in seen]
    return {
        "rows": len(seen),
        "median": statistics.median(sizes),
        "worst": max(sizes),
        "parts": {
            name: {"median": statistics.median(found), "worst": max(found)}
            for name, found in parts.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
