"""What the SFT and the DPO worker share: loading, training with its recoveries, the end."""

import gc
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    EarlyStoppingCallback,
    Trainer,
    set_seed,
)

from ft_tools import publish
from ft_tools.errors import FineTuningError, Missing, Refused
from ft_tools.publish import new_folder, sha256
from ft_tools.runs.session import Session, Stopped
from ft_tools.training import checkpoints, exports
from ft_tools.training.examples import DatasetFacts
from ft_tools.training.plan import TrainingPlan
from ft_tools.training.reports import DataReport, last_value
from ft_tools.workers.callbacks import RunCallback

LOCKED_PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "tokenizers",
    "safetensors", "numpy",
)  # fmt: skip
CHECKPOINTS = "checkpoints"
LOCK_FILE = "run.lock.json"


class Diverged(FineTuningError):
    """The loss is not a number any more."""

    code = "diverged"


@dataclass
class Outcome:
    """What training left behind."""

    trainer: Trainer
    callback: RunCallback
    seconds: float
    micro_batch: int
    accumulation: int


MakeTrainer = Callable[[dict[str, Any]], Trainer]
"""Trainer arguments that the run decides -> a trainer over a freshly loaded model."""


def check_inputs(plan: TrainingPlan) -> None:
    """Refuse data or a device that is not the one that was confirmed.

    Raises:
        Refused: A file or the model changed while the run was queued.
        Missing: The plan's GPU cannot be used by the installed torch.
    """
    for facts in (plan.dataset, plan.validation):
        if facts is not None and _file_hash(facts) != facts.sha256:
            raise Refused(
                f"{facts.path} is not the file that was confirmed; launch again to see the new plan"
            )
    config = Path(plan.model.load_from) / "config.json"
    if plan.model.config_sha256 and (
        not config.is_file() or sha256(config) != plan.model.config_sha256
    ):
        raise Refused(
            f"{plan.model.load_from} is not the model that was confirmed; launch again to see the "
            "new plan"
        )
    if plan.device.name != "cpu":
        # TRL refuses several visible cards in one process. Read by torch when it first uses one.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[0]
    if plan.device.name != "cpu" and not torch.cuda.is_available():
        raise Missing(
            f"the plan uses {plan.device.model}, which torch {torch.__version__} cannot; install "
            'torch with CUDA (https://pytorch.org), or pass backend_options={"device": "cpu"}'
        )


def load_tokenizer(plan: TrainingPlan) -> Any:
    """Load the tokenizer, with the chat template that the plan names."""
    tokenizer = AutoTokenizer.from_pretrained(plan.model.adapter or plan.model.load_from)
    template = plan.training.get("chat_template_path")
    if template is not None:
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(plan: TrainingPlan) -> Any:
    """Load the base and put the adapter on it that is trained, if the method has one.

    The seed is set first: the adapter's start is random and must be the same in each attempt.
    """
    set_seed(plan.training["seed"])
    extra = {
        k: v for k, v in (plan.training.get("model_init_kwargs") or {}).items() if k != "dtype"
    }
    if plan.quantization is not None:
        compute = getattr(torch, plan.device.precision)
        extra["quantization_config"] = BitsAndBytesConfig(
            **plan.quantization, bnb_4bit_compute_dtype=compute
        )
    if plan.device.name != "cpu":
        extra["device_map"] = {"": 0}
    dtype = getattr(torch, plan.weights_dtype)
    model = AutoModelForCausalLM.from_pretrained(plan.model.load_from, dtype=dtype, **extra)
    model.config.use_cache = False
    if plan.model.adapter is not None:
        return PeftModel.from_pretrained(model, plan.model.adapter, is_trainable=True)
    if plan.peft is not None:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **plan.peft))
    return model


def run_arguments(session: Session, plan: TrainingPlan) -> dict[str, Any]:
    """Return the arguments of the trainer's configuration that the run decides."""
    on_cpu = plan.device.name == "cpu"
    handled = {"chat_template_path", "model_init_kwargs", "assistant_only_loss"}
    given = {k: v for k, v in plan.training.items() if k not in handled}
    checkpointing = given.pop("gradient_checkpointing", False)
    # transformers 5.24 calls it by a new name and warns about the old one, TRL's default included.
    own = {
        "gradient_checkpointing": None,
        "activation_checkpointing": checkpointing,
        "output_dir": str(session.run_dir / CHECKPOINTS),
        "save_strategy": "epoch" if given.get("eval_strategy") == "epoch" else "steps",
        "save_total_limit": None,
        "load_best_model_at_end": plan.patience is not None,
        "metric_for_best_model": "eval_loss" if plan.patience is not None else None,
        "greater_is_better": False if plan.patience is not None else None,
        "restore_callback_states_from_checkpoint": True,
        "logging_nan_inf_filter": False,
        "use_cpu": on_cpu,
        "bf16": plan.device.precision == "bfloat16",
        "fp16": plan.device.precision == "float16",
        "dataloader_pin_memory": not on_cpu,
        "disable_tqdm": True,
        "per_device_eval_batch_size": given.get(
            "per_device_eval_batch_size", given["per_device_train_batch_size"]
        ),
    }
    return given | own


def train(session: Session, plan: TrainingPlan, make_trainer: MakeTrainer) -> Outcome:
    """Train from the last valid checkpoint to the end, halving the micro-batch when memory ends.

    Raises:
        Stopped: A cancel or a TERM arrived; a checkpoint has been written.
        Diverged: The loss is not a number.
    """
    arguments = run_arguments(session, plan)
    while True:
        try:
            return _train_once(session, plan, make_trainer, arguments)
        except (torch.OutOfMemoryError, MemoryError) as error:
            arguments = _smaller(session, arguments, error)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def publish_result(session: Session, plan: TrainingPlan, trainer: Trainer, tokenizer: Any) -> Path:
    """Publish the adapter, or the model, with its tokenizer; of a resumed run, once."""
    session.phase("publishing")
    model = trainer.accelerator.unwrap_model(trainer.model)
    kind = "adapter" if isinstance(model, PeftModel) else "model"
    final = session.run_dir / "artifacts" / kind
    if final.is_dir() and publish.verify(final) == []:
        session.artifact(kind, final)
        return final
    with new_folder(final) as staging:
        if kind == "adapter":
            # Without the frozen copy `ref` that a preference run keeps beside the trained one.
            model.save_pretrained(staging, selected_adapters=["default"])
        else:
            model.save_pretrained(staging)
        (staging / "README.md").unlink(missing_ok=True)
        tokenizer.save_pretrained(staging)
    session.artifact(kind, final)
    return final


def write_lock(session: Session, plan: TrainingPlan, tokenizer: Any) -> Path:
    """Write down everything that is needed to repeat the run, here or with another trainer."""
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
        "command": ["python", "-m", f"ft_tools.workers.{plan.task}", "RUN_DIR"],
    }
    folder = session.run_dir / exports.FOLDER
    publish.private_folder(folder)
    exports.write_exports(folder, plan)
    path = session.run_dir / LOCK_FILE
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
    return {
        "artifact": str(artifact),
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 4),
        "seconds": round(outcome.seconds, 2),
        "tokens_per_second": round(tokens / outcome.seconds, 1) if outcome.seconds else 0.0,
        "train_loss": sum(last) / len(last) if last else None,
        "first_loss": losses[0] if losses else None,
        "validation_loss": state.best_metric or last_value(rows, "eval_loss"),
        "best_step": best,
        "stopped_early": state.global_step < state.max_steps,
        "attempts": session.attempt,
        "data": data,
        "validation": validation,
        "num_trainable_params": sum(n for n, trained in counts if trained),
        "num_params": sum(n for n, _ in counts),
        "micro_batch": outcome.micro_batch,
        "accumulation": outcome.accumulation,
        "peak_memory_gib": _peak_memory_gib(),
        "health": outcome.callback.signals,
        "lock_file": str(session.run_dir / LOCK_FILE),
    }


def _train_once(
    session: Session, plan: TrainingPlan, make_trainer: MakeTrainer, arguments: dict[str, Any]
) -> Outcome:
    folder = session.run_dir / CHECKPOINTS
    resumed, removed = checkpoints.last_valid(folder)
    for line in removed:
        session.event(f"removed a checkpoint that cannot be trusted: {line}", "warning")
    session.phase("loading")
    trainer = make_trainer(arguments)
    callback = RunCallback(session, plan)
    trainer.add_callback(callback)
    if plan.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=plan.patience))
    if session.should_stop:
        raise Stopped
    if resumed is not None:
        session.event(f"continuing from {resumed.name}")
    session.phase("training")
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    seconds = time.monotonic() - began
    if callback.diverged:
        raise Diverged(
            f"the loss is not a number at step {trainer.state.global_step}; lower learning_rate to "
            "a third of it and launch again"
        )
    if callback.stopped:
        raise Stopped
    return Outcome(
        trainer,
        callback,
        seconds,
        arguments["per_device_train_batch_size"],
        arguments["gradient_accumulation_steps"],
    )


def _smaller(session: Session, arguments: dict[str, Any], error: BaseException) -> dict[str, Any]:
    """Halve the micro-batch and keep the effective batch."""
    micro, steps = (
        arguments["per_device_train_batch_size"],
        arguments["gradient_accumulation_steps"],
    )
    if micro == 1:
        raise error
    smaller = micro // 2
    if micro % 2:
        # An odd micro-batch has no half: go to single examples, which divide every batch.
        smaller = 1
    changed = {
        "per_device_train_batch_size": smaller,
        "per_device_eval_batch_size": min(smaller, arguments["per_device_eval_batch_size"]),
        "gradient_accumulation_steps": steps * micro // smaller,
    }
    session.event(
        f"out of memory with {micro} examples a micro-batch: going on with {smaller}, and "
        f"{changed['gradient_accumulation_steps']} of them a step; the effective batch stays "
        f"{micro * steps}",
        "warning",
    )
    return arguments | changed


def _file_hash(facts: DatasetFacts) -> str:
    path = Path(facts.path)
    return sha256(path) if path.is_file() else ""


def _peak_memory_gib() -> float:
    if torch.cuda.is_available():
        return round(float(torch.cuda.max_memory_allocated()) / 2**30, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return round(peak / (2**20 if sys.platform == "linux" else 2**30), 3)
