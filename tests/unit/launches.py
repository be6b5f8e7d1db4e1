"""Requests of launches, and the files that they name: see `files` in conftest.py."""

import json

from ft_tools import workspace as workspace_module
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.token_counts import Counts, DataReport, Lengths
from ft_tools.training.training_plan import Estimate, ModelPlan, TrainingPlan

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


def planned(method, device, most_tokens, training, model="meta-llama/Llama-3.1-8B", task="sft",
            **changed):  # fmt: skip
    """Return what of a plan its memory depends on; without `most_tokens` nothing was counted."""
    sizes = {"num_sequences": 64, "num_truncated": 0, "num_dropped": 0, "num_tokens": 6400}
    data = DataReport(num_examples=64, num_trained_tokens=640, **sizes)
    lengths = {"mean_tokens": 100, "mean_answer_tokens": 10, "padding": 0}
    counts = most_tokens and Counts(
        data=data,
        num_rows=64,
        num_counted=64,
        lengths=Lengths(longest_tokens=most_tokens, **lengths),
    )
    batch = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    usual = {"optim": "adamw_torch", "gradient_checkpointing": False}
    parts = {
        "task": task,
        "method": method,
        "device": device,
        "weights_dtype": device.precision,
        "peft": None if method == "full" else {"r": 16, "target_modules": "all-linear"},
        "model": ModelPlan(name=model, load_from=model, base_model=model),
        "dataset": DatasetFacts.model_construct(num_examples=64),
        "counts": counts if most_tokens else None,
        "estimate": Estimate(steps=1, tokens=0, disk_bytes=0),
        "training": batch | usual | training,
    }
    return TrainingPlan.model_construct(**parts | changed)
