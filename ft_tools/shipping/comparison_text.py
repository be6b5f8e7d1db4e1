"""The text on which a shipped model is compared with the model it was made of."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from ft_tools.formats.training_rows import read_examples
from ft_tools.formats.trl_formats import Example
from ft_tools.runs.state import directory

MAX_TEXTS = 64
MAX_QUESTION_CHARS = 300
Message = dict[str, Any]

# Short tasks of our own, for the greedy samples of a model that brings no held-out examples.
PROMPTS = (
    "Write one sentence about the sea.",
    "What is the capital of France?",
    "List three colours.",
)


def built_in() -> list[str]:
    """Return ten short texts of our own: prose, instructions, code, JSON, letters."""
    whole = files("ft_tools.shipping").joinpath("held_out.txt").read_text(encoding="utf-8")
    return [part.strip("\n") for part in whole.split("\n\n")]


def of_run(run_id: str | None) -> Path | None:
    """Return the validation file of a training run, if it had one and it is still there."""
    return _file_of_run(run_id, "validation")


def training_file(run_id: str | None) -> Path | None:
    """Return what a run was trained on, if it is still there."""
    return _file_of_run(run_id, "dataset")


def _file_of_run(run_id: str | None, field: str) -> Path | None:
    if run_id is None:
        return None
    plan = directory.read_json(directory.find(run_id) / "plan.json") or {}
    held = plan.get(field)
    named = held.get("path") if isinstance(held, dict) else held
    path = Path(named) if isinstance(named, str) else None
    return path if path is not None and path.is_file() else None


def examples(path: Path) -> list[Example]:
    """Read the first examples of a JSONL file.

    Raises:
        BadData: A line is not a JSON object.
    """
    found = []
    for _, example in read_examples(path):
        found.append(example)
        if len(found) == MAX_TEXTS:
            break
    return found


def conversation(example: Example) -> list[Message] | str | None:
    """Return an example as one conversation, or as one text; None when it is neither.

    Of a preference pair it is the prompt with the chosen answer.

    >>> conversation({"prompt": "2+2=", "completion": "4"})
    '2+2=4'
    """
    if "messages" in example:
        return list(example["messages"])
    prompt = example.get("prompt", "")
    for name in ("completion", "chosen"):
        answer = example.get(name)
        if isinstance(answer, str) and isinstance(prompt, str):
            return prompt + answer
        if isinstance(answer, list):
            return [*(prompt if isinstance(prompt, list) else []), *answer]
    text = example.get("text")
    return text if isinstance(text, str) else None


def prompt_of(example: Example) -> list[Message] | str | None:
    """Return what comes before an example's last answer; None when nothing does."""
    whole = conversation(example)
    if isinstance(whole, list):
        return whole[:-1] or None
    prompt = example.get("prompt")
    return prompt if isinstance(prompt, str) and prompt else None


def example_question(path: Path) -> str | None:
    """Return a short question of a file, to be shown beside the model; None where there is none.

    Not one that holds a secret or personal data: what is shipped is given to others.
    """
    from ft_tools.data.judge.privacy import mask

    for example in examples(path):
        asked = prompt_of(example)
        said = asked[-1].get("content") if isinstance(asked, list) else asked
        if not isinstance(said, str) or not 0 < len(said) <= MAX_QUESTION_CHARS:
            continue
        if mask(said) == said and all(char.isprintable() or char == "\n" for char in said):
            return said
    return None


def plain(messages: list[Message]) -> Iterator[Message]:
    """Give messages with a text for content, as every chat template takes them."""
    for message in messages:
        content = message.get("content")
        yield message | {"content": content if isinstance(content, str) else json.dumps(content)}
