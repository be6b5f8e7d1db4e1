"""Published rows of memory measurements, as setups that the formulas can be asked about."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.setup import Setup
from ft_tools.models.shape_of_model import shape_of

Row = Mapping[str, str]
BASES = {
    "TechxGenus/Meta-Llama-3-8B-GPTQ": "meta-llama/Meta-Llama-3-8B",
    "TheBloke/Llama-2-70B-GPTQ": "meta-llama/Llama-2-70b-hf",
    "TheBloke/Mistral-7B-v0.1-GPTQ": "mistralai/Mistral-7B-v0.1",
    "TheBloke/Mixtral-8x7B-Instruct-v0.1-GPTQ": "mistralai/Mixtral-8x7B-v0.1",
}
# These two were exported with one quantization group a column, as their resident size confirms.
GPTQ_PER_COLUMN = ("Llama-2-70B", "Mixtral")
# What was set from which rows; every other row is a check row.
CALIBRATION = {
    "fms foak": "8 and 10 bytes per logit of a fused cross-entropy, 2h saved per fused norm",
    "fms fsdp adapters": "gradients that FSDP 1 retains, root and block units",
    "fms fsdp full": "12i of full fine-tuning, two gathered blocks",
    "fms experts": "(6k + 6)i of experts",
    "fitcheck eager": "14.3 and 17.3 bytes per attention score",
    "fitcheck nf4": "16 bytes per logit of an fp32 head",
}
VARIABLE = "the length of the measured batches is not published"
UNSTATED = "micro-batch, length, rank, optimizer or attention is not published"
OTHER = "another implementation or method than the libraries modelled here"
LENGTHS_DISAGREE = "two sets of rows imply different lengths, neither the 4,096 stated"


@dataclass(frozen=True)
class Case:
    """A row that is compared: the setup that describes it, and what was measured."""

    id: str
    model: str
    source: str
    method: str
    calibration: str | None
    """The constant that this row helped to set; None for a check row."""
    setup: Setup
    gpu: str
    usable_gib: float
    allocated_gib: float | None
    process_gib: float | None
    out_of_memory: bool


def read(path: Path) -> tuple[list[Case], dict[str, int]]:
    """Read the rows.

    Returns:
        The rows that are compared, and for the others how many were left out for which reason.
    """
    cases: list[Case] = []
    left_out: dict[str, int] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found = SOURCES.get(row["id"].split(":")[0], _unstated)(row)
            if isinstance(found, Case):
                cases.append(found)
            else:
                left_out[found] = left_out.get(found, 0) + 1
    return cases, left_out


def _note(row: Row, pattern: str) -> str:
    found = re.search(pattern, row["notes"])
    return found.group(1) if found else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _case(
    row: Row, gpu: str, usable_gib: float, calibration: str | None, setup: Setup, method: str
) -> Case:
    return Case(
        id=row["id"],
        model=row["model"],
        source=row["id"].split(":")[0],
        method=method,
        calibration=calibration,
        setup=setup,
        gpu=gpu,
        usable_gib=usable_gib,
        allocated_gib=_number(row["peak_alloc_GiB"]),
        process_gib=_number(row["process_GiB"]) or _number(row["peak_reserved_GiB"]),
        out_of_memory=row["peak_mem_GB"] == "OOM",
    )


def _setup(arguments: Mapping[str, Any]) -> Setup:
    given = {key: value for key, value in arguments.items() if value is not None}
    # Each of these sources ran a plain transformers Trainer or a loop of its own.
    request = VramRequest.model_validate(given | {"trl_version": None})
    return setup_of(request, shape_of(request.model or ""))


def _fms(row: Row) -> Case | str:
    """fms-acceleration: A100-80GB, packed, FlashAttention 2, checkpointing, rank 16."""
    if "santacoder" in row["model"]:
        return LENGTHS_DISAGREE
    if "a100_80gb_moe" in row["id"]:
        return OTHER
    num_gpus = int(row["n_gpus"])
    method = row["method"].split("-")[0]
    # At a length not published only a peak in the optimizer step is still known.
    bound_by_optimizer = method == "full" and num_gpus == 1
    if "var" in row["seq_len"] and not bound_by_optimizer:
        return VARIABLE
    framework = _note(row, "framework_config=([^;]*)")
    fused = "foak" in framework
    setup = _setup(
        {
            "model": BASES.get(row["model"], row["model"]),
            "method": method,
            "lora_rank": int(row["lora_rank"]) if row["lora_rank"] else None,
            "target_modules": _named_targets(row),
            "lora_dropout": 0.1 if method != "full" else None,
            "seq_len": 4096,
            "micro_batch": int(row["micro_batch"]),
            "optimizer": "adamw_torch",
            "dtype": "bfloat16" if row["dtype"].startswith("bf") else "float16",
            "mixed_precision": "amp=none" not in row["dtype"],
            "attention": "flash",
            "fused_kernels": fused,
            "loss_head": "fused_linear"
            if "liger" in framework
            else ("fused_logits" if fused else "full_logits"),
            "num_gpus": num_gpus,
            "sharding": "fsdp1" if num_gpus > 1 else "none",
            "gpu": "A100-80GB",
            "transformers_version": "4.45" if "liger" in row["id"] else "4.48",
        }
    )
    if "gptq" in row["method"]:
        per_column = any(name in row["model"] for name in GPTQ_PER_COLUMN)
        setup = replace(setup, quantization="gptq4_column" if per_column else "gptq4")
    if framework == "baseline-peft-bnb" and num_gpus == 1:
        # The residual stream is fp32, but the resident size shows 16-bit embeddings.
        setup = replace(setup, residual_bytes=4)
    # transformers 4.45 has the bytes per logit of before; its file was measured with it.
    setup = replace(setup, fused_logits_bytes=8 if "liger" in row["id"] else 10)
    return _case(row, "A100-80GB", 79.15, _fms_calibration(row, setup), setup, method)


def _named_targets(row: Row) -> tuple[str, ...] | None:
    """Return the module names; the list of one source names a module of another model too."""
    names = tuple(name for name in row["target_modules"].split() if name != "c_attn")
    return names or None


def _fms_calibration(row: Row, setup: Setup) -> str | None:
    if setup.shape.num_experts:
        return "fms experts"
    if setup.num_gpus > 1:
        return "fms fsdp full" if setup.method == "full" else "fms fsdp adapters"
    return "fms foak" if setup.head == "fused_logits" else None


def _fitcheck(row: Row) -> Case | str:
    """fitcheck-llm 0.3.1: T4, fp16 without autocast, one step, checkpointing."""
    quantization = {"qlora-nf4": "nf4", "qlora-int8": "int8"}.get(row["method"])
    method = "qlora" if quantization else row["method"]
    setup = _setup(
        {
            "model": row["model"],
            "method": method,
            "lora_rank": int(row["lora_rank"]) if row["lora_rank"] else None,
            "target_modules": _named_targets(row),
            "quantization": quantization,
            "kbit_prepared": True if quantization == "nf4" else None,
            "seq_len": int(row["seq_len"]),
            "micro_batch": int(row["micro_batch"]),
            "gradient_checkpointing": row["grad_ckpt"] == "y",
            "optimizer": "adamw_torch",
            "dtype": "float16",
            "mixed_precision": False,
            # Sequences of one length have no mask; this card gets keys and values repeated anyway.
            "attention": row["attn"],
            "loss_head": "full_logits",
            "gpu": "T4",
        }
    )
    calibration = None
    if row["attn"] == "eager":
        calibration = "fitcheck eager"
    elif quantization == "nf4":
        calibration = "fitcheck nf4"
    return _case(row, "T4", 14.56, calibration, setup, method)


def _peft(row: Row) -> Case | str:
    """PEFT's MetaMathQA comparison: no checkpointing, padded to at most 768 tokens."""
    plain = row["method"] == "full" or re.search(r"rank\d+(-rslora)?$", row["id"])
    if row["method"] not in {"full", "lora"} or not (plain or row["method"] == "full"):
        return OTHER
    setup = _setup(
        {
            "model": row["model"],
            "method": row["method"],
            "lora_rank": int(row["lora_rank"]) if row["lora_rank"] else None,
            "target_modules": _named_targets(row),
            "seq_len": 768,
            "micro_batch": int(row["micro_batch"]),
            "gradient_checkpointing": False,
            "optimizer": "adamw_torch_fused",
            "dtype": "bfloat16",
            "mixed_precision": False,
            "attention": "sdpa",
            "padded_batches": True,
            "loss_head": "full_logits",
            "gpu": "L40S",
        }
    )
    return _case(row, "L40S", 44.53, None, setup, row["method"])


def _other(row: Row) -> str:
    return OTHER


def _unstated(row: Row) -> str:
    return UNSTATED


SOURCES = {
    "fms": _fms,
    "fitcheck": _fitcheck,
    "peft": _peft,
    "litgpt-rt": _other,
    "litgpt-hub": _other,
    "unslothctx": _other,
}
