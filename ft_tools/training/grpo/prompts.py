"""The prompts of a reinforcement run: what is asked, the reference, and what rewards read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_tools.formats.answer_kinds import answer_of
from ft_tools.formats.training_rows import DatasetFacts, read_examples
from ft_tools.formats.trl_formats import Example
from ft_tools.metrics.checks.scorer import scored_row

Asked = str | list[dict[str, Any]]
"""A prompt as TRL takes it: plain text, or messages."""


@dataclass(frozen=True)
class Prompt:
    """A row of the file."""

    line: int
    asked: Asked
    row: dict[str, Any]
    """What rewards read: the columns, `answer` (the reference) and `prompt` (its text)."""
    written: str = ""
    """The reference answer with its thought, as the file has it."""

    @property
    def reference(self) -> str:
        """Return the reference answer; empty where the row has none."""
        answer = self.row.get("answer")
        return "" if answer is None else str(answer)


def asked_of(example: Example) -> Asked:
    """Return the prompt of a row; of a conversation all before its last answer.

    >>> asked_of({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant"}]})
    [{'role': 'user', 'content': '2+2?'}]
    """
    asked: Asked = example["prompt"] if "prompt" in example else example["messages"][:-1]
    return asked


def read_prompts(facts: DatasetFacts) -> list[Prompt]:
    """Read a file of prompts that was checked."""
    found = []
    for line, example in read_examples(Path(facts.path)):
        asked = asked_of(example)
        turns = [asked] if isinstance(asked, str) else [turn.get("content") for turn in asked]
        text = "\n".join(turn for turn in turns if isinstance(turn, str))
        answer = answer_of(example)
        row, written = scored_row(example, text, answer), str(example.get("answer", answer))
        found.append(Prompt(line, asked, row, written))
    return found
