"""Read a file of training examples, and describe it.

SFT takes `{"messages": [...]}`, `{"prompt": ..., "completion": ...}` (both text or both messages)
or `{"text": ...}`; DPO takes `{"prompt": ..., "chosen": ..., "rejected": ...}`, where messages may
leave the prompt inside both answers. Other formats become these by audit_dataset.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import workspace
from ft_tools.errors import BadData, BadInput, FineTuningError
from ft_tools.formats.answer_kinds import AnswerKind, AnswerKinds, answer_of
from ft_tools.formats.column_counts import UnreadColumns
from ft_tools.formats.example import THOUGHTS
from ft_tools.formats.formats import normalise
from ft_tools.formats.readers.file_kinds import TABLES
from ft_tools.formats.readers.source import PARTS, read, recognise
from ft_tools.formats.test_sets import TestRows, asked_by, known_test_rows
from ft_tools.formats.trl_formats import (
    CONVERT,
    READ,
    Example,
    Format,
    Task,
    answers_in,
    format_of,
    turns_in,
)
from ft_tools.formats.turns import MARKS
from ft_tools.publish import sha256

# What belongs to a prompt beside the fields that are read, in the spelling of common sets.
UNREAD = ("system", "system_prompt", "input", "context", "chat_template_kwargs")
# English text has about four characters a token. Source: https://platform.openai.com/tokenizer
CHARACTERS_PER_TOKEN = 4
TEXTS = ("messages", "prompt", "completion", "text", "chosen", "rejected")
TEMPLATE_TOKENS = 512
"""More than a chat template adds to an example: a system text of its own, and what frames turns."""
UNREADABLE = {"unreadable_line": "is not JSON", "not_utf8": "is not UTF-8 text"}
PLANS = ("sft-*/plan.json", "dpo-*/plan.json")
MOST_BYTES = 256 * 2**20
"""Of earlier training files that are read; the newest runs come first."""


class DatasetFacts(BaseModel):
    """A file of examples as the plan saw it; the worker refuses a file that changed since."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str = Field(description="Of the file's bytes.")
    num_examples: int
    format: Format
    num_characters: int = Field(description="Of all texts, for estimates of tokens.")
    longest_characters: int = Field(description="Of the longest example.")
    longest_bytes: int = Field(0, description="Of the longest example as JSON, in UTF-8.")
    answers: AnswerKind = Field("free", description="labels, json or free text.")
    num_labels: int | None = Field(None, description="Different answers, where they are labels.")
    num_good: int | None = Field(None, description="Answers marked good; null without marks.")
    unread: dict[str, int] = Field(
        default_factory=dict,
        description="Fields that say something of prompt or loss and are not read -> examples.",
    )
    num_test_rows: int = Field(0, description="Examples that a test set of the workspace holds.")
    num_thoughts: int = Field(0, description="Examples whose answer has a thought beside it.")
    undecided_columns: list[str] = Field(
        default_factory=list, description="Fields that nothing reads, with what they hold."
    )

    @property
    def estimated_tokens(self) -> int:
        """Return about how many tokens the texts have; not what a tokenizer counted."""
        return self.num_characters // CHARACTERS_PER_TOKEN

    @property
    def most_tokens(self) -> int:
        """Return what no example has more tokens than, where no tokenizer counted them.

        A token of a byte-level BPE, or of SentencePiece with bytes for unknown characters, has at
        least one byte. Source: https://huggingface.co/docs/transformers/tokenizer_summary
        """
        return self.longest_bytes + TEMPLATE_TOKENS


def survey(path: Path, task: Task, read_beside: Collection[str] = ()) -> DatasetFacts:
    """Read a whole file and describe it.

    Raises:
        BadData: It is empty, has a line that is no example, or mixes formats; file and line named.
        BadInput: It is not a regular file.
    """
    seen: Format | None = None
    counts, unread = Counter[str](), Counter[str]()
    longest = longest_bytes = 0
    columns, answers, test_rows = UnreadColumns(), AnswerKinds(), known_test_rows()
    for line, example in read_examples(path):
        form = format_of(path, line, example, task)
        if seen is not None and form != seen:
            problem = f"is {form}, the lines before are {seen}"
            raise BadData(path, problem, f"use one format in a file; {CONVERT}", line)
        seen = form
        read = {name: example[name] for name in READ[form] if name in example}
        as_json = json.dumps(read, ensure_ascii=False).encode("utf-8", "surrogatepass")
        texts = [turn.get("content") for turn in turns_in(example, *TEXTS)]
        characters = sum(len(text) for text in texts if isinstance(text, str))
        longest, longest_bytes = max(longest, characters), max(longest_bytes, len(as_json))
        unread.update(name for name in _unread_in(example) if name not in read_beside)
        columns.add(example, READ[form] | {*read_beside}, line)
        answers.add(answer_of(example))
        counts["examples"] += 1
        counts["characters"] += characters
        counts["good"] += task == "kto" and bool(example["label"])
        counts["thoughts"] += has_thought(example)
        counts["test_rows"] += bool(test_rows) and normalise(line, example) in test_rows
    if seen is None:
        raise BadData(path, "has no examples", f"give a JSONL file, one object per line; {CONVERT}")
    return DatasetFacts(
        path=str(path),
        sha256=sha256(path),
        num_examples=counts["examples"],
        format=seen,
        num_characters=counts["characters"],
        longest_characters=longest,
        longest_bytes=longest_bytes,
        answers=answers.kind if task == "sft" else "free",
        num_labels=answers.num_labels if task == "sft" else None,
        num_good=counts["good"] if task == "kto" else None,
        unread=dict(unread),
        num_test_rows=counts["test_rows"],
        num_thoughts=counts["thoughts"],
        undecided_columns=[column.described for column in columns.undecided()],
    )


def has_thought(example: Example) -> bool:
    """Return whether an answer of an example was thought out, in a field of its own or in its text.

    >>> has_thought({"messages": [{"role": "assistant", "content": "4", "reasoning": "2 and 2"}]})
    True
    >>> has_thought({"prompt": "2+2?", "completion": "<think>2 and 2</think>4"})
    True
    """
    answers = answers_in(example, "messages", "completion", "chosen")
    return any(turn.get(name) for turn in answers for name in THOUGHTS) or any(
        "<think>" in str(turn.get("content")) for turn in answers
    )


def trained_rows() -> TestRows:
    """Return what runs of this workspace were trained on, as far as the files are still there."""
    plans = [plan for pattern in PLANS for plan in workspace.runs_dir().glob(pattern)]
    files: dict[Path, str] = {}
    for plan in sorted(plans, key=lambda one: -one.stat().st_mtime):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            path = Path(json.loads(plan.read_text(encoding="utf-8"))["dataset"]["path"])
            if path.is_file():
                files.setdefault(path, plan.parent.name)
    known: dict[int, str] = {}
    left = MOST_BYTES
    for path, run in files.items():
        status = path.stat()
        left -= status.st_size
        if left >= 0:
            known |= dict.fromkeys(_asked_in(path, status.st_mtime_ns), run)
    return TestRows(known)


@lru_cache(maxsize=8)
def _asked_in(path: Path, changed_ns: int) -> frozenset[int]:
    """Return hashes of what a training file asks; `changed_ns` has it read again."""
    with contextlib.suppress(FineTuningError):
        return asked_by(read_examples(path))
    return frozenset()


def read_examples(path: Path) -> Iterator[tuple[int, Example]]:
    """Yield each line's number, from 1, and its object; blank lines are skipped.

    Raises:
        BadData: It is no text of JSON, or a row is not a JSON object.
        BadInput: It is not a regular file, or not one inside the workspace.
    """
    if path.is_dir():
        named = f", such as {path.name}/{PARTS[0]}" if (path / PARTS[0]).is_file() else ""
        raise BadInput(f"{path} is a folder; name a JSONL file in it{named}")
    if path.suffix.lower() in TABLES:
        raise BadInput(
            f"{path} is a table, not JSONL; prepare_dataset makes training, validation and test "
            "files of its rows"
        )
    source = recognise(path)
    if not source.is_plain:
        raise BadData(path, "is neither JSON lines nor a JSON array", CONVERT)
    for row in read(source):
        if row.problem is not None:
            problem = UNREADABLE.get(row.problem, f"cannot be read ({row.problem})")
            raise BadData(path, problem, f"fix it; {CONVERT}", row.number)
        if not isinstance(row.value, dict):
            raise BadData(path, "is not a JSON object", CONVERT, row.number)
        yield row.number, row.value


def tools_of(example: Example) -> list[dict[str, Any]] | None:
    """Return the tools that an example offers, given as a list or as JSON of one."""
    tools = example.get("tools")
    return (json.loads(tools) if isinstance(tools, str) and tools else tools) or None


def _unread_in(example: Example) -> list[str]:
    """Return the fields that say something of the prompt or the loss and reach no trainer."""
    turns = turns_in(example, "messages", "prompt", "chosen")
    has_system = any(turn.get("role") in {"system", "developer"} for turn in turns)
    names = [name for name in UNREAD if example.get(name)]
    found = [name for name in names if not (has_system and name.startswith("system"))]
    answers = answers_in(example, "messages", "completion")
    marks = [name for name, mark in MARKS.items() if any(t.get(name) == mark for t in answers)]
    return found + marks


def task_of(path: Path) -> Task:
    """Return what a file trains, by its first example: marked answers, pairs, or answers."""
    _, example = next(read_examples(path), (0, {}))
    if {"completion", "label"} <= set(example) and "chosen" not in example:
        return "kto"
    return "dpo" if {"chosen", "rejected"} <= set(example) else "sft"
