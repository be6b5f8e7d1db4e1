"""The texts on which a shipped model is compared with the model it was made of, or calibrated."""

import heapq
import json
import random
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from ft_tools.formats.training_rows import read_examples
from ft_tools.formats.trl_formats import Example
from ft_tools.runs.state import directory

MAX_TEXTS = 64
# Source: https://arxiv.org/abs/2210.17323, section 4: 128 segments.
NUM_CALIBRATION, MAX_CALIBRATION_TOKENS = 128, 512
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


def file_of_run(run_id: str | None, field: str) -> Path | None:
    """Return the `dataset` or the `validation` of a training run, if it is still there."""
    if run_id is None or not directory.RUN_ID.fullmatch(run_id):
        return None
    held = directory.plan_of(run_id).get(field)
    named = held.get("path") if isinstance(held, dict) else held
    path = Path(named) if isinstance(named, str) else None
    return path if path is not None and path.is_file() else None


def examples(path: Path) -> list[Example]:
    """Read the first examples of a JSONL file.

    Raises:
        BadData: A line is not a JSON object.
    """
    return [example for _, example in islice(read_examples(path), MAX_TEXTS)]


def calibration_examples(path: Path, measured_on: Path | None) -> list[Example]:
    """Return examples spread evenly by chance over a file, the same ones each time.

    An example that is also measured on is left out, however often the file has it.

    Raises:
        BadData: A line is not a JSON object.
    """
    known = {_key(e) for _, e in read_examples(measured_on)} if measured_on else set()
    found = (example for _, example in read_examples(path))
    eligible = (e for e in found if conversation(e) is not None and _key(e) not in known)
    dice = random.Random(0)
    return heapq.nsmallest(NUM_CALIBRATION, eligible, key=lambda _: dice.random())


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


def plain(messages: list[Message]) -> list[Message]:
    """Return messages with a text for content, as every chat template takes them."""
    contents = [message.get("content") for message in messages]
    texts = [content if isinstance(content, str) else json.dumps(content) for content in contents]
    return [message | {"content": text} for message, text in zip(messages, texts, strict=True)]


def _key(example: Example) -> str:
    return json.dumps(conversation(example), sort_keys=True)
