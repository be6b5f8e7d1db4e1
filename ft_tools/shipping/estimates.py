"""What shipping a model takes: disk, memory and time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from ft_tools import facts
from ft_tools.contract import Report
from ft_tools.models.machine import Machine, first_card
from ft_tools.models.placement import (
    Dtype,
    Placement,
    candidates,
    running_places,
    shortage,
)
from ft_tools.models.size import ModelSize
from ft_tools.runs import estimates
from ft_tools.runs.estimates import Duration, Part, Range, about, token_seconds
from ft_tools.shipping import converter_script
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.formats import Format

# Logits of the merged model, kept on the disk while formats are compared, and as many of the base
# and of a format; see worker/proof.py.
LOGITS_BYTES, LOGITS_TOKENS = 2**30, 1024
# Rows of logits that are compared in memory at a time, as many of each model and in float64.
COMPARED_BYTES, COMPARED_TOKENS, COMPARED_COPIES = 2**28, 512, 4
# Files hold more than the weights: a small model's embeddings stay at a higher precision.
QUANTIZED_MARGIN = 1.1
# Seconds per billion parameters, on 2 cores; from runs of SmolLM2-135M, benchmarks/quantize.json.
# `read` is what checking the merge and reading the held-out text takes without a GPU.
SECONDS_A_BILLION = {
    "merge": 10.0,
    "read": 150.0,
    "convert": 60.0,
    "format": 60.0,
    "gptq": 1200.0,
    "awq": 2500.0,
}
# Seconds per token of an answer and byte of weights: 61 tokens/s of a GGUF file of 271 MB, and
# about a third of that through transformers in float32. Source: benchmarks/quantize.json
GGUF_TOKEN_SECONDS, MODEL_TOKEN_SECONDS = 1e-10, 2e-10
ANSWER_TOKENS = 32
SAMPLE_TOKENS = 96
START_SECONDS = 20.0
OFF: Range = (0.5, 2.0)
"""Machines differ by twice at least from the one that was measured."""
# Bytes per parameter of the largest layer: merged in float32; llama.cpp's converter, a process of
# its own, and its quantizer hold it twice. Source: benchmarks/small_memory.json, 3.6 GiB
MERGED_BYTES, CONVERTED_BYTES = 4, 8


class PlannedFormat(Report):
    """A format, and how large it will be."""

    format: str
    estimated_bytes: int = Field(description="0: the size of the base is not known yet.")


def has_family(rows: Sequence[Format], family: str) -> bool:
    """Return whether one of the formats is of a family."""
    return any(row.family == family for row in rows)


def format_bytes(row: Format, size: ModelSize) -> int:
    """Estimate the size of a model in a format.

    llm-compressor quantizes linear layers only; what is left stays in 16 bits.
    """
    if row.family == "safetensors":
        return size.stored_bytes
    if row.family in {"gguf", "mlx"}:
        return int(size.num_params * row.bits_per_weight / 8)
    return _compressed_bytes(row, size, size.linear_params)


def _compressed_bytes(row: Format, size: ModelSize, quantized: int) -> int:
    rest = (size.num_params - quantized) * min(2.0, size.bytes_per_param)
    return int(quantized * row.bits_per_weight / 8 + rest)


def disk_needs(
    planned: Mapping[str, int],
    size: ModelSize | None,
    *,
    is_fetched: bool,
    has_gguf: bool,
    environment_bytes: int,
) -> dict[str, int]:
    """Return the bytes that have to be free for each use.

    output: merged model and formats; work: intermediate files; hub: the base, where it is fetched
    first; cache: the converter, and environments that are built first.
    """
    merged = size.stored_bytes if size else 0
    logits = min(LOGITS_BYTES, LOGITS_TOKENS * 4 * size.vocab_size) if size else LOGITS_BYTES
    made = sum(planned.values()) - planned.get("safetensors", 0)
    return {
        "output": merged + int(QUANTIZED_MARGIN * made),
        "work": 3 * logits + has_gguf * merged,
        "hub": is_fetched * merged,
        "cache": environment_bytes + has_gguf * converter_script.DOWNLOAD_BYTES,
    }


def by_disk(needs: Mapping[str, int], places: Mapping[str, Path]) -> dict[str, int]:
    """Add up what each disk has to have free: a folder of it -> bytes."""
    folders: dict[int, str] = {}
    found: dict[str, int] = {}
    for use, num_bytes in needs.items():
        existing = next(one for one in (places[use], *places[use].parents) if one.exists())
        folder = folders.setdefault(existing.stat().st_dev, str(places[use]))
        found[folder] = found.get(folder, 0) + num_bytes
    return found


def working_bytes(size: ModelSize, adapter: AdapterFacts | None) -> int:
    """Return what the checks keep beside a model: compared logits, the adapter twice."""
    logits = min(COMPARED_BYTES, COMPARED_TOKENS * 4 * size.vocab_size)
    return COMPARED_COPIES * logits + 2 * (adapter.bytes if adapter else 0)


def placement_of(
    size: ModelSize | None, machine: Machine, adapter: AdapterFacts | None
) -> Placement | None:
    """Return where the merged model would be run to prove it; None: nowhere, or not known."""
    if size is None:
        return None
    working = working_bytes(size, adapter)
    return next(iter(running_places(size, machine, working_bytes=working, exact=True)), None)


def ram_bytes(
    size: ModelSize | None, runs_on: Placement | None, rows: Sequence[Format] = ()
) -> int:
    """Return the memory of the worst moment; a model on a card passes through it by tensors."""
    process = int(facts.number("loading.process_gib") * 2**30)
    if size is None:
        return process
    per_weight = CONVERTED_BYTES if has_family(rows, "gguf") else MERGED_BYTES
    by_tensors = per_weight * size.layer_params
    if runs_on is not None and runs_on.device == "cpu":
        return process + max(runs_on.num_bytes, by_tensors)
    return process + by_tensors


def place_of_merge(
    size: ModelSize, machine: Machine, adapter: AdapterFacts, own: Dtype
) -> Placement:
    """Return where a model is merged in its own numbers, which are those that are shipped.

    Raises:
        Refused: It fits nowhere.
    """
    found = candidates(size, machine, [own], working_bytes=2 * adapter.bytes)
    if not found:
        needs = shortage(size, machine)
        raise refusal("merge_does_not_fit", why=adapter.why_whole, shortage=needs)
    return found[0]


def require_possible(
    rows: Sequence[Format], size: ModelSize, machine: Machine, adapter: AdapterFacts | None
) -> None:
    """Refuse what this machine could not do even with nothing else on it.

    Raises:
        Refused: The merge or a format needs the whole model loaded, and it fits nowhere; or a
            format would leave fused experts as they are.
    """
    if adapter and adapter.route == "whole":
        own: Dtype = "float32" if size.bytes_per_param > 3 else "bfloat16"
        place_of_merge(size, machine, adapter, own)
    least = ram_bytes(size, None, rows)
    if (adapter or has_family(rows, "gguf")) and least > machine.ram_bytes:
        fields = {"needed": least / 2**30, "ram": machine.ram_bytes / 2**30}
        raise refusal("layer_does_not_fit", **fields)
    for row in rows:
        if row.family == "environment":
            made = format_bytes(row, size)
            hoped = _compressed_bytes(row, size, size.linear_params + size.expert_params)
            if made > facts.number("loading.largest_size_ratio") * hoped:
                gib = {"made": made / 2**30, "hoped": hoped / 2**30}
                raise refusal("fused_experts", format=row.name, **gib)
            # llm-compressor loads the model into memory, whatever cards there are.
            fits = bool(candidates(size, machine.without_cards(), ["bfloat16"]))
        else:
            fits = row.family != "mlx" or bool(running_places(size, machine, exact=True))
        if not fits:
            shown = shortage(size, machine)
            raise refusal("format_does_not_fit", format=row.name, shortage=shown)


def duration(
    size: ModelSize | None,
    rows: Sequence[Format],
    runs_on: Placement | None,
    max_examples: int,
    device: str = "auto",
) -> Duration | None:
    """Return how long it takes, without environments; None: size or GPU is not known.

    Merging, converting, quantizing and GGUF files are the processor's; the merged model is run
    where it is loaded.
    """
    if size is None:
        return None
    files = [row for row in rows if row.family == "gguf"]
    # The converter makes one file, from which llama.cpp makes the others.
    steps = ["merge", *(["convert"] if files else []), *(row.method for row in rows)]
    if runs_on is not None and runs_on.device == "cpu":
        steps.append("read")
    billions = sum(SECONDS_A_BILLION.get(step, SECONDS_A_BILLION["format"]) for step in steps)
    parts: list[Part] = [(1, (START_SECONDS, START_SECONDS))]
    parts.append((size.num_params / 1e9, about(billions, OFF)))
    if runs_on is not None:
        if runs_on.device == "cpu":
            rate: float | None = size.stored_bytes * MODEL_TOKEN_SECONDS
        else:
            found = token_seconds(size.stored_bytes, first_card(device))
            rate = found[0] if found else None
        tokens = SAMPLE_TOKENS + max_examples * ANSWER_TOKENS
        of_files = sum(format_bytes(row, size) for row in files) * GGUF_TOKEN_SECONDS
        parts += [(tokens, about(rate, OFF)), (tokens, about(of_files, OFF))]
    return estimates.duration(parts, "the table of rates, without environments that are built")
