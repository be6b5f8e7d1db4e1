"""Read the held-out examples: what is asked, and the expected answer."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ft_tools.data.map.answer_schema import completed
from ft_tools.data.map.apply_mapping import LEFT_OUT, apply_mapping
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.masking import mask_example, mask_values
from ft_tools.data.map.named_columns import require_columns, require_none
from ft_tools.data.read.rows import Reader
from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadData
from ft_tools.formats.loss_marks import up_to_the_answer
from ft_tools.formats.training_rows import TEXTS, read_examples, tools_of
from ft_tools.formats.trl_formats import CONVERT, format_of, turns_in
from ft_tools.metrics.checks.scorer import scored_row
from ft_tools.metrics.text import without_thought
from ft_tools.similarity.wordings import wordings_of
from ft_tools.similarity.words import tokens_of

Message = dict[str, Any]


@dataclass(frozen=True)
class HeldOut:
    """An example that neither model should have seen."""

    line: int
    messages: list[Message] = field(default_factory=list)
    """The conversation up to the wanted answer; of plain text one turn with what is before it."""
    reference: str = ""
    """The wanted answer as one text, without a thought."""
    is_text: bool = False
    """The example is plain text and no conversation."""
    answer: Message = field(default_factory=dict)
    """The wanted answer as a message; empty for plain text."""
    cluster: str | None = None
    tools: list[dict[str, Any]] | None = None
    row: dict[str, Any] = field(default_factory=dict)
    """The whole row, for fields that only some metrics and systems read."""

    @property
    def numbered(self) -> tuple[int, dict[str, Any]]:
        """Return the line and the example, by which it is known in any file."""
        if self.is_text:
            return self.line, {"prompt": self.asked, "completion": self.written}
        return self.line, {"messages": [*self.messages, self.answer]}

    @property
    def written(self) -> str:
        """Return the wanted answer as one text, with the thought that is written before it."""
        content = self.row.get("completion") if self.is_text else self.answer.get("content")
        if content and self.answer.get("tool_calls"):
            return f"{content}\n{self.reference}".strip()
        return str(content or self.reference).strip()

    @property
    def asked(self) -> str:
        """Return what is asked as one text, for people and for comparing examples."""
        turns = (m for m in self.messages if m["role"] != "system")
        return "\n".join(str(m.get("content") or "") for m in turns)


def read_held_out(
    path: Path,
    mapping: ColumnMapping | None = None,
    cluster_field: str | None = None,
    max_examples: int | None = None,
    left_out: Counter[str] | None = None,
) -> list[HeldOut]:
    """Read a file of conversations, or of prompts with completions, or of rows that are mapped.

    Args:
        path: JSONL; with a mapping any file that prepare_dataset reads.
        mapping: What its columns mean, as prepare_dataset applies it.
        cluster_field: Field or column that groups related examples.
        max_examples: The first ones are taken.
        left_out: Counts the rows before the last one taken that are none, by reason: an answer that
            is marked bad is no reference, and a mapping leaves rows out.

    Raises:
        BadData: A line is no example, or has no wanted answer; file and line are named.
        BadInput: The mapping does not fit the file.
    """
    found, skipped = list[HeldOut](), Counter[str]() if left_out is None else left_out
    rows = read_examples(path) if mapping is None else _mapped(path, mapping)
    for line, example in rows:
        if isinstance(example, str):
            skipped[example] += 1
        elif "completion" in example and example.get("label") is False:
            # As rows of KTO are marked.
            skipped["marked_bad"] += 1
        else:
            found.append(_held_out(path, line, example, cluster_field))
        if len(found) == max_examples:
            break
    if not found:
        raise BadData(path, "has no examples", f"pass a JSONL file, one object per line; {CONVERT}")
    return found


def _mapped(path: Path, mapping: ColumnMapping) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line and row, as a mapping makes it beside its other columns; or why it is left out."""
    reader = Reader(AuditRequest(path=str(path), mapping=mapping), path)
    require_columns(mapping, reader)
    mapping, problems = completed(mapping, reader)
    require_none(problems)
    for row in reader.rows():
        made = apply_mapping(mapping, row.number, row.value) if row.problem is None else None
        example = made.example if made else None
        problem = row.problem or (made.problem if made else "")
        if example is not None and example.format != "unknown":
            if example.task == "sft":
                example.messages = up_to_the_answer(example.messages)
            if mapping.masks_all:
                mask_example(example)
            others = dict(row.value) if isinstance(row.value, dict) else {}
            others = {k: v for k, v in others.items() if k not in TEXTS}
            if mapping.masks_all:
                others, _ = mask_values(others, [*others])
            yield row.number, others | example.row()
        elif problem in LEFT_OUT:
            yield row.number, problem
        else:
            cure = "correct the row or the mapping; show_examples quotes the row"
            raise BadData(path, f"is no example ({problem or 'unknown'})", cure, row.number)


def scored_rows(examples: Sequence[HeldOut]) -> list[dict[str, Any]]:
    """Return the rows as declared checks read them."""
    return [scored_row(one.row, one.asked, one.reference) for one in examples]


def question_of(example: HeldOut) -> str:
    """Return the last user turn; empty without one."""
    turns = [m for m in example.messages if m["role"] == "user"]
    return str(turns[-1].get("content") or "") if turns else ""


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
        cure = (
            "read are `prompt` with `completion`, and `messages` that end with the assistant's "
            "turn; for other columns, prepare_dataset with their mapping writes such a file"
        )
        raise BadData(path, problem, cure, line)
    made = HeldOut(line=line, cluster=None if cluster is None else str(cluster), row=example)
    if format_of(path, line, example, "sft") == "prompt_completion_text":
        turns = [{"role": "user", "content": example["prompt"]}]
        reference = without_thought(example["completion"]).strip()
        return replace(made, messages=turns, reference=reference, is_text=True)
    turns = example.get("messages") or [*example["prompt"], *example["completion"]]
    answer = turns[-1]
    calls = answer.get("tool_calls")
    reference = without_thought(str(answer.get("content") or "")).strip()
    if calls:
        reference = json.dumps([call.get("function", call) for call in calls])
    return replace(
        made, messages=turns[:-1], reference=reference, answer=answer, tools=tools_of(example)
    )
