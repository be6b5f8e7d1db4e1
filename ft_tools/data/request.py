"""What the data tools take."""

import hashlib
import re
import sys
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ft_tools.contract import ToolRequest
from ft_tools.data.map.conditions import ByColumn
from ft_tools.data.map.mapping import ColumnMapping, Names
from ft_tools.errors import brief

Task = Literal["auto", "sft", "dpo"]
Contradictions = Literal["keep", "majority", "latest", "drop"]
Decision = Contradictions | ByColumn
"""Which of several answers stays: by a rule, or those of rows in which a column has a value."""
Fields = Literal["prompt", "response", "prompt_and_response"]
Encoding = Literal[
    "utf-8", "utf-16", "cp1252", "cp1250", "cp1251", "latin-1", "shift_jis", "gb18030"
]


class FileRequest(ToolRequest):
    """Which rows of which file are read."""

    path: str = Field(description="File or folder: CSV, Excel, Parquet, JSON, JSONL, SQLite.")
    sheet: str | None = Field(
        None, max_length=200, description="Of a workbook, or list of a JSON object: a.reports."
    )
    query: str | None = Field(
        None, max_length=4000, description="SELECT for an SQLite file with several tables."
    )
    encoding: Encoding | None = Field(
        None, description="Of a CSV or TSV file; null: recognised from its bytes."
    )
    where: ByColumn = Field(
        default_factory=dict,
        max_length=20,
        description="Column -> values, or a bound such as '>=4', of the rows to read; of a list, "
        "one item is enough.",
    )


class AuditRequest(FileRequest):
    """Report what is wrong with a dataset, and write cleaned files if `output_dir` is given.

    Long audits run in the background: `run_id` is set and the verdict is `pending`.
    """

    task: Task = Field("auto", description="auto detects it.")
    mapping: ColumnMapping | None = Field(
        None, description="What columns mean; ignore=['*'] uses no other column."
    )
    contradictions: Contradictions = Field(
        "keep", description="Different answers to one prompt: which to keep."
    )
    purpose: Literal["train", "validation", "test"] = Field(
        "train", description="Rows of a test file are remembered and refused as training data."
    )
    validation_path: str | None = Field(
        None, description="Your validation file, checked for leaks; no other is split off."
    )
    benchmark_paths: list[str] = Field(
        default_factory=list,
        max_length=20,
        description="Benchmarks to keep out of the training data.",
    )
    model: str | None = Field(
        None, description="Count tokens with its tokenizer, in the background."
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
    near_duplicate_threshold: float = Field(
        0.95, gt=0, le=1, description="Cosine above which two examples are near-duplicates."
    )
    deduplicate_on: Fields = Field(
        "prompt_and_response", description="Which part must be similar; both by default."
    )
    personal_data: Literal["remove", "mask", "keep"] = Field(
        "remove", description="Personal data in answers. In prompts it is masked unless keep."
    )
    validation_fraction: float = Field(0.1, ge=0, le=0.5, description="Share split off.")
    max_removed_fraction: float = Field(
        0.5, ge=0, le=1, description="If more would be removed, nothing is written."
    )
    seed: int = Field(0, ge=0, description="Seed of the split.")
    output_dir: str | None = Field(None, description="New folder for the cleaned files.")
    request_id: str = Field("", max_length=200, description="The same id never starts two runs.")
    limit: int = Field(20, ge=1, le=200, description="Lines per finding, when detailed.")
    offset: int = Field(0, ge=0, description="Lines to skip, when detailed.")

    @model_validator(mode="after")
    def _knows_what_is_later(self) -> "AuditRequest":
        _require_time(self.contradictions, self.mapping)
        return self

    @property
    def splits(self) -> bool:
        """Return whether the audit divides the examples itself."""
        is_wanted = self.output_dir is not None and self.validation_fraction > 0
        return is_wanted and self.validation_path is None


def _require_time(contradictions: Contradictions | None, mapping: ColumnMapping | None) -> None:
    """Refuse to keep the latest answer where nothing says which is later."""
    if contradictions == "latest" and not (mapping and mapping.time_column):
        raise ValueError("contradictions='latest' needs mapping.time_column: which is later?")


ROWS = re.compile(r"[1-9][0-9]{0,8}(?:-[1-9][0-9]{0,8})?")
MOST_TOKENS = 20_000
"""Of an answer that quotes rows; clients cut off what is a little longer."""
NOT_SHOWN = {"path", "mapping", "output_dir", "confirm", "request_id", "response_format"}
"""Arguments beside those that change the examples or the counts that are shown."""


class PrepareRequest(FileRequest):
    """Turn a table or file of rows into train, validation and test files.

    Without `mapping`: the profile. With it: three examples and counts; `confirm` writes the files.
    """

    mapping: ColumnMapping | None = Field(
        None,
        description="What columns mean: prompt, answer, turns, marks, ignore ... "
        "(explain('prepare_dataset.mapping')); null: the rows are examples already.",
    )
    output_dir: str | None = Field(
        None, description="New folder for train, validation and test files."
    )
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="Share for validation.")
    test_fraction: float | None = Field(
        None, ge=0, le=1, description="For the test part; 1: all rows; null: enough."
    )
    seed: int = Field(0, ge=0, description="Seed of the split.")
    near_duplicates: Literal["auto", "lexical", "off"] = Field(
        "auto",
        description="Kept in one part: similar prompts (lexical); auto: all of one template, too.",
    )
    contradictions: Decision | list[Decision] | None = Field(
        None,
        description="Different answers to one prompt: which to keep, by a rule, by column -> "
        "values, best first, of the rows that are right, or [such columns, a rule for the rest].",
    )
    confirm: str | None = Field(None, description="mapping_hash shown; writes the files.")
    request_id: str = Field("", max_length=200, description="The same id never starts two runs.")

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> "PrepareRequest":
        if self.is_test_only:
            return self
        if (held_out := self.validation_fraction + (self.test_fraction or 0)) >= 1:
            raise ValueError(
                f"validation_fraction and test_fraction are {held_out:g} together, and nothing is "
                "left to train on; they must be below 1, such as 0.1 each"
            )
        return self

    @model_validator(mode="after")
    def _knows_what_is_later(self) -> "PrepareRequest":
        for rule in self.rules:
            if isinstance(rule, str):
                _require_time(rule, self.mapping)
        if sum(isinstance(rule, dict) for rule in self.rules) > 1:
            raise ValueError("contradictions has two objects: put the columns into one, in order")
        return self

    @property
    def is_test_only(self) -> bool:
        """Return whether all rows are wanted as the test part."""
        return self.test_fraction == 1

    @property
    def rules(self) -> list[Decision]:
        """Return how contradictions are decided, in order."""
        given = self.contradictions
        return [rule for rule in (given if isinstance(given, list) else [given]) if rule]

    @property
    def preferred(self) -> ByColumn:
        """Return the column -> values, best first, by which contradictions are decided."""
        return next((rule for rule in self.rules if isinstance(rule, dict)), {})

    def digest_of(self, content: str) -> str:
        """Return a short hash of what a person is shown: a file's sha256, and every choice."""
        mapping = (self.mapping or ColumnMapping()).model_dump_json(exclude_defaults=True)
        others = self.model_dump_json(exclude_defaults=True, exclude=NOT_SHOWN)
        return hashlib.sha256((content + mapping + others).encode()).hexdigest()[:16]


def _split(given: Any) -> Any:
    """Return numbers and ranges as a list, also those that stand in one text."""
    parts = given if isinstance(given, list) else [given]
    split: list[Any] = []
    for part in parts:
        if not isinstance(part, str):
            split.append(part)
            continue
        for text in map(str.strip, part.split(",")):
            if not ROWS.fullmatch(text):
                raise ValueError(f"{brief(repr(text))} is no row, such as 7, nor a range: '1-200'")
            split.append(int(text) if text.isdecimal() else text)
    return split


class ShowRequest(FileRequest):
    """Show what a data file holds: its columns with their values, and quoted rows.

    With `lines`, those rows whole. Secrets and personal data are masked.
    """

    lines: Annotated[list[Annotated[int, Field(ge=1)] | str], BeforeValidator(_split)] = Field(
        default_factory=list,
        max_length=1000,
        description="Row numbers as in findings, or '1-200'; with `where`, of its rows.",
    )
    field: str | None = Field(
        None, max_length=200, description="A column or part, such as messages.0.content."
    )
    columns: Names = Field(
        default_factory=list, max_length=100, description="Columns to quote of each row; [] is all."
    )
    offset: int = Field(
        0, ge=0, description="Characters of `field` to skip; with contradictions, groups."
    )
    max_tokens: int | None = Field(
        None,
        ge=50,
        le=MOST_TOKENS,
        description="Budget of the answer; null: 600, with rows 2,000.",
    )
    contradictions: bool = Field(
        False, description="Quote rows with the same prompt and different answers, as pairs."
    )
    mapping: ColumnMapping | None = Field(
        None, description="For contradictions: what is asked and answered."
    )
    unseal: bool = Field(False, description="Quote rows of a test part that was set aside.")

    @property
    def ranges(self) -> list[range]:
        """Return the rows to quote in order: those of `lines`; of parts of rows, all."""
        if not self.lines:
            return [range(1, sys.maxsize)] if self.columns or self.field else []
        ends = [str(row).split("-") for row in self.lines]
        return sorted((range(int(one[0]), int(one[-1]) + 1) for one in ends), key=lambda r: r.start)
