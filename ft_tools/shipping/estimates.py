"""What shipping a model takes: disk, memory, time, and the quality to expect of a format."""

from ft_tools.models import tensors
from ft_tools.models.tensors import Tensor
from ft_tools.shipping import converter, formats
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.formats import Format
from ft_tools.shipping.plan import PlannedFormat
from ft_tools.shipping.quality import verdict_of

# Reference logits that are kept while formats are compared; see workers/proving.py.
LOGITS_BYTES = 2**30
# Seconds a billion parameters, on 2 cores: a rough guess from runs of SmolLM2-135M.
SECONDS_A_BILLION = {
    "merge": 150.0,
    "convert": 90.0,
    "format": 150.0,
    "gptq": 1200.0,
    "awq": 2500.0,
}
START_SECONDS = 20.0


def planned_format(row: Format, num_params: int, bytes_each: float) -> PlannedFormat:
    """Say how large a format will be, and what is published of its quality.

    Args:
        row: The format.
        num_params: Parameters of the base.
        bytes_each: Bytes a parameter in the merged model.
    """
    kl = row.published_kl
    return PlannedFormat(
        format=row.name,
        estimated_bytes=formats.estimated_bytes(row, num_params, bytes_each),
        published_kl=kl,
        expected="unknown" if kl is None else verdict_of(kl, True),
        source=formats.LOSS_SOURCE if kl is not None else formats.QUANTIZE_SOURCE,
    )


def bytes_a_parameter(held: dict[str, Tensor]) -> float:
    """Return the bytes a parameter takes in a base; 2 where it is not known."""
    count = tensors.num_params(held)
    return tensors.num_bytes(held) / count if count else 2.0


def disk_bytes(planned: list[PlannedFormat], rows: list[Format], held: dict[str, Tensor]) -> int:
    """Return the space that has to be free, working files included; without environments."""
    merged = tensors.num_bytes(held)
    made = sum(p.estimated_bytes for p in planned if p.format != "safetensors")
    working = merged if any(row.family == "gguf" for row in rows) else 0
    fetched = converter.DOWNLOAD_BYTES if any(row.family == "gguf" for row in rows) else 0
    return int(1.1 * (merged + made + working)) + LOGITS_BYTES + fetched


def ram_bytes(held: dict[str, Tensor], facts: AdapterFacts | None) -> int:
    """Return the memory of the check, which runs the whole model in float32."""
    return int(tensors.num_params(held) * 4 * 1.2) + 2**30 + (facts.bytes if facts else 0)


def seconds(num_params: int | None, rows: list[Format]) -> float | None:
    """Return about how long it takes on two cores, without environments; None: size unknown."""
    if num_params is None:
        return None
    parts = SECONDS_A_BILLION
    each = parts["merge"] + sum(parts.get(row.method, parts["format"]) for row in rows)
    if any(row.family == "gguf" for row in rows):
        # The converter's; what llama.cpp makes of its file is a format's.
        each += parts["convert"]
    return round(num_params / 1e9 * each + START_SECONDS, 1)
