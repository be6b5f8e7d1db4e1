"""The formats a model can be shipped in: the size of each, and what it takes to make one."""

from dataclasses import dataclass
from typing import Literal

from ft_tools.errors import UnknownName

Family = Literal["safetensors", "gguf", "mlx", "environment"]

MODULES: dict[Family, dict[str, str]] = {
    "safetensors": {"torch": "train", "transformers": "train", "peft": "train"},
    "gguf": {"gguf": "gguf", "llama_cpp": "gguf"},
    "mlx": {"mlx_lm": "mlx"},
    "environment": {},
}
"""Family of formats -> the modules that it needs, and the extra of each; safetensors: always."""


@dataclass(frozen=True)
class Format:
    """A row of the table.

    `bits_per_weight` was measured on Llama-3.1-8B; small models have more, because their
    embeddings weigh more and are kept at a higher precision. `needs_text`: it cannot be made
    without text to calibrate on.
    """

    name: str
    family: Family
    bits_per_weight: float
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


# Bits per weight: https://github.com/ggml-org/llama.cpp/blob/master/tools/quantize/README.md; Q4_0
# of the block layout, 18 bytes for 32 weights: ggml-common.h of llama.cpp.
GGUF_BITS = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5008, "Q6_K": 6.5633, "Q5_K_M": 5.7036,
    "Q5_K_S": 5.5704, "Q4_K_M": 4.8944, "Q4_K_S": 4.6672, "IQ4_NL": 4.6818, "IQ4_XS": 4.4597,
    "Q4_0": 4.5, "Q3_K_L": 4.2979, "Q3_K_M": 3.9960, "IQ3_M": 3.7628, "IQ3_S": 3.6606,
    "Q3_K_S": 3.6429, "Q2_K": 3.1593,
}  # fmt: skip
FORMATS = (
    Format("safetensors", "safetensors", 16.0),
    *(Format(f"gguf:{name}", "gguf", bits) for name, bits in GGUF_BITS.items()),
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
