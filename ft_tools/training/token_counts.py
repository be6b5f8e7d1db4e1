"""What becomes of the examples of a file as tokens: counted by the plan, and again by the run.

The plan's counts are made by a process of its own (`ft_tools.training.worker.counting`): a chat
template is a program out of a model's folder, and may take all the memory it gets.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ft_tools.contract import Report
from ft_tools.errors import Refused
from ft_tools.formats.masking import LossOn
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.trl_formats import Task
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import sha256
from ft_tools.runs.processes import answers
from ft_tools.runs.processes.answers import AnswerFile

WORKER = "ft_tools.training.worker.counting"
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)
"""What the tokens depend on, besides the data and the arguments."""
TIMEOUT_SECONDS = 40.0
"""Clients give up on a call after 60 s. Source: facts of the MCP SDKs, default request timeout."""
VERSION = "6"
"""Part of the name of a kept count: raise it when counting changes."""


class DataReport(Report):
    """What became of the examples of one file."""

    CONCISE = ("num_examples", "num_sequences", "num_truncated", "num_dropped")

    num_examples: int = Field(description="Lines of the file.")
    num_sequences: int = Field(description="Sequences trained on, before packing.")
    num_truncated: int = Field(description="Sequences cut at max_length.")
    num_dropped: int = Field(description="Sequences with nothing left to learn, left out.")
    num_tokens: int = Field(description="Tokens of one epoch.")
    num_trained_tokens: int = Field(description="Tokens of one epoch that the loss counts.")
    num_prompt_drifts: int = Field(
        0, description="Sequences whose prompt alone is tokenized differently than inside them."
    )


class Lengths(BaseModel):
    """How long the rows of the training file are, before anything is cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean_tokens: float = Field(description="Of a sequence, prompt included.")
    mean_answer_tokens: float = Field(description="Trained tokens of a sequence.")
    longest_tokens: int
    padding: float = Field(description="Fraction of padding in batches of 8 random rows.")


class Counts(BaseModel):
    """What a plan knows about its tokens."""

    CONCISE: ClassVar[tuple[str, ...]] = ("data", "validation")

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataReport
    validation: DataReport | None = None
    num_rows: int = Field(description="Rows that a batch is made of: sequences, pairs or packs.")
    num_counted: int = Field(
        description="Examples of the dataset that were tokenized, from its beginning; the counts "
        "of a larger file are scaled from them."
    )
    lengths: Lengths
    longest_held_out: int = Field(0, description="Tokens of the validation file's longest row.")


class CountRequest(BaseModel):
    """What the counting process is given, as JSON on its standard input."""

    task: str
    tokenizer: str = Field(description="Folder with tokenizer.json.")
    template_path: str | None = Field(None, description="Chat template in place of the folder's.")
    dataset: DatasetFacts
    validation: DatasetFacts | None = None
    max_length: int | None
    loss_on: LossOn
    packing: str = Field("", description="By which strategy; empty: not packed.")


class CountAnswer(BaseModel):
    """What it says, as JSON on its standard output."""

    counts: Counts | None = None
    refused: str = Field("", description="Why this data cannot be trained on with this model.")
    failed: str = Field("", description="Kind of the error that kept it from counting.")


def count_tokens(
    task: Task,
    source: ModelSource,
    training: Mapping[str, Any],
    files: tuple[DatasetFacts, DatasetFacts | None],
    loss_on: LossOn,
    before: Counts | None = None,
) -> tuple[Counts | None, str]:
    """Count the tokens of a dataset with the model's tokenizer and template.

    Counts are kept, for the same data in another folder too. A refusal names lines of this file,
    and is made anew.

    `before` are counts with other arguments, which may be the same with these.

    Returns:
        The counts and an empty text; or None and why there are none.
    """
    length, packing = training.get("max_length"), packing_of(training)
    if before is not None and not packing and (length or math.inf) >= before.lengths.longest_tokens:
        return before, ""
    folder = source.path or source.files or source.load_from
    request = CountRequest(
        task=task,
        tokenizer=model_folder.tokenizer_folder(source.adapter, folder),
        template_path=training.get("chat_template_path"),
        dataset=files[0],
        validation=files[1],
        max_length=length,
        loss_on=loss_on,
        packing=packing,
    )
    if not (Path(request.tokenizer) / FILES[0]).is_file():
        return None, "the model has no tokenizer.json on this machine"
    kept = AnswerFile(WORKER, TypeAdapter(Counts), _key(request))
    if (before := kept.read()) is not None:
        return before, ""
    variables = {"TOKENIZERS_PARALLELISM": "false"}
    asked, answer = request.model_dump_json(), TypeAdapter(CountAnswer)
    try:
        found, complained = answers.run(WORKER, answer, asked, TIMEOUT_SECONDS, variables)
    except answers.Unanswered as error:
        kept.write_log(error.complained)
        late = f"counting took more than {TIMEOUT_SECONDS:g} s"
        return None, late if error.kind == "timeout" else f"counting failed ({error.kind})"
    if found.counts is None:
        kept.write_log(complained)
    else:
        kept.write(found.counts)
    if found.refused:
        raise Refused(found.refused)
    return found.counts, found.failed


def packing_of(training: Mapping[str, Any]) -> str:
    """Return the strategy by which sequences are packed; empty where they are not."""
    return str(training.get("packing_strategy") or "bfd") if training.get("packing") else ""


def _key(request: CountRequest) -> list[Any]:
    """Return all that a count depends on; where the tokenizer and the data are does not matter."""
    folder = Path(request.tokenizer)
    files = [sha256(folder / name) if (folder / name).is_file() else "" for name in FILES]
    template = sha256(Path(request.template_path)) if request.template_path else ""
    asked = request.model_dump(mode="json", exclude={"tokenizer", "template_path"})
    for file in filter(None, (asked["dataset"], asked["validation"])):
        # The end of the name says how a file is read.
        file["path"] = "".join(Path(file["path"]).suffixes)
    return [VERSION, files, template, asked]
