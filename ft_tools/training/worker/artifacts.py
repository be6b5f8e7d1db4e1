"""What a training run leaves: the adapter or the model, the lock file, the parts of its report."""

import hashlib
import importlib.metadata
import json
import platform
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import Trainer

from ft_tools import publish
from ft_tools.publish import new_folder
from ft_tools.runs.kinds import KINDS
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training import diagnosis
from ft_tools.training.exports import export
from ft_tools.training.health import Metrics
from ft_tools.training.micro_batches import MicroBatch
from ft_tools.training.token_counts import DataReport
from ft_tools.training.training_plan import TrainingPlan
from ft_tools.training.worker.callbacks import RunCallback

LOCKED_PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "tokenizers",
    "safetensors", "numpy", "mlx", "mlx-lm",
)  # fmt: skip
LOCK_FILE = "run.lock.json"


@dataclass
class Outcome:
    """What training left behind."""

    trainer: Trainer
    callback: RunCallback
    seconds: float
    batch: MicroBatch


def publish_result(session: Session, plan: TrainingPlan, trainer: Trainer, tokenizer: Any) -> Path:
    """Publish the adapter, or the model, with its tokenizer; of a resumed run, once."""
    session.phase("publishing")
    model = trainer.accelerator.unwrap_model(trainer.model)
    kind = "adapter" if isinstance(model, PeftModel) else "model"
    final = session.run_dir / "artifacts" / kind
    weights = {}
    if plan.place.sharding != "ddp":
        # Each rank has a part of them; together they put the whole on rank 0.
        weights = {"state_dict": trainer.accelerator.get_state_dict(trainer.model)}
        if kind == "model":
            # Gathered one by one, tied weights are copies, which transformers would save again.
            for name in model.all_tied_weights_keys:
                weights["state_dict"].pop(name, None)
    if not session.leads:
        return final
    if final.is_dir() and publish.verify(final) == []:
        session.artifact(kind, final)
        return final
    with new_folder(final) as staging:
        if kind == "adapter":
            # Without the frozen copy `ref` that a preference run keeps beside the trained one.
            model.save_pretrained(staging, selected_adapters=["default"], **weights)
        else:
            model.save_pretrained(staging, **weights)
        (staging / "README.md").unlink(missing_ok=True)
        tokenizer.save_pretrained(staging)
    session.artifact(kind, final)
    return final


def write_lock(session: Session, plan: TrainingPlan, tokenizer: Any) -> Path:
    """Write down everything that is needed to repeat the run, here or with another trainer."""
    path = session.run_dir / LOCK_FILE
    if not session.leads:
        return path
    versions = {}
    for name in LOCKED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    template = tokenizer.chat_template or ""
    lock = {
        "plan": plan.model_dump(mode="json"),
        "seed": plan.training["seed"],
        "packages": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": plan.device.model_dump(),
        "threads": torch.get_num_threads(),
        "chat_template_sha256": hashlib.sha256(str(template).encode()).hexdigest(),
        "command": ["python", "-m", KINDS[plan.task].worker, "RUN_DIR"],
    }
    if plan.task != "grpo":
        # Its rewards run in this package only.
        folder = session.run_dir / export.FOLDER
        publish.private_folder(folder)
        export.write_exports(folder, plan)
    publish.write_file(path, json.dumps(lock, indent=1, sort_keys=True))
    return path


def report_parts(
    session: Session,
    plan: TrainingPlan,
    outcome: Outcome,
    artifact: Path,
    data: DataReport,
    validation: DataReport | None,
) -> dict[str, Any]:
    """Return the fields that the reports of both kinds of run share."""
    state, rows = outcome.trainer.state, outcome.callback.rows
    losses = [row["loss"] for row in rows if "loss" in row]
    last = losses[-max(1, len(losses) // 10) :]
    named = outcome.trainer.model.named_parameters()
    # The frozen copy that a preference run keeps is not part of the model.
    counts = [(p.numel(), p.requires_grad) for name, p in named if ".ref." not in name]
    best = outcome.callback.best_step if plan.patience is not None else None
    tokens = outcome.callback.tokens_seen
    found = diagnosis.diagnose(rows, diagnosis.setup_of(plan)) if plan.task == "sft" else []
    asked = json.loads(session.request_json())
    return {
        "artifact": str(artifact),
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 4),
        "seconds": round(outcome.seconds, 2),
        "tokens_per_second": round(tokens / outcome.seconds, 1) if outcome.seconds else 0.0,
        "train_loss": sum(last) / len(last) if last else None,
        "first_loss": losses[0] if losses else None,
        "validation_loss": None
        if plan.task == "grpo"
        else state.best_metric or Metrics(rows).last("eval_loss"),
        "best_step": best,
        "stopped_early": state.global_step < state.max_steps,
        "attempts": session.attempt,
        "data": data,
        "validation": validation,
        "num_trainable_params": sum(n for n, trained in counts if trained),
        "num_params": sum(n for n, _ in counts),
        "micro_batch": outcome.batch.size,
        "accumulation": outcome.batch.accumulation,
        "peak_memory_gib": _peak_memory_gib(plan),
        "health": outcome.callback.signals,
        "diagnosis": found,
        "next_steps": diagnosis.next_steps(found, plan, asked, session.run_dir.name),
        "lock_file": str(session.run_dir / LOCK_FILE),
    }


def _peak_memory_gib(plan: TrainingPlan) -> float:
    if plan.engine == "mlx":
        from ft_tools.training.worker.mlx import bridge

        return bridge.peak_memory_gib()
    if torch.cuda.is_available():
        return round(float(torch.cuda.max_memory_allocated()) / 2**30, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return round(peak / (2**20 if sys.platform == "linux" else 2**30), 3)
