"""What merge_and_quantize takes."""

from typing import Literal

from pydantic import Field

from ft_tools.runs.request import LaunchRequest


class ShipRequest(LaunchRequest):
    """Merge an adapter into its base model, make the formats, and measure each of them.

    A merge that differs from base plus adapter is refused.
    """

    source: str = Field(description="Training run, or adapter or model folder.")
    base_model: str | None = Field(
        None, description="16-bit base model of the adapter; default: the one it was trained on."
    )
    formats: list[str] = Field(
        default_factory=lambda: ["safetensors", "gguf:Q4_K_M"],
        min_length=1,
        max_length=16,
        description="safetensors, gguf:TYPE (Q8_0, Q6_K, Q5_K_M, Q4_K_M ...), mlx:8bit, mlx:4bit; "
        "for vLLM gptq:4, awq:4, fp8.",
    )
    calibration: str | None = Field(
        None,
        description="JSONL of examples like those it was trained on, not the test's, for gptq and "
        "awq; default: the run's training file.",
    )
    held_out: str | None = Field(
        None,
        description="JSONL to measure on; default: the run's validation file, else a built-in "
        "text.",
    )
    max_examples: int = Field(
        12,
        ge=1,
        le=1000,
        description="Held-out examples that each format answers.",
    )
    evaluation: str | None = Field(
        None,
        description="Run id of the evaluation whose system text, user template, JSON schema and "
        "longest answer are shipped; default: this run's newest.",
    )
    system: str | None = Field(
        None,
        max_length=20000,
        description="System text to ship; default: the evaluation's, else the training data's "
        "most frequent.",
    )
    output_dir: str | None = Field(None, description="New folder; default: the run's own.")
    device: Literal["auto", "cpu"] = Field("auto", description="auto: a GPU where the model fits.")
    name: str = Field(
        "",
        max_length=80,
        pattern=r"^[A-Za-z0-9]?[A-Za-z0-9 ._-]*$",
        description="Used in file names.",
    )
