"""Count the tokens of a plan, refuse what memory cannot hold, and estimate how long it takes."""

import math
from dataclasses import dataclass, replace
from typing import Any

from ft_tools import workspace
from ft_tools.formats.masking import LossOn
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.trl_formats import Task
from ft_tools.models import model_folder
from ft_tools.models.mlx import is_apple_silicon, mac_name
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import require_space
from ft_tools.runs.estimates import Range, present_load
from ft_tools.runs.hardware import device_slots
from ft_tools.runs.launchers.table import Place
from ft_tools.training import defaults, estimates, step_time, token_counts
from ft_tools.training.checks import memory
from ft_tools.training.checks.learnable import packing_of
from ft_tools.training.estimates import Estimate
from ft_tools.training.model_plan import ModelPlan
from ft_tools.training.request import TrainingRequest
from ft_tools.training.settings import Settings
from ft_tools.training.token_counts import CountRequest, Counts


@dataclass(frozen=True)
class Completions:
    """What is known of the answers that a reinforcement run writes itself."""

    mean_tokens: float
    seconds: Range | None
    """That one takes in a batch as large as the run's; None: nobody measured it."""

    def added_to(
        self, work: estimates.Work, parts: dict[str, Any], prompt_tokens: int, evaluations: int
    ) -> tuple[int, estimates.Work]:
        """Return the trained tokens, and the work with what is generated and evaluated.

        Args:
            work: Of the plan.
            parts: Of the plan.
            prompt_tokens: Of all epochs, each prompt once.
            evaluations: Of the run; one more goes before the first step.
        """
        training, validation = parts["training"], parts["validation"]
        batch = training[defaults.BATCH[0]] * training[defaults.BATCH[1]]
        trained, held_out = work.steps * batch, 0
        if validation is not None:
            held_out = validation.num_examples * training["num_generations_eval"]
        held_out *= evaluations + 1
        evaluated = work.evaluated_tokens * training.get("num_generations_eval", 1)
        evaluated += int(held_out * self.mean_tokens)
        made = replace(
            work, evaluated_tokens=evaluated, generated=(trained + held_out, self.seconds)
        )
        tokens = prompt_tokens * training["num_generations"] + trained * self.mean_tokens
        return int(tokens), made


def rows_in_batches(counts: Counts | None, dataset: DatasetFacts) -> int:
    """Return the rows that batches are made of: sequences, pairs or packs."""
    return counts.num_rows if counts else dataset.num_examples


def require_memory(
    request: TrainingRequest, source: ModelSource, parts: dict[str, Any], settings: Settings
) -> dict[str, Any]:
    """Return the estimate of memory, and what other programs use of a GPU's, as of `Estimate`.

    Chooses micro-batch, checkpointing and optimizer where nobody asked for them.

    Raises:
        Refused: It does not fit, or could not be checked.
    """
    device, counts = settings.device, parts["counts"]
    used_gib = device_slots.used_by_others_gib(device) if request.is_here else 0.0
    planned = memory.PlannedRun(
        model=source.load_from,
        task=parts["task"],
        method=request.method,
        peft=settings.peft,
        training=settings.training,
        device=device,
        dtype=parts["weights_dtype"],
        place=settings.place,
        used_gib=used_gib,
        mac=mac_name() if parts["engine"] == "mlx" and is_apple_silicon() else "",
        most_tokens=most_tokens(counts, settings.training),
        num_rows=None if parts["task"] == "grpo" else rows_in_batches(counts, parts["dataset"]),
    )
    settings.training |= memory.fastest_that_fits(planned, settings.given)
    return {
        "vram": memory.require_fit(planned, parts["accepted"]),
        "ram": memory.host_memory(planned, parts["accepted"]) if request.is_here else None,
        "used_by_others_gib": used_gib,
    }


def most_tokens(counts: Counts | None, training: dict[str, Any]) -> int | None:
    """Return the tokens that a row of a batch may have before it is cut: a pack may have all."""
    if counts is None or counts.num_counted < counts.data.num_examples:
        return None
    if training.get("packing"):
        return counts.data.num_tokens
    return counts.lengths.longest_tokens + int(training.get("max_completion_length", 0))


def count_tokens(
    task: Task,
    source: ModelSource,
    training: dict[str, Any],
    files: tuple[DatasetFacts, DatasetFacts | None],
    loss_on: LossOn,
    before: Counts | None = None,
) -> tuple[Counts | None, str]:
    """Count tokens; not again where `before` is the same as these arguments give."""
    length, packing = training.get("max_length"), packing_of(training)
    if before is not None and not packing and (length or math.inf) >= before.lengths.longest_tokens:
        return before, ""
    request = CountRequest(
        task=task,
        tokenizer=model_folder.tokenizer_folder(
            source.adapter, source.path or source.files or source.load_from
        ),
        template_path=training.get("chat_template_path"),
        dataset=files[0],
        validation=files[1],
        max_length=length,
        loss_on=loss_on,
        packing=packing,
    )
    return token_counts.count(request)


def work_of(
    task: Task, request: TrainingRequest, parts: dict[str, Any], steps: int, evaluations: int
) -> estimates.Work:
    """Return what a plan computes, on what."""
    model: ModelPlan = parts["model"]
    return estimates.Work(
        task,
        request.method,
        model.num_params,
        model.config_sha256,
        parts["device"],
        parts["place"].num_processes,
        _evaluated_tokens(parts, evaluations),
        # Before a step is measured, which is work of its own.
        present_load(parts["device"]) if request.is_here else 0.0,
        parts["engine"],
        steps * parts["training"]["gradient_accumulation_steps"],
        steps,
        step_time.padding_of(parts) if parts["counts"] else 0.0,
    )


def estimated(
    request: TrainingRequest, parts: dict[str, Any], work: estimates.Work, tokens: int
) -> Estimate:
    """Return how many steps a plan has, and how long they are likely to take."""
    place: Place = parts["place"]
    disk = estimates.disk_bytes(_trained(request, parts), place.sharding)
    if not place.exported_for:
        require_space(workspace.runs_dir(), disk, "the run")
    return Estimate(
        steps=work.steps,
        tokens=tokens,
        duration=estimates.duration(work, tokens, request.price_per_hour),
        disk_bytes=disk,
    )


def _trained(request: TrainingRequest, parts: dict[str, Any]) -> int | None:
    """Return about how many weights are trained."""
    adapter = parts["peft"] or {"r": defaults.LORA["r"]}
    return estimates.trained_params(parts["model"].num_params, request.method, adapter)


def _evaluated_tokens(parts: dict[str, Any], evaluations: int) -> int:
    """Return the tokens of all evaluations of a run."""
    validation, counted = parts["validation"], parts["counts"]
    if validation is None:
        return 0
    one: int = counted.validation.num_tokens if counted else validation.estimated_tokens
    return evaluations * one
