"""What a confirmed merge_and_quantize would do."""

from pydantic import Field

from ft_tools.contract import Report
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.request import MergeBase


class PlannedFormat(Report):
    """A format, and what to expect of it."""

    format: str
    estimated_bytes: int
    published_kl: float | None = Field(
        description="Mean KL of Llama-3-8B in this format, nats per token; small models lose more."
    )
    expected: str = Field(description="Verdict for published_kl; unknown if none is published.")
    source: str


class PlannedEnvironment(Report):
    """A Python environment that a format is made in."""

    requirement: str = Field(description="What pip installs in it.")
    formats: list[str]
    is_built: bool = Field(description="False: the run builds it once, when it first needs it.")
    disk_bytes: int = Field(description="Estimated size; 0 if it exists already.")


class PlannedPlacement(Report):
    """Where the whole model is loaded to run it."""

    device: str = Field(description="cpu, cuda:0, or auto: spread over all cards.")
    dtype: str = Field(description="Data type it is run in.")
    num_bytes: int = Field(description="Memory it takes there.")


class PlannedDisk(Report):
    """Space that a disk has to have free."""

    folder: str = Field(description="A folder on that disk.")
    num_bytes: int
    uses: list[str] = Field(
        description="output: merged model and formats; work: intermediate files; hub: the base "
        "model, downloaded first; cache: converter and environments."
    )


class ShipPlan(Report):
    """Everything that a run will do."""

    source: str
    name: str = Field(description="Used in file names.")
    base_model: str = Field(description="As requested, or as the run recorded it.")
    load_from: str = Field(description="Folder or Hub id of the base weights.")
    num_params: int | None = Field(description="Of the base; null: its size is not known yet.")
    size_basis: str = Field(
        "",
        description="headers: read from its files; config: worked out from its config.json; empty: "
        "not known, and checked when the files are here.",
    )
    device: str = Field("auto", description="auto, or cpu to leave GPUs alone.")
    runs_on: PlannedPlacement | None = Field(
        None,
        description="Where the merged model is run to prove it; null: it fits nowhere, so the "
        "merge is checked weight by weight and formats are not measured.",
    )
    base_config_sha256: str = Field(description="Of config.json; empty: not downloaded yet.")
    adapter: AdapterFacts | None = Field(description="Null: the source is a whole model.")
    quantization: dict[str, object] | None = Field(
        description="BitsAndBytesConfig arguments that merge_base=dequantized repeats."
    )
    merge_base: MergeBase
    formats: list[PlannedFormat]
    calibration: str | None = Field(description="File that quantizers calibrate on; null: none.")
    imatrix: str | None = Field(None, description="Importance matrix that was passed.")
    environments: list[PlannedEnvironment] = Field(default_factory=list)
    held_out: str | None = Field(
        description="File that quality is measured on; null: built-in text."
    )
    output_dir: str | None = Field(description="Null: artifacts/ of the run.")
    disk_bytes: int = Field(description="Disk space required, intermediate files included.")
    disks: list[PlannedDisk] = Field(default_factory=list, description="The same, per disk.")
    ram_bytes: int = Field(description="Peak memory (RAM), estimated.")
    estimated_seconds: float | None = Field(description="Rough estimate for this machine.")
    converter: str = Field(description="Source of llama.cpp's converter; empty: not needed.")
    chat: str = ""
    chat_system: str = ""
