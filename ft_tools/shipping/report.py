"""What a finished merge_and_quantize reports."""

from typing import Literal

from pydantic import Field, computed_field

from ft_tools.contract import NextStep, Reason, Report

Verdict = Literal["good", "ok", "fair", "warn", "fail"]


class Quality(Report):
    """A format against the merged model, token by token, on the same text."""

    CONCISE = ("verdict", "mean_kl", "top1_agreement", "effect_kept_fraction")

    mean_kl: float = Field(
        description="Mean Kullback-Leibler divergence from the merged model, nats per token."
    )
    kl_standard_error: float = Field(description="Of mean_kl, tokens taken as independent.")
    p99_kl: float = Field(description="99th percentile of the divergence, nats.")
    top1_agreement: float = Field(
        description="Fraction of tokens where both models rank the same token first, 0 to 1."
    )
    perplexity_ratio: float = Field(
        description="Perplexity of the format over that of the merged model; 1 is no loss."
    )
    tokenizer_parity: bool = Field(description="Whether both tokenize every probe text alike.")
    num_tokens: int = Field(description="Tokens compared.")
    base_kl: float | None = Field(
        None,
        description="Mean divergence of this format from the base model, without the adapter, nats "
        "per token; null: no adapter, or the base was not run.",
    )
    effect_kept_fraction: float | None = Field(
        None,
        description="How much of the adapter's effect on the logits the format has: 1 all of it, 0 "
        "none.",
    )
    verdict: Verdict = Field(
        description="good, ok, fair, warn or fail, by mean_kl; also fail if the tokenizers differ "
        "or the format is closer to the base model than to the tuned one."
    )


class MergeCheck(Report):
    """Base with adapter against the merged model, on the same text."""

    CONCISE = ("passed", "mean_kl", "applied_fraction")

    mean_kl: float = Field(description="Nats per token; the limit is ship.merge_kl.")
    adapter_kl: float = Field(
        description="What the adapter changes: mean KL of the base without it, nats per token."
    )
    applied_fraction: float | None = Field(
        description="How much of that change the merge has: 1 all, 0 none; of the weights where "
        "compute_dtype has 16 bits; null: no change, or PEFT merged and it has."
    )
    max_abs_logit_difference: float
    top1_agreement: float = Field(description="0 to 1.")
    num_tokens: int
    compute_dtype: str = Field(description="Both were run in it.")
    reference: str = Field(description="What the merged model was compared with.")
    passed: bool = False
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
    passed: bool = False


class ShippedAnswers(Report):
    """How a file answers when a user sends only the question and its Modelfile adds the rest."""

    num_examples: int
    prompts_equal: int = Field(
        description="Examples whose prompt is the measured one, token by token."
    )
    task: dict[str, float] = Field(description="Mean of each metric.")
    metric: str = Field(description="The metric that is compared.")
    difference: float = Field(description="This minus the tuned model, paired by example.")
    ci_low: float = Field(description="Of the 95% interval of the difference.")
    ci_high: float


class FormatResult(Report):
    """One format: made and measured, or why not."""

    CONCISE = (
        *("format", "state", "path", "size_bytes", "quality", "task", "shipped"),
        *("tokens_per_second", "error", "reasons"),
    )

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
    tokenizer_parity: bool | None = Field(
        None, description="Whether a GGUF file tokenizes every probe text as in training."
    )
    tensor_types: dict[str, int] = Field(
        default_factory=dict, description="Tensors held in each of llama.cpp's types."
    )
    fallbacks: dict[str, int] = Field(
        default_factory=dict,
        description="Types used instead of the requested one where a row is not a multiple of 256.",
    )
    task: dict[str, float] = Field(
        default_factory=dict,
        description="Mean of each metric of `evaluate` on the first held-out examples, or those of "
        "the validation file.",
    )
    shipped: ShippedAnswers | None = Field(None, description="GGUF with held-out conversations.")
    tokens_per_second: float | None = Field(
        None, description="Greedy generation on this machine, one at a time."
    )
    seconds: float = Field(0.0, description="To make it.")
    error: str = Field("", description="Why it failed, and what to do.")
    reasons: list[Reason] = Field(default_factory=list)


class ShipReport(Report):
    """What was shipped, and the proof."""

    CONCISE = (
        *("summary", "recommended_format", "formats", "merge_check", "weight_check"),
        *("answers_as_measured", "handoff", "reasons"),
    )

    answers_as_measured: str = Field(
        "", description="Whether the shipped defaults answer as the tuned model was measured."
    )
    measured: str = Field("", description="What an evaluation measured of the tuned model.")
    recommended_format: str = Field(
        "", description="The smallest GGUF file that loses nothing, or is shown to lose little."
    )
    system_text: str = Field("", description="Which system text is shipped, in a sentence.")
    name: str
    base_model: str
    output_dir: str
    merged_path: str = Field(description="Folder with safetensors, tokenizer and model card.")
    merge_check: MergeCheck | None = Field(
        description="Null: nothing was merged, or see weight_check."
    )
    weight_check: WeightCheck | None = Field(
        None, description="Instead of merge_check, where the model does not fit in memory."
    )
    merge_route: str = Field(description="shards, whole, or copy.")
    held_out: str = Field(description="validation, given, or built_in.")
    num_held_out_tokens: int
    formats: list[FormatResult]
    task: dict[str, float] = Field(
        default_factory=dict, description="The same metrics of the merged model."
    )
    num_task_examples: int = 0
    tokens_per_second: float | None = Field(
        description="Of the merged model, in transformers; null: it did not fit in memory."
    )
    prompt_proof: dict[str, str] = Field(
        description="Per program: whether it builds the same prompts as training."
    )
    handoff: str = Field(description="Path of HANDOFF.md: how to run each file.")
    reasons: list[Reason] = Field(default_factory=list)
    next_steps: list[NextStep] = Field(default_factory=list)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def summary(self) -> str:
        """Return what was made, and which file to use."""
        made = [one.format for one in self.formats if one.state == "made"]
        best = f"; recommended: {self.recommended_format}" if self.recommended_format else ""
        return f"Made {len(made)} of {len(self.formats)} formats of {self.name}{best}."
