"""What shipping a model takes: disk, memory, time, and the quality to expect of a format."""

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
    place,
    running_places,
    shortage,
)
from ft_tools.models.size import ModelSize
from ft_tools.runs import estimates
from ft_tools.runs.estimates import Duration, Part, Range, about, token_seconds
from ft_tools.shipping import converter_script, formats
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.formats import Format
from ft_tools.shipping.quality import verdict_of

# Tokens on which a merge is checked, and the most that their logits may take.
CHECK_TOKENS = 512
CHECK_BYTES = 2**28
# Logits that are kept at the same time: of the base, of the base with its adapter, of the merge.
KEPT_LOGITS = 4
# Logits of the merged model, kept on the disk while formats are compared, and as many of the base;
# see worker/proving.py.
LOGITS_BYTES, LOGITS_TOKENS = 2**30, 1024
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
    """A format, and what to expect of it."""

    format: str
    estimated_bytes: int
    published_kl: float | None = Field(
        description="Mean KL of Llama-3-8B in this format, nats per token; small models lose more."
    )
    expected: str = Field(description="Verdict for published_kl; unknown if none is published.")
    source: str


class PlannedDisk(Report):
    """Space that a disk has to have free."""

    folder: str = Field(description="A folder on that disk.")
    num_bytes: int
    uses: list[str] = Field(
        description="output: merged model and formats; work: intermediate files; hub: the base "
        "model, downloaded first; cache: converter and environments."
    )


def planned_format(row: Format, size: ModelSize | None) -> PlannedFormat:
    """Return how large a format will be, and what is published of its quality.

    Args:
        row: The format.
        size: Of the base; None: not known.
    """
    kl = row.published_kl
    return PlannedFormat(
        format=row.name,
        estimated_bytes=format_bytes(row, size) if size else 0,
        published_kl=kl,
        expected="unknown" if kl is None else verdict_of(kl, True),
        source=formats.LOSS_SOURCE if kl is not None else formats.QUANTIZE_SOURCE,
    )


def format_bytes(row: Format, size: ModelSize) -> int:
    """Estimate the size of a model in a format.

    llm-compressor quantizes linear layers only; what is left stays in 16 bits.
    """
    if row.family == "safetensors":
        return size.stored_bytes
    if row.family in {"gguf", "mlx"}:
        return int(size.num_params * row.bits_per_weight / 8)
    return _with_rest(row, size, size.linear_params)


def require_quantizable(row: Format, size: ModelSize) -> None:
    """Refuse a format that would leave fused experts as they are.

    Raises:
        Refused: The file would be far larger than the format promises.
    """
    hoped = _with_rest(row, size, size.linear_params + size.expert_params)
    made, most = format_bytes(row, size), facts.number("loading.largest_size_ratio")
    if row.family == "environment" and size.expert_params and made > most * hoped:
        fields = {"made": made / 2**30, "hoped": hoped / 2**30}
        raise refusal("fused_experts", format=row.name, **fields)


def _with_rest(row: Format, size: ModelSize, quantized: int) -> int:
    rest = (size.num_params - quantized) * min(2.0, size.bytes_per_param)
    return int(quantized * row.bits_per_weight / 8 + rest)


def disks(
    planned: Sequence[PlannedFormat],
    rows: Sequence[Format],
    size: ModelSize | None,
    places: Mapping[str, Path],
    *,
    fetched: bool,
    environment_bytes: int = 0,
) -> list[PlannedDisk]:
    """Return the space that each disk has to have free.

    Args:
        planned: Formats, with their sizes.
        rows: The same formats.
        size: Of the base; None: not known.
        places: `output`, `work`, `hub` and `cache` -> a folder of it.
        fetched: Whether the base is fetched from the Hub first.
        environment_bytes: Of environments that are built first.
    """
    merged = size.stored_bytes if size else 0
    logits = min(LOGITS_BYTES, LOGITS_TOKENS * 4 * size.vocab_size) if size else LOGITS_BYTES
    has_gguf = any(row.family == "gguf" for row in rows)
    made = sum(p.estimated_bytes for p in planned if p.format != "safetensors")
    needs = {
        "output": merged + int(QUANTIZED_MARGIN * made),
        "work": 3 * logits + has_gguf * merged,
        "hub": fetched * merged,
        "cache": environment_bytes + has_gguf * converter_script.DOWNLOAD_BYTES,
    }
    disks: dict[int, PlannedDisk] = {}
    for use, num_bytes in needs.items():
        existing = next(one for one in (places[use], *places[use].parents) if one.exists())
        if num_bytes:
            disk = existing.stat().st_dev
            known = disks.get(disk) or PlannedDisk(folder=str(places[use]), num_bytes=0, uses=[])
            more = {"num_bytes": known.num_bytes + num_bytes, "uses": [*known.uses, use]}
            disks[disk] = known.model_copy(update=more)
    return list(disks.values())


def working_bytes(size: ModelSize, adapter: AdapterFacts | None) -> int:
    """Return what the checks keep beside a model: logits of a few runs, the adapter twice."""
    logits = min(CHECK_BYTES, CHECK_TOKENS * 4 * size.vocab_size)
    return KEPT_LOGITS * logits + 2 * (adapter.bytes if adapter else 0)


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
    has_gguf = any(row.family == "gguf" for row in rows)
    by_tensors = (CONVERTED_BYTES if has_gguf else MERGED_BYTES) * size.layer_params
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
    found = place(size, machine, [own], working_bytes=2 * adapter.bytes)
    if found is None:
        needs = shortage(size, machine)
        raise refusal("merge_does_not_fit", why=adapter.why_whole, shortage=needs)
    return found


def require_possible(
    rows: Sequence[Format],
    size: ModelSize,
    machine: Machine,
    adapter: AdapterFacts | None,
) -> None:
    """Refuse what this machine could not do even with nothing else on it.

    Args:
        rows: The formats.
        size: Of the base.
        machine: With all of its memory.
        adapter: Of the plan; None: nothing is merged.

    Raises:
        Refused: The merge or a format needs the whole model loaded, and it fits nowhere.
    """
    if adapter and adapter.route == "whole":
        own: Dtype = "float32" if size.bytes_per_param > 3 else "bfloat16"
        place_of_merge(size, machine, adapter, own)
    least = ram_bytes(size, None, rows)
    if (adapter or any(row.family == "gguf" for row in rows)) and least > machine.ram_bytes:
        fields = {"needed": least / 2**30, "ram": machine.ram_bytes / 2**30}
        raise refusal("layer_does_not_fit", **fields)
    for row in rows:
        require_quantizable(row, size)
        # llm-compressor loads the model into memory, whatever cards there are.
        found = {
            "environment": lambda: candidates(size, machine.without_cards(), ["bfloat16"]),
            "mlx": lambda: running_places(size, machine, exact=True),
        }
        if row.family in found and not found[row.family]():
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

    Args:
        size: Of the base.
        rows: The formats.
        runs_on: Where the merged model is run; None: nothing is measured.
        max_examples: Held-out examples that each format answers.
        device: As requested.
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
