"""The formats a model can be shipped in: size, published loss, and what it takes to make one."""

from dataclasses import dataclass
from typing import Literal

from ft_tools.errors import UnknownName

Family = Literal["safetensors", "gguf", "mlx", "environment"]

QUANTIZE_SOURCE = "https://github.com/ggml-org/llama.cpp/blob/master/tools/quantize/README.md"
LOSS_SOURCE = "https://github.com/ggml-org/llama.cpp/blob/master/tools/perplexity/README.md"


@dataclass(frozen=True)
class Format:
    """A row of the table.

    `bits_per_weight` was measured on Llama-3.1-8B; small models have more, because their
    embeddings weigh more and are kept at a higher precision. `published_kl` is the mean
    Kullback-Leibler divergence from 16-bit logits, in nats per token, on Llama-3-8B and WikiText-2;
    None where none was published. `needs_text`: it cannot be made without text to calibrate on.
    """

    name: str
    family: Family
    bits_per_weight: float
    published_kl: float | None = None
    needs_text: bool = False

    @property
    def type_name(self) -> str:
        """Return the part after the colon: what llama.cpp calls the type.

        >>> find("gguf:Q4_K_M").type_name
        'Q4_K_M'
        """
        return self.name.partition(":")[2]

    @property
    def method(self) -> str:
        """Return the part before the colon.

        >>> find("gptq:4").method
        'gptq'
        """
        return self.name.partition(":")[0]


# Bits per weight: QUANTIZE_SOURCE. KL: LOSS_SOURCE, table "LLaMA 3 8b Scoreboard".
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
    Format("gguf:IQ3_S", "gguf", 3.6606),
    Format("gguf:Q3_K_S", "gguf", 3.6429, 0.228217),
    Format("gguf:Q2_K", "gguf", 3.1593, 0.445132),
    # 4 or 8 bits, a 16-bit scale and bias for 64 weights, embedding and head included.
    # Source: https://ml-explore.github.io/mlx/build/html/python/_autosummary/mlx.core.quantize.html
    Format("mlx:8bit", "mlx", 8.5),
    Format("mlx:4bit", "mlx", 4.5),
    # 4 bits and a 16-bit scale (AWQ: a 4-bit zero too) for 128 weights.
    # Source: https://arxiv.org/abs/2210.17323, https://arxiv.org/abs/2306.00978
    Format("gptq:4", "environment", 4.125, needs_text=True),
    Format("awq:4", "environment", 4.156, needs_text=True),
    Format("fp8", "environment", 8.0),
)
BY_NAME = {row.name.lower(): row for row in FORMATS}


def find(name: str) -> Format:
    """Look a format up; case does not matter.

    Raises:
        UnknownName: No row has that name.

    >>> find("gguf:q4_k_m").bits_per_weight
    4.8944
    """
    row = BY_NAME.get(name.strip().lower())
    if row is None:
        others = ", ".join(row.name for row in FORMATS if row.family != "gguf")
        cure = f"pass {others}, or gguf: with a type of llama.cpp, such as gguf:Q4_K_M"
        raise UnknownName("format", name, (row.name for row in FORMATS), cure)
    return row
