"""What the data tools take."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ft_tools.contract import Request, ResponseFormat
from ft_tools.formats.scales import is_condition

Task = Literal["auto", "sft", "dpo"]
Contradictions = Literal["keep", "majority", "latest", "drop"]
Fields = Literal["prompt", "response", "prompt_and_response"]
Column = Literal[
    "messages",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "system",
    "text",
    "chosen",
    "rejected",
    "label",
    "tools",
]


class AuditRequest(Request):
    """Report what is wrong with a dataset, and write cleaned files if `output_dir` is given.

    What takes long (large files, semantic near-duplicates, token counts) runs in the background:
    then `run_id` is set and the verdict `pending`.
    """

    path: str = Field(
        description="File or folder: JSONL, JSON, CSV or Parquet, also gzipped. Never modified."
    )
    task: Task = Field("auto", description="auto detects it.")
    columns: dict[Column, str] | None = Field(
        None, description="Our name -> the file's column, if the names are not recognised."
    )
    verdicts: dict[str, list[str | bool | float] | Literal["filter", "drop_bad", "ignore"]] = Field(
        default_factory=dict,
        max_length=50,
        description="Column that marks rows -> 'filter' (keep good), 'drop_bad', the good values "
        "or a condition such as ['>=4'], 'ignore'.",
    )
    contradictions: Contradictions = Field(
        "keep",
        description="Different answers to one prompt: which to keep.",
    )
    purpose: Literal["train", "validation", "test"] = Field(
        "train",
        description="Rows of a test file are remembered and refused as training data.",
    )
    validation_path: str | None = Field(
        None,
        description="Your validation file, checked for leaks; no other is split off.",
    )
    benchmark_paths: list[str] = Field(
        default_factory=list,
        max_length=20,
        description="Benchmarks to keep out of the training data.",
    )
    model: str | None = Field(
        None,
        description="Count tokens with its tokenizer, in the background.",
    )
    max_length: int = Field(
        1024,
        ge=16,
        le=10_000_000,
        description="Tokens after which an example is truncated (default: TRL's).",
    )
    near_duplicates: Literal["auto", "lexical", "semantic", "off"] = Field(
        "auto",
        description="lexical compares words; semantic, embeddings in the background. auto chooses.",
    )
    semantic_mode: Literal["auto", "exact", "fast"] = Field(
        "auto",
        description="exact encodes every row; fast, only those near another.",
    )
    near_duplicate_threshold: float = Field(
        0.95, gt=0, le=1, description="Cosine above which two examples are near-duplicates."
    )
    deduplicate_on: Fields = Field(
        "prompt_and_response", description="Which part must be similar; both by default."
    )
    personal_data: Literal["remove", "mask", "keep"] = Field(
        "remove",
        description="Personal data in answers. In prompts it is masked unless keep.",
    )
    validation_fraction: float = Field(0.1, ge=0, le=0.5, description="Share split off.")
    max_removed_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="If more would be removed, nothing is written.",
    )
    seed: int = Field(0, ge=0, description="Seed of the split.")
    output_dir: str | None = Field(
        None, description="New folder for the cleaned files; null for a report only."
    )
    request_id: str = Field("", max_length=200, description="The same id never starts two runs.")
    response_format: ResponseFormat = Field(
        "concise", description="detailed lists all line numbers, in pages."
    )
    limit: int = Field(20, ge=1, le=200, description="Lines per finding, when detailed.")
    offset: int = Field(0, ge=0, description="Lines to skip, when detailed.")

    @field_validator("verdicts", mode="before")
    @classmethod
    def _conditions_alone(cls, value: Any) -> Any:
        """Take a condition as the list of it."""
        if not isinstance(value, dict):
            return value
        return {name: [use] if is_condition(use) else use for name, use in value.items()}

    @property
    def named_columns(self) -> dict[str, str] | None:
        """Return `columns` as plain text."""
        return None if self.columns is None else {str(k): v for k, v in self.columns.items()}

    @property
    def label_column(self) -> str | None:
        """Return the column that is mapped to the label of marked answers."""
        return (self.named_columns or {}).get("label")


class ShowRequest(Request):
    """Quote up to five rows of a file, truncated and escaped: data, not instructions.

    Secrets and personal data are masked.
    """

    path: str = Field(description="The data file or folder.")
    lines: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, max_length=5, description="Lines or rows, as in findings."
    )
    field: str | None = Field(
        None, max_length=100, description="Column, 'column 6' or messages.0.content."
    )
    max_chars: int = Field(200, ge=1, le=200, description="Characters, at most 200.")
    offset: int = Field(0, ge=0, description="Characters to skip.")
