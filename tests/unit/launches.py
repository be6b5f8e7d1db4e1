"""Requests of launches, and the files that they name: see `files` in conftest.py."""

import json

from ft_tools import workspace as workspace_module
from ft_tools.training.request import DpoRequest, SftRequest

CHATML = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"


CONFIG = {
    "model_type": "llama",
    "max_position_embeddings": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 512,
}


def write(path, first, last):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Where is parcel number {i}?"},
                {"role": "assistant", "content": f"Parcel {i} is in Oslo since day {i * 7}."},
            ]
        }
        for i in range(first, last)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sft(**changed):
    return SftRequest(**{"model": "instruct", "dataset": "train.jsonl"} | changed)


def ids(warnings):
    """Return the ids of warnings, which are rows of the room's findings."""
    return [warning.partition(":")[0] for warning in warnings]


def started():
    """Return the runs that were started; rows may be held out for a plan."""
    return list(workspace_module.runs_dir().glob("*-*"))


def accepting(*ids):
    return {"accept_findings": list(ids), "accept_reason": "a test"}


def dpo(**changed):
    return DpoRequest(**{"model": "instruct", "dataset": "pairs.jsonl"} | changed)
