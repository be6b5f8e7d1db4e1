"""What merge_and_quantize takes."""

from typing import Literal

from pydantic import Field

from ft_tools.contract import Request

MergeBase = Literal["original", "dequantized"]


class ShipRequest(Request):
    """What to ship, and how."""

    source: str = Field(description="Id of a training run, or an adapter or model folder.")
    base_model: str | None = Field(
        None, description="16-bit model under the adapter; default: the one it was trained on."
    )
    formats: list[str] = Field(
        default_factory=lambda: ["safetensors", "gguf:Q4_K_M"],
        min_length=1,
        max_length=16,
        description="safetensors, gguf:TYPE (F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, IQ4_XS, "
        "Q3_K_M, Q2_K, IQ2_M ...), bnb:nf4; gptq:4, awq:4 and fp8 (for vLLM) in an environment of "
        "their own, built at first use.",
    )
    merge_base: MergeBase = Field(
        "original",
        description="original: into the 16-bit base. dequantized: into the base as 4-bit training "
        "saw it, closer to a QLoRA run's own outputs.",
    )
    calibration: str | None = Field(
        None,
        description="JSONL file of examples like those it was trained on, never those it is "
        "tested on: GGUF types below Q8_0 then keep best what such text uses (importance matrix). "
        "Default: the run's own training file, for formats that cannot do without.",
    )
    imatrix: str | None = Field(
        None, description="An importance matrix of llama.cpp's own tool, for GGUF types."
    )
    held_out: str | None = Field(
        None,
        description="JSONL file to measure on; default: the run's validation file, else a small "
        "built-in text.",
    )
    output_dir: str | None = Field(
        None, description="New folder for the files; default: the run's own folder."
    )
    chat: str = Field(
        "",
        max_length=2000,
        description="A message to ask the last GGUF of the list once; its answer is quoted.",
    )
    chat_system: str = Field(
        "", max_length=2000, description="System text before that message: the one of training."
    )
    name: str = Field(
        "",
        max_length=80,
        pattern=r"^[A-Za-z0-9]?[A-Za-z0-9 ._-]*$",
        description="Of the shipped model; its files are named after it.",
    )
    request_id: str = Field(
        "", max_length=200, description="The same id never starts two runs; invent one."
    )
    confirm: str | None = Field(
        None, description="plan_hash of the plan that was shown; without it nothing starts."
    )
