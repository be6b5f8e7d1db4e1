"""Read training examples in TRL's formats, and say with file and line what cannot be used.

SFT takes `{"messages": [...]}`, `{"prompt": ..., "completion": ...}` (both text or both messages)
or `{"text": ...}`; DPO takes `{"prompt": ..., "chosen": ..., "rejected": ...}`, where messages may
leave the prompt inside both answers. Other formats become these by audit_dataset.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import workspace
from ft_tools.errors import BadData, BadInput
from ft_tools.examples.answer_kinds import AnswerKind, AnswerKinds, answer_of
from ft_tools.examples.detect_format import detect
from ft_tools.examples.example import THOUGHTS
from ft_tools.examples.formats import normalise
from ft_tools.examples.remembered_test_sets import known_test_rows
from ft_tools.examples.source import PARTS, TABLES, read, recognise
from ft_tools.examples.verdict_columns import UnreadColumns
from ft_tools.publish import sha256

Task = Literal["sft", "dpo", "kto"]
Format = Literal[
    "messages", "prompt_completion_messages", "prompt_completion_text", "text", "pairs_messages",
    "pairs_messages_implicit", "pairs_text", "marks_messages", "marks_text",
]  # fmt: skip
Example = dict[str, Any]

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
# A tuple: a role that is a list or an object is looked for in it, too, and cannot be hashed.
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
# What an answer carries that is not to be trained, as OpenAI and Axolotl spell it.
UNTRAINED = {"weight": 0, "train": False, "training": False}
# What belongs to a prompt beside the fields that are read, in the spelling of common sets.
UNREAD = ("system", "system_prompt", "input", "context", "chat_template_kwargs")
READ: dict[Format, frozenset[str]] = {
    "messages": frozenset({"messages", "tools"}),
    "prompt_completion_messages": frozenset({"prompt", "completion", "tools"}),
    "prompt_completion_text": frozenset({"prompt", "completion"}),
    "text": frozenset({"text"}),
    "pairs_messages": frozenset({"prompt", "chosen", "rejected", "tools"}),
    "pairs_messages_implicit": frozenset({"chosen", "rejected", "tools"}),
    "pairs_text": frozenset({"prompt", "chosen", "rejected"}),
    "marks_messages": frozenset({"prompt", "completion", "label", "tools"}),
    "marks_text": frozenset({"prompt", "completion", "label"}),
}
"""What a trainer reads of each format."""
CONVERT = "audit_dataset with output_dir writes files that can be trained on"
PREPARE = "prepare_dataset proposes which columns are asked and answered, and writes such files"
# English text has about four characters a token. Source: https://platform.openai.com/tokenizer
CHARACTERS_PER_TOKEN = 4
TEMPLATE_TOKENS = 512
"""More than a chat template adds to an example: a system text of its own, and what frames turns."""


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
    verdict_columns: list[str] = Field(
        default_factory=list, description="Fields that may mark rows as good or bad and are unread."
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


def survey(path: Path, task: Task) -> DatasetFacts:
    """Read a whole file and describe it.

    Raises:
        BadData: It is empty, has a line that is no example, or mixes formats; file and line named.
        BadInput: It is not a regular file.
    """
    num_examples = num_characters = longest = longest_bytes = num_good = num_thoughts = 0
    seen: Format | None = None
    unread: Counter[str] = Counter()
    columns = UnreadColumns()
    answers = AnswerKinds()
    test_rows = known_test_rows()
    num_test_rows = 0
    for line, example in read_examples(path):
        format_ = format_of(path, line, example, task)
        if seen is not None and format_ != seen:
            problem = f"is {format_}, the lines before are {seen}"
            raise BadData(path, problem, f"use one format in a file; {CONVERT}", line)
        seen = format_
        characters = sum(len(text) for text in texts_of(example))
        unread.update(unread_in(example))
        columns.add(example, READ[format_], line)
        num_test_rows += bool(test_rows) and normalise(line, example) in test_rows
        num_good += task == "kto" and bool(example["label"])
        answers.add(answer_of(example))
        num_thoughts += has_thought(example)
        num_examples += 1
        num_characters += characters
        longest = max(longest, characters)
        longest_bytes = max(longest_bytes, _num_bytes(example, READ[format_]))
    if seen is None:
        raise BadData(path, "has no examples", f"give a JSONL file, one object per line; {CONVERT}")
    return DatasetFacts(
        path=str(path),
        sha256=sha256(path),
        num_examples=num_examples,
        format=seen,
        num_characters=num_characters,
        longest_characters=longest,
        longest_bytes=longest_bytes,
        answers=answers.kind if task == "sft" else "free",
        num_labels=answers.num_labels if task == "sft" else None,
        num_good=num_good if task == "kto" else None,
        unread=dict(unread),
        num_test_rows=num_test_rows,
        num_thoughts=num_thoughts,
        verdict_columns=[column.shown_name for column in columns.asked()],
    )


def _num_bytes(example: Example, fields: frozenset[str]) -> int:
    """Return the bytes of all that a trainer reads of an example, names of roles and tools too."""
    read = {name: example[name] for name in fields if name in example}
    return len(json.dumps(read, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def has_thought(example: Example) -> bool:
    """Say whether an answer of an example was thought out: in a field of its own, or in its text.

    >>> has_thought({"messages": [{"role": "assistant", "content": "4", "reasoning": "2 and 2"}]})
    True
    >>> has_thought({"prompt": "2+2?", "completion": "<think>2 and 2</think>4"})
    True
    """
    answers: list[Any] = [example.get("completion"), example.get("chosen")]
    answers += [
        turn for turn in _objects(example.get("messages")) if turn.get("role") == "assistant"
    ]
    for answer in answers:
        turns = [answer] if isinstance(answer, dict) else _objects(answer)
        if any(turn.get(name) for turn in turns for name in THOUGHTS):
            return True
        texts = [answer, *(turn.get("content") for turn in turns)]
        if any(isinstance(text, str) and "<think>" in text for text in texts):
            return True
    return False


def _objects(value: Any) -> list[dict[str, Any]]:
    return [turn for turn in value if isinstance(turn, dict)] if isinstance(value, list) else []


def read_examples(path: Path) -> Iterator[tuple[int, Example]]:
    """Give each line's number, from 1, and its object; blank lines are skipped.

    Raises:
        BadData: A line is not UTF-8, or not a JSON object.
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
    with workspace.open_file(path) as stream:
        lines = ((line, raw) for line, raw in enumerate(stream, 1) if raw.strip())
        first = next(lines, None)
        if first is None or not _begins_array(first[1]):
            for line, raw in chain([first] if first else (), lines):
                yield line, _object(path, line, raw)
            return
    yield from _array(path, first[0])


def is_array(path: Path) -> bool:
    """Tell whether a file of examples is a JSON array."""
    with workspace.open_file(path) as stream:
        return _begins_array(next((raw for raw in stream if raw.strip()), b""))


def _begins_array(raw: bytes) -> bool:
    """Tell whether a line begins a JSON array, which no example is."""
    return raw.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _array(path: Path, line: int) -> Iterator[tuple[int, Example]]:
    """Give the objects of a JSON array, each with its number.

    Raises:
        BadData: A value is damaged, or no object.
    """
    source = recognise(path)
    if source.kind != "json_values" or source.gzipped:
        raise BadData(path, "is a JSON list, not an object", CONVERT, line)
    for row in read(source):
        if row.problem is not None:
            raise BadData(path, f"cannot be read ({row.problem})", CONVERT, row.number)
        if not isinstance(row.value, dict):
            raise BadData(path, "is not a JSON object", CONVERT, row.number)
        yield row.number, row.value


def format_of(path: Path, line: int, example: Example, task: Task) -> Format:
    """Tell which format an example has, and check its parts.

    Raises:
        BadData: It has none of the task's formats, or a message is malformed.
    """
    keys = set(example)
    _check_tools(path, line, example.get("tools"))
    if task == "dpo":
        return _pair_format(path, line, example)
    if task == "kto":
        return _mark_format(path, line, example)
    if "messages" in keys:
        _check_messages(path, line, "messages", example["messages"], answered=True)
        return "messages"
    if {"prompt", "completion"} <= keys:
        if isinstance(example["prompt"], str) and isinstance(example["completion"], str):
            _check_text(path, line, "completion", example["completion"])
            return "prompt_completion_text"
        _check_messages(path, line, "prompt", example["prompt"])
        _check_messages(path, line, "completion", example["completion"], answered=True)
        return "prompt_completion_messages"
    if "text" in keys:
        _check_text(path, line, "text", example["text"])
        return "text"
    wanted = "`messages`, `prompt` and `completion`, or `text`"
    raise BadData(path, f"has the fields {_names(keys)}, not {wanted}", _cure(example), line)


def tools_of(example: Example) -> list[dict[str, Any]] | None:
    """Return the tools that an example offers, given as a list or as JSON of one."""
    tools = example.get("tools")
    return (json.loads(tools) if isinstance(tools, str) and tools else tools) or None


def texts_of(example: Example) -> list[str]:
    """Return every text of an example, in order."""
    found = []
    for name in ("messages", "prompt", "completion", "text", "chosen", "rejected"):
        part = example.get(name)
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, list):
            # A field of another format may hold anything: it is not read, and not checked.
            turns = (turn.get("content") for turn in part if isinstance(turn, dict))
            found += [content for content in turns if isinstance(content, str)]
    return found


def unread_in(example: Example) -> list[str]:
    """Return the fields that say something of the prompt or the loss and reach no trainer."""
    turns = _turns(example, "messages", "prompt", "chosen")
    has_system = any(turn.get("role") in {"system", "developer"} for turn in turns)
    names = [name for name in UNREAD if example.get(name)]
    found = [name for name in names if not (has_system and name.startswith("system"))]
    trained = [t for t in _turns(example, "messages", "completion") if t.get("role") == "assistant"]
    marks = [name for name, no in UNTRAINED.items() if any(t.get(name, 1) == no for t in trained)]
    return found + marks


def _turns(example: Example, *names: str) -> list[dict[str, Any]]:
    parts = (example.get(name) for name in names)
    listed = [turn for part in parts if isinstance(part, list) for turn in part]
    return [turn for turn in listed if isinstance(turn, dict)]


def has_marks(path: Path) -> bool:
    """Tell whether a file's first example is an answer with a verdict, not a pair of answers."""
    for _, example in read_examples(path):
        return {"completion", "label"} <= set(example) and "chosen" not in example
    return False


def trains_pairs(path: Path) -> bool:
    """Tell whether a file's first example is a pair of answers."""
    for _, example in read_examples(path):
        return {"chosen", "rejected"} <= set(example)
    return False


def _mark_format(path: Path, line: int, example: Example) -> Format:
    if not {"prompt", "completion", "label"} <= set(example):
        problem = f"has the fields {_names(set(example))}, not `prompt`, `completion` and `label`"
        raise BadData(path, problem, _cure(example), line)
    # TRL takes any number above 0 for good, 0.2 as well.
    if example["label"] not in (True, False):
        problem = "`label` is neither true nor false"
        raise BadData(path, problem, "use true for a good answer, false for a bad one", line)
    if isinstance(example["prompt"], str) and isinstance(example["completion"], str):
        _check_text(path, line, "prompt", example["prompt"])
        _check_text(path, line, "completion", example["completion"])
        return "marks_text"
    _check_messages(path, line, "prompt", example["prompt"])
    _check_messages(path, line, "completion", example["completion"], answered=True)
    return "marks_messages"


def _pair_format(path: Path, line: int, example: Example) -> Format:
    if not {"chosen", "rejected"} <= set(example):
        problem = f"has the fields {_names(set(example))}, not `prompt`, `chosen` and `rejected`"
        raise BadData(path, problem, _cure(example), line)
    if isinstance(example["chosen"], str):
        for name in ("prompt", "chosen", "rejected"):
            _check_text(path, line, name, example.get(name))
        form: Format = "pairs_text"
    else:
        _check_messages(path, line, "chosen", example["chosen"], answered=True)
        _check_messages(path, line, "rejected", example["rejected"], answered=True)
        form = "pairs_messages" if "prompt" in example else "pairs_messages_implicit"
        if "prompt" in example:
            _check_messages(path, line, "prompt", example["prompt"])
    if example["chosen"] == example["rejected"]:
        cure = "remove it: it teaches nothing"
        raise BadData(path, "has the same answer as chosen and as rejected", cure, line)
    return form


def _cure(example: Example) -> str:
    """Say which tool reads a row: one that is an example of some format, or of none."""
    return PREPARE if detect(example) == "unknown" else CONVERT


def _check_messages(
    path: Path, line: int, name: str, messages: Any, *, answered: bool = False
) -> None:
    if not isinstance(messages, list) or not messages:
        raise BadData(path, f"`{name}` is not a list of messages", CONVERT, line)
    for number, message in enumerate(messages, 1):
        where = f"message {number} of `{name}`"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            problem = f"{where} has no `role` out of {', '.join(sorted(ROLES))}"
            raise BadData(path, problem, CONVERT, line)
        content = message.get("content")
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            raise BadData(path, f"{where} has no text in `content`", CONVERT, line)
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            raise BadData(path, f"{where} has `tool_calls` that are no objects", CONVERT, line)
    last = messages[-1]
    if answered and last["role"] != "assistant":
        raise BadData(path, f"`{name}` does not end with an assistant message", CONVERT, line)
    if answered and not (last.get("content") or "").strip() and not last.get("tool_calls"):
        raise BadData(path, f"the last answer of `{name}` is empty", CONVERT, line)


def _check_tools(path: Path, line: int, tools: Any) -> None:
    """Take a list of objects, or JSON of one."""
    try:
        tools = json.loads(tools) if isinstance(tools, str) and tools else tools
    except (ValueError, RecursionError):
        tools = "(damaged)"
    if tools and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise BadData(path, "has `tools` that are no list of objects", CONVERT, line)


def _check_text(path: Path, line: int, name: str, text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        raise BadData(path, f"`{name}` is not a text, or empty", CONVERT, line)


def _object(path: Path, line: int, raw: bytes) -> Example:
    try:
        value = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
    except UnicodeDecodeError:
        raise BadData(path, "is not UTF-8 text", f"convert it; {CONVERT}", line) from None
    except ValueError as error:
        detail = getattr(error, "msg", "not JSON")
        raise BadData(path, f"is not JSON ({detail})", f"fix the line; {CONVERT}", line) from None
    except RecursionError:
        raise BadData(path, "is nested too deeply", f"remove it; {CONVERT}", line) from None
    if not isinstance(value, dict):
        raise BadData(path, "is not a JSON object", CONVERT, line)
    return value


def _names(keys: set[str]) -> str:
    """List names that are names; what could say something is only counted."""
    plain = sorted(ascii(key) for key in keys if PLAIN_NAME.fullmatch(key))[:8]
    others = len(keys) - len(plain)
    return ", ".join([*plain, *([f"{others} others"] if others else [])]) or "(none)"
