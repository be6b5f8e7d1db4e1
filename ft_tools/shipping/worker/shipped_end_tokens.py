"""Where a shipped model ends its answers, and the generation config that says so."""

import json
from pathlib import Path
from typing import Any

from ft_tools.models.worker.end_tokens import end_tokens
from ft_tools.shipping.asking import greedy_settings

NAME = "generation_config.json"


def ends_of(tokenizer: Any, folder: Path) -> list[int]:
    """Return the tokens that end an answer of the model in a folder."""
    configs = (_read(folder / name).get("eos_token_id") for name in (NAME, "config.json"))
    return end_tokens(tokenizer, *configs)


def stop_texts(tokenizer: Any, folder: Path) -> list[str]:
    """Return the texts that end an answer."""
    return [str(tokenizer.convert_ids_to_tokens(i)) for i in ends_of(tokenizer, folder)]


def write_greedy(tokenizer: Any, folder: Path, max_new_tokens: int | None) -> None:
    """Rewrite generation_config.json so that the model answers as it was measured."""
    made = greedy_settings(_read(folder / NAME), ends_of(tokenizer, folder), max_new_tokens)
    (folder / NAME).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}
