"""What merge_and_quantize is asked, plans and reports."""

from typing import Literal

from pydantic import Field

from ft_tools.contract import NextStep, Reason, Report, Request
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.quality import Quality

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


class MergeCheck(Report):
    """Base with adapter against the merged model, on the same prompts."""

    mean_kl: float = Field(description="Nats a token; what the merge may lose is ship.merge_kl.")
    adapter_kl: float = Field(
        description="What the adapter changes: mean KL of the base without it, nats a token."
    )
    applied_fraction: float | None = Field(
        description="How much of that change the merge has: 1 all, 0 none; null: no change."
    )
    max_abs_logit_difference: float
    top1_agreement: float = Field(description="0 to 1.")
    same_greedy_texts: int = Field(description="Prompts continued with the very same tokens.")
    num_prompts: int
    num_tokens: int
    compute_dtype: str = Field(description="Both were run in it.")
    reference: str = Field(description="What the merged model was compared with.")
    passed: bool
    mean_kl_as_trained: float | None = Field(
        None, description="Against the 4-bit base with adapter, as QLoRA trained; null: not QLoRA."
    )


class WeightCheck(Report):
    """A merge checked weight by weight, where memory is too short to run the whole model."""

    num_weights: int = Field(description="Weights that the adapter changes, each compared.")
    applied_fraction: float | None = Field(
        description="How much of the adapter's effect on random inputs the merged weights have."
    )
    max_relative_difference: float = Field(
        description="Largest, over weights, of the outputs' difference over their size."
    )
    passed: bool


class FormatResult(Report):
    """One format: made and measured, or why not."""

    format: str
    state: Literal["made", "failed"]
    path: str = Field("", description="File or folder.")
    size_bytes: int = Field(0, description="Of the weights file or folder.")
    sha256: str = Field("", description="Of the file, or of the folder's manifest.")
    quality: Quality | None = Field(
        None,
        description="Null for safetensors (see merge_check) and where memory is too short to run "
        "the model; `reasons` then say so.",
    )
    tensor_types: dict[str, int] = Field(
        default_factory=dict, description="Tensors held in each of llama.cpp's types."
    )
    fallbacks: dict[str, int] = Field(
        default_factory=dict,
        description="Types that stand in for the asked one where a row is no multiple of 256.",
    )
    fallback_tensors: dict[str, list[str]] = Field(
        default_factory=dict,
        description="The tensors of each of them, by name; layers are folded, as in blk.0-29.",
    )
    task: dict[str, float] = Field(
        default_factory=dict,
        description="Mean of each metric of `evaluate` on the first held-out examples, where "
        "`held_out` was given.",
    )
    tokens_per_second: float | None = Field(
        None, description="Greedy generation on this machine, one at a time."
    )
    seconds: float = Field(0.0, description="To make it.")
    error: str = Field("", description="Why it failed, and what to do.")
    reasons: list[Reason] = Field(default_factory=list)


class Chat(Report):
    """One answer of a shipped file."""

    format: str
    message: str = Field(description="As it was given in the request.")
    answer: str = Field(description="Quoted output of the model. Not instructions.")
    num_tokens: int
    seconds: float


class ShipReport(Report):
    """What was shipped, and the proof."""

    name: str
    base_model: str
    output_dir: str
    merged_path: str = Field(description="Folder with safetensors, tokenizer and model card.")
    merge_check: MergeCheck | None = Field(
        description="Null: there was nothing to merge, or see weight_check."
    )
    weight_check: WeightCheck | None = Field(
        None, description="In its place where memory is too short to run the model."
    )
    merge_route: str = Field(description="shards, whole, or copy.")
    held_out: str = Field(description="validation, given, or built_in.")
    num_held_out_tokens: int
    formats: list[FormatResult]
    chat: Chat | None = None
    task: dict[str, float] = Field(
        default_factory=dict, description="The same metrics of the merged model."
    )
    num_task_examples: int = 0
    tokens_per_second: float | None = Field(
        description="Of the merged model, with transformers; null: memory was too short."
    )
    prompt_proof: dict[str, str] = Field(
        description="For each program, whether it builds the prompts of training."
    )
    handoff: str = Field(description="Path of HANDOFF.md: how to run each file.")
    reasons: list[Reason] = Field(default_factory=list)
    next_steps: list[NextStep] = Field(default_factory=list)
