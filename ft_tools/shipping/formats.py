"""The formats a model can be shipped in: size, published loss, and what it takes to make one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ft_tools.errors import Missing, UnknownName

Family = Literal["safetensors", "gguf", "bnb", "environment"]

QUANTIZE_SOURCE = "https://github.com/ggml-org/llama.cpp/blob/master/tools/quantize/README.md"
LOSS_SOURCE = "https://github.com/ggml-org/llama.cpp/blob/master/tools/perplexity/README.md"


@dataclass(frozen=True)
class Format:
    """A row of the table.

    `bits_per_weight` was measured on Llama-3.1-8B; small models have more, because their
    embeddings weigh more and are kept at a higher precision. `published_kl` is the mean
    Kullback-Leibler divergence from 16-bit logits, in nats a token, on Llama-3-8B and WikiText-2,
    without an importance matrix; None where none was published.
    """

    name: str
    family: Family
    bits_per_weight: float
    published_kl: float | None = None
    needs: str = ""

    @property
    def type_name(self) -> str:
        """Return the part after the colon: what llama.cpp calls the type.

        >>> find("gguf:Q4_K_M").type_name
        'Q4_K_M'
        """
        return self.name.partition(":")[2]


# Bits a weight: QUANTIZE_SOURCE. KL: LOSS_SOURCE, table "LLaMA 3 8b Scoreboard".
FORMATS = (
    Format("safetensors", "safetensors", 16.0),
    Format("gguf:F32", "gguf", 32.0),
    Format("gguf:F16", "gguf", 16.0),
    Format("gguf:BF16", "gguf", 16.0),
    Format("gguf:Q8_0", "gguf", 8.5008, 0.001355),
    Format("gguf:Q6_K", "gguf", 6.5633, 0.005452),
    Format("gguf:Q5_K_M", "gguf", 5.7036, 0.010762),
    Format("gguf:Q5_K_S", "gguf", 5.5704, 0.016595),
    Format("gguf:Q4_K_M", "gguf", 4.8944, 0.031273),
    Format("gguf:Q4_K_S", "gguf", 4.6672, 0.043136),
    Format("gguf:IQ4_NL", "gguf", 4.6818),
    Format("gguf:IQ4_XS", "gguf", 4.4597),
    # Of the block layout, 18 bytes for 32 weights: ggml-common.h of llama.cpp.
    Format("gguf:Q4_0", "gguf", 4.5, 0.071940),
    Format("gguf:Q3_K_L", "gguf", 4.2979, 0.087176),
    Format("gguf:Q3_K_M", "gguf", 3.9960, 0.101913),
    Format("gguf:IQ3_M", "gguf", 3.7628),
    Format("gguf:Q3_K_S", "gguf", 3.6429, 0.228217),
    Format("gguf:Q2_K", "gguf", 3.1593, 0.445132),
    # 4-bit values in blocks of 64, scales quantized again: https://arxiv.org/abs/2305.14314
    Format("bnb:nf4", "bnb", 4.127),
    Format("gptq:4", "environment", 4.25, needs="gptqmodel"),
    Format("awq:4", "environment", 4.25, needs="llmcompressor"),
    Format("fp8", "environment", 8.0, needs="llmcompressor"),
)
BY_NAME = {row.name.lower(): row for row in FORMATS}

# They share no environment with training, nor with each other: gptqmodel 7.7.0 needs torch>=2.14.1,
# llmcompressor 0.14.0.1 pins transformers<=5.17. Source: their package metadata.
ENVIRONMENT_NEEDS = {
    "gptqmodel": "an environment of its own with gptqmodel>=7.7 (torch>=2.14.1, 6 GB and more)",
    "llmcompressor": "an environment of its own with llmcompressor>=0.14 (transformers<=5.17) and, "
    "to run the result, vLLM on a GPU",
}


def find(name: str) -> Format:
    """Look a format up; case does not matter.

    Raises:
        UnknownName: No row has that name.

    >>> find("gguf:q4_k_m").bits_per_weight
    4.8944
    """
    row = BY_NAME.get(name.strip().lower())
    if row is None:
        cure = (
            "llama.cpp's IQ1, IQ2 and Q2_K_S types need an importance matrix and are not made here"
        )
        raise UnknownName("format", name, (row.name for row in FORMATS), cure)
    return row


def require_makeable(rows: Iterable[Format]) -> None:
    """Refuse formats that this installation cannot make.

    Raises:
        Missing: One needs another environment; the message says which, and what to take instead.
    """
    for row in rows:
        if row.family == "environment":
            raise Missing(
                f"format {row.name!r} cannot be made here: it needs "
                f"{ENVIRONMENT_NEEDS[row.needs]}. Ship 'safetensors' and quantize it there "
                "(references/quantizing.md has the commands), or take gguf:Q4_K_M or bnb:nf4"
            )


def estimated_bytes(row: Format, num_params: int, dtype_bytes: float) -> int:
    """Estimate the size of a model in a format.

    Args:
        row: The format.
        num_params: Parameters, tied weights once.
        dtype_bytes: Bytes a parameter in the merged model.

    >>> estimated_bytes(find("gguf:Q8_0"), 1_000_000, 2)
    1062600
    """
    per_param = dtype_bytes if row.family == "safetensors" else row.bits_per_weight / 8
    return int(num_params * per_param)
