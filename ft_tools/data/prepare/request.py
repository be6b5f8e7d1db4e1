"""What prepare_dataset takes."""

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from ft_tools.contract import Request
from ft_tools.data.prepare.column_mapping import ColumnMapping
from ft_tools.data.request import Contradictions

Encoding = Literal[
    "utf-8", "utf-16", "cp1252", "cp1250", "cp1251", "latin-1", "shift_jis", "gb18030"
]

SHOWN = {
    "sheet",
    "query",
    "encoding",
    "validation_fraction",
    "test_fraction",
    "seed",
    "personal_data",
    "near_duplicates",
    "contradictions",
}
"""Arguments that change the examples or the counts that are shown."""


class PrepareRequest(Request):
    """Turn a table or file of rows into train, validation and test files.

    Proposes a `mapping` with three quoted examples; `confirm` (its mapping_hash) writes the files
    to `output_dir`: split without leaks, every row accounted for.
    """

    path: str = Field(
        description="CSV, TSV, Excel, OpenDocument, Parquet, JSON, JSONL or SQLite file. Never "
        "modified."
    )
    sheet: str | None = Field(
        None, max_length=200, description="Of a workbook, or list of a JSON object."
    )
    query: str | None = Field(
        None, max_length=4000, description="SELECT for an SQLite file with several tables."
    )
    encoding: Encoding | None = Field(
        None, description="Of a CSV or TSV file; null: recognised from its bytes."
    )
    mapping: ColumnMapping | None = Field(None, description="Null: it is proposed.")
    output_dir: str | None = Field(
        None, description="New folder for train, validation and test files."
    )
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="Share for validation.")
    test_fraction: float | None = Field(
        None, ge=0, lt=1, description="For the test part; null: enough."
    )
    seed: int = Field(0, ge=0, description="Seed of the split.")
    personal_data: Literal["mask", "keep"] = Field(
        "mask", description="Secrets and personal data in prompts and answers."
    )
    near_duplicates: Literal["wordings", "lexical", "off"] = Field(
        "wordings",
        description="Kept in one part: similar prompts; wordings: all of one template, too.",
    )
    contradictions: Contradictions | None = Field(
        None, description="Which of different answers to one prompt stay."
    )
    confirm: str | None = Field(
        None,
        description="The mapping_hash that was shown: writes the files.",
    )
    request_id: str = Field("", max_length=200, description="The same id never starts two runs.")

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> "PrepareRequest":
        if (held_out := self.validation_fraction + (self.test_fraction or 0)) >= 1:
            raise ValueError(
                f"validation_fraction and test_fraction are {held_out:g} together, and nothing is "
                "left to train on; they must be below 1, such as 0.1 each"
            )
        return self

    def digest_of(self, mapping: ColumnMapping, content: str) -> str:
        """Return a short hash of what a person is shown: a file, a mapping, every other choice.

        Args:
            mapping: What is asked and answered, and what the marks mean.
            content: The sha256 of the file.
        """
        text = mapping.model_dump_json(exclude_defaults=True)
        others = self.model_dump_json(exclude_defaults=True, include=SHOWN)
        return hashlib.sha256((content + text + others).encode()).hexdigest()[:16]
