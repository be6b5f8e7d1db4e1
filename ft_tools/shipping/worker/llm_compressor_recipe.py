"""Quantize a model with llm-compressor, or run what it made: `SCRIPT JOB.json`.

Runs with the python of llm-compressor's own environment (llm_compressor_environment.py), so it
imports nothing of this package. The job names what to do and every path; the answer is a JSON file.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from transformers import AutoModelForCausalLM, AutoTokenizer

# The output layer and what routes to experts stay as they are: small, and they decide most.
KEPT = ["lm_head", r"re:.*\.gate$", r"re:.*router.*"]
# Of weights that share a scale; 128 is GPTQ's own. Source: https://arxiv.org/abs/2210.17323
GROUP_SIZES = (128, 64, 32)


def main() -> None:
    """Do the job named on the command line."""
    job = json.loads(Path(sys.argv[1]).read_bytes())
    answer = {"make": make, "run": run}[job["task"]](job)
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def make(job: dict[str, Any]) -> dict[str, Any]:
    """Quantize `model` to `method` (gptq, awq or fp8) into `output`, calibrated on `texts`."""
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype="auto", device_map={"": "cpu"})
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in job["texts"]]
    size = group_size(model)
    data: dict[str, Any] = {}
    if rows:
        data = {
            "dataset": Dataset.from_list(rows),
            "num_calibration_samples": len(rows),
            "max_seq_length": max(len(row["input_ids"]) for row in rows),
        }
    if not torch.accelerator.is_available():
        # AWQ pins memory for an accelerator, and fails where there is none to copy to.
        IntermediatesCache.pin_memory = lambda *_, **__: None
    oneshot(model=model, recipe=recipe(job["method"], size), output_dir=job["output"], **data)
    return {"group_size": size, "num_texts": len(rows)}


def recipe(method: str, size: int | None) -> Any:
    """Return llm-compressor's modifiers for a method; `size`: weights that share a scale."""
    if method == "fp8":
        return QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=KEPT)
    weights = {"num_bits": 4, "type": "int", "symmetric": method == "gptq", "strategy": "channel"}
    if size is not None:
        weights |= {"strategy": "group", "group_size": size}
    groups = {"config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}
    if method == "gptq":
        return GPTQModifier(ignore=KEPT, **groups)
    return [AWQModifier(), QuantizationModifier(ignore=KEPT, **groups)]


def group_size(model: Any) -> int | None:
    """Return the largest group that divides every row; None: one scale a row."""
    skipped = model.get_output_embeddings()
    widths = {
        module.in_features
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not skipped
    }
    return next((n for n in GROUP_SIZES if all(width % n == 0 for width in widths)), None)


@torch.inference_mode()
def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run `model` over `texts`: logits to a file, ids of `probes`, greedy answers to `prompts`."""
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=getattr(torch, job["dtype"]), device_map=job["device_map"]
    ).eval()
    with open(job["logits"], "wb") as file:
        for ids in job["texts"]:
            rows = model(torch.tensor([ids], device=model.device)).logits[0].float().cpu().numpy()
            file.write(rows.tobytes())
    answers, count, began = [], 0, time.monotonic()
    for ids in job["prompts"]:
        batch = torch.tensor([ids], device=model.device)
        made = model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            max_new_tokens=job["max_new_tokens"],
            do_sample=False,
            pad_token_id=model.generation_config.pad_token_id or 0,
        )
        answers.append(made[0, len(ids) :].tolist())
        count += len(answers[-1])
    return {
        "answers": answers,
        "tokens_per_second": count / (time.monotonic() - began),
        "vocabulary": rows.shape[1],
        "ids": [tokenizer(text, add_special_tokens=False).input_ids for text in job["probes"]],
    }


if __name__ == "__main__":
    main()
