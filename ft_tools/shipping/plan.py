"""What a confirmed merge_and_quantize would do."""

from pydantic import Field

from ft_tools.contract import Report
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.request import MergeBase


class PlannedFormat(Report):
    """A format, and what is known of it beforehand."""

    format: str
    estimated_bytes: int
    published_kl: float | None = Field(
        description="Mean KL in nats a token of Llama-3-8B in this format; small models lose more."
    )
    expected: str = Field(description="Verdict that published_kl would get; unknown without one.")
    source: str


class PlannedEnvironment(Report):
    """A python environment that a format is made in."""

    requirement: str = Field(description="What pip installs in it.")
    formats: list[str]
    is_built: bool = Field(description="False: built when the run first needs it, once.")
    disk_bytes: int = Field(description="About; 0 when it is there.")


class ShipPlan(Report):
    """Everything that a run will do."""

    source: str
    name: str = Field(description="Files are named after it.")
    base_model: str = Field(description="As it was asked for, or as the run recorded it.")
    load_from: str = Field(description="Folder or Hub id of the base weights.")
    num_params: int | None = Field(description="Of the base, from its headers; null: not here yet.")
    base_config_sha256: str = Field(description="Of config.json; empty when it is not here yet.")
    adapter: AdapterFacts | None = Field(description="Null: the source is a whole model.")
    quantization: dict[str, object] | None = Field(
        description="BitsAndBytesConfig arguments that merge_base=dequantized repeats."
    )
    merge_base: MergeBase
    formats: list[PlannedFormat]
    calibration: str | None = Field(
        description="File whose examples quantizers calibrate on; null: none."
    )
    imatrix: str | None = Field(None, description="Importance matrix that was given.")
    environments: list[PlannedEnvironment] = Field(default_factory=list)
    held_out: str | None = Field(description="File that is measured on; null: built-in text.")
    output_dir: str | None = Field(description="Null: artifacts/ of the run.")
    disk_bytes: int = Field(description="Space that has to be free, working files included.")
    ram_bytes: int = Field(description="Memory at the worst moment.")
    estimated_seconds: float | None = Field(description="On this kind of machine, roughly.")
    converter: str = Field(description="Where llama.cpp's converter comes from; empty: not needed.")
    chat: str = ""
    chat_system: str = ""
