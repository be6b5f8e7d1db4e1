"""Answers to the user's own prompts: what is sent, and the row that an answer makes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.creation.findings import refusal
from ft_tools.creation.prompts import Candidate, Prompt, shots_of
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import Message
from ft_tools.errors import BadData
from ft_tools.evaluation.held_out import HeldOut, question_of
from ft_tools.evaluation.systems.asking import asked_as, read_document
from ft_tools.formats.training_rows import read_examples, tools_of
from ft_tools.metrics.checks.scorer import scored_row

CURE = "each row needs `messages`, `prompt`, or the column that options.prompt_column names"


def prompts(request: CreateRequest, path: Path) -> Iterator[Prompt]:
    """Yield the request of each row, each prompt once.

    Raises:
        BadData: A row has no prompt.
    """
    teacher = request.teacher
    assert teacher is not None
    document, shots = read_document(teacher), shots_of(request)
    seen = set[str]()
    for line, row in read_examples(path):
        if tools_of(row):
            raise refusal("tools_in_prompt", path=path, line=line)
        trained, reference = _turns(request, path, line, row)
        example = HeldOut(line=line, messages=trained, row=row)
        asked = "\n".join(str(m.get("content") or "") for m in trained)
        if asked in seen:
            continue
        seen.add(asked)
        yield Prompt(
            source=f"{request.source}:{line}",
            messages=asked_as(teacher, example, shots, document).messages,
            asked=question_of(example),
            trained=trained,
            row=scored_row(row, question_of(example), reference),
        )


def read(_: CreateRequest, prompt: Prompt, text: str) -> list[Candidate]:
    """Return the row that an answer makes: it is the whole reply."""
    answer = text.strip()
    messages = [*prompt.trained, {"role": "assistant", "content": answer}]
    return [Candidate(messages, prompt.asked, answer, prompt.row)]


def _turns(
    request: CreateRequest, path: Path, line: int, row: dict[str, Any]
) -> tuple[list[Message], str]:
    """Return what a row asks as turns, and its own answer if it has one."""
    if request.prompt_column:
        asked: Any = row.get(request.prompt_column)
    else:
        asked = row.get("messages", row.get("prompt"))
    if isinstance(asked, str) and asked.strip():
        completion = row.get("completion")
        return [{"role": "user", "content": asked}], str(completion or "")
    turns = [turn for turn in asked if isinstance(turn, dict)] if isinstance(asked, list) else []
    last = turns[-1] if turns else {}
    reference = ""
    if last.get("role") == "assistant":
        turns, reference = turns[:-1], str(last.get("content") or "")
    if not turns or turns[-1].get("role") not in {"user", "tool"}:
        raise BadData(path, "has no prompt to answer", CURE, line)
    return turns, reference
