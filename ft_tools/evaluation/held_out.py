"""Read the held-out examples: what is asked, and the expected answer."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from ft_tools.errors import BadData
from ft_tools.formats.training_rows import read_examples, tools_of
from ft_tools.formats.trl_formats import CONVERT, format_of, turns_in
from ft_tools.metrics.checks.scorer import scored_row
from ft_tools.similarity.wordings import wordings_of
from ft_tools.similarity.words import tokens_of

Message = dict[str, Any]


@dataclass(frozen=True)
class HeldOut:
    """An example that neither model should have seen."""

    line: int
    messages: list[Message] = field(default_factory=list)
    """The conversation up to the wanted answer; empty for plain text."""
    prompt: str = ""
    """The text before the wanted answer, for examples that are not conversations."""
    reference: str = ""
    answer: Message = field(default_factory=dict)
    """The wanted answer as a message; empty for plain text."""
    cluster: str | None = None
    tools: list[dict[str, Any]] | None = None
    row: dict[str, Any] = field(default_factory=dict)
    """The whole row, for fields that only some metrics and systems read."""

    @property
    def numbered(self) -> tuple[int, dict[str, Any]]:
        """Return the whole row with its line."""
        return self.line, self.row

    @property
    def asked(self) -> str:
        """Return what is asked as one text, for people and for comparing examples."""
        if not self.messages:
            return self.prompt
        return "\n".join(
            str(m.get("content") or "") for m in self.messages if m["role"] != "system"
        )


def read_held_out(
    path: Path, *, cluster_field: str | None = None, max_examples: int | None = None
) -> list[HeldOut]:
    """Read a JSONL file of conversations, or of prompts with completions.

    Of a file with more than `max_examples` the first ones are taken. An answer that is marked bad
    is no reference: its row is left out.

    Raises:
        BadData: A line is no example, or has no wanted answer; file and line are named.
    """
    found = []
    for line, example in read_examples(path):
        if not _is_marked_bad(example):
            found.append(_held_out(path, line, example, cluster_field))
        if len(found) == max_examples:
            break
    if not found:
        raise BadData(path, "has no examples", f"pass a JSONL file, one object per line; {CONVERT}")
    return found


def scored_rows(examples: Sequence[HeldOut]) -> list[dict[str, Any]]:
    """Return the rows as declared checks read them."""
    return [scored_row(one.row, one.asked, one.reference) for one in examples]


def num_marked_bad(path: Path, last_line: int) -> int:
    """Count the rows up to a line that `read_held_out` leaves out."""
    rows = takewhile(lambda row: row[0] <= last_line, read_examples(path))
    return sum(_is_marked_bad(example) for _, example in rows)


def messages_of(example: HeldOut) -> list[Message]:
    """Return the conversation; a plain prompt becomes the user's message."""
    return example.messages or [{"role": "user", "content": example.prompt}]


def question_of(example: HeldOut) -> str:
    """Return the last user turn, or the plain prompt."""
    turns = [m for m in example.messages if m["role"] == "user"]
    return str(turns[-1].get("content") or "") if turns else example.prompt


def clusters_of(examples: Sequence[HeldOut]) -> list[str] | None:
    """Return the named group of each example; None where no two are of one group."""
    named = [example.cluster for example in examples if example.cluster is not None]
    return named if len(set(named)) < len(named) else None


def wordings_in(examples: Sequence[HeldOut]) -> list[str] | None:
    """Return the wording of each example if most follow few templates; None if they do not."""
    wordings = wordings_of([tokens_of(question_of(example)) for example in examples])
    named = [f"wording {w}" if w else f"row {i}" for i, w in enumerate(wordings.of)]
    return named if wordings.are_few else None


def asked_and_answered(example: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each question of a training example with its answer, as texts.

    The file may have changed since it was trained on: what is no turn is passed over.
    """
    answer = "completion" if "completion" in example else "chosen"
    names = ("messages",) if example.get("messages") is not None else ("prompt", answer, "text")
    before: list[str] = []
    for turn in turns_in(example, *names):
        content = str(turn.get("content") or "")
        if turn.get("role") == "assistant":
            yield "\n".join(before), content
        if turn.get("role") != "system":
            before.append(content)


def _is_marked_bad(example: dict[str, Any]) -> bool:
    """Return whether a row of marks (KTO) marks its answer as bad."""
    return "completion" in example and example.get("label") is False


def _held_out(path: Path, line: int, example: dict[str, Any], cluster_field: str | None) -> HeldOut:
    cluster = example.get(cluster_field) if cluster_field is not None else None
    if cluster_field is not None and not isinstance(cluster, str | int):
        problem = f"has no field {cluster_field!r} with a text or a number"
        raise BadData(path, problem, "set cluster_field to the field that groups rows", line)
    # A held-out row without its reference is the usual mistake; `format_of` would only say that
    # the fields are not those of a training example.
    missing = "prompt" in example and not example.get("completion")
    if missing or not ("messages" in example or {"prompt", "completion"} <= set(example)):
        problem = "has no expected answer"
        cure = "end it with `completion`, or with the assistant's turn in `messages`"
        raise BadData(path, problem, cure, line)
    made = HeldOut(line=line, cluster=None if cluster is None else str(cluster), row=example)
    if format_of(path, line, example, "sft") == "prompt_completion_text":
        text = {"prompt": example["prompt"], "reference": example["completion"].strip()}
        return HeldOut(**{**made.__dict__, **text})
    turns = example.get("messages") or [*example["prompt"], *example["completion"]]
    answer = turns[-1]
    calls = answer.get("tool_calls")
    reference = str(answer.get("content") or "").strip()
    if calls:
        reference = json.dumps([call.get("function", call) for call in calls])
    rest = {"messages": turns[:-1], "reference": reference, "answer": answer}
    return HeldOut(**{**made.__dict__, **rest, "tools": tools_of(example)})
