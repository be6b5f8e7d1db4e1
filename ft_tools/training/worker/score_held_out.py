"""Score a trained model on each held-out row: its loss, and whether its greedy answer is right."""

import json
from typing import Any

import torch
from datasets import Dataset

from ft_tools.formats.masking import IGNORED
from ft_tools.publish import write_file
from ft_tools.runs.worker_session import Session
from ft_tools.training.trial_rows import FILE


@torch.no_grad()
def score_rows(session: Session, model: Any, held_out: Dataset) -> None:
    """Write the run's held_out.jsonl.

    A greedy answer is the right one exactly if every token of the right one is the likeliest after
    those before it, so nothing needs to be generated.
    """
    was_training = model.training
    model.eval()
    lines = []
    for row in held_out:
        session.heartbeat()
        ids = torch.tensor([row["input_ids"]], device=model.device)
        labels = torch.tensor(row["labels"][1:], device=model.device)
        trained = labels != IGNORED
        logits = model(input_ids=ids).logits[0, :-1][trained].float()
        wanted = labels[trained]
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        is_right = bool((logits.argmax(-1) == wanted).all())
        lines.append(json.dumps({"loss": round(float(loss), 6), "is_right": is_right}))
    model.train(was_training)
    write_file(session.run_dir / FILE, "\n".join(lines) + "\n")
