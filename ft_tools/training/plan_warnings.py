"""What a plan warns of; nothing here stops a launch."""

from pathlib import Path
from typing import Any

from ft_tools.formats.training_rows import UNTRAINED, DatasetFacts
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.hardware.devices import Device, unused_gpu
from ft_tools.runs.launchers.placement import Place
from ft_tools.training import defaults
from ft_tools.training.holding_out import about_wordings, validation_beside
from ft_tools.training.request import TrainingRequest
from ft_tools.training.token_counts import Counts

KEEPS_OUT = "audit_dataset with output_dir keeps them out of the loss"


def about_run(
    source: ModelSource,
    training: dict[str, Any],
    validation: DatasetFacts | None,
    steps: int,
) -> list[str]:
    """Warn of what the model, the files and the number of steps may spoil."""
    found = []
    if source.path is None:
        found.append(
            f"{source.name} is not on this machine; the run downloads it and checks its chat "
            "template then"
        )
    if validation is None:
        found.append(
            "no validation file: examples are seen once, overfitting goes unnoticed, and the last "
            "model is kept instead of the best; with `validation` small datasets are repeated"
        )
    elif training.get("loss_type") == "dft":
        found.append(
            "the dft loss may rise while the model improves, so it cannot choose a checkpoint: the "
            "last model is kept"
        )
    if steps < 20:
        found.append(f"only {steps} steps: use smaller batches or more examples")
    length = training.get("max_length")
    limit = model_folder.max_positions(Path(source.path)) if source.path else None
    if length and limit and length > limit:
        found.append(f"max_length {length} exceeds the model's {limit} positions")
    return found


def about_evaluations(training: dict[str, Any], steps: int, epochs: float) -> list[str]:
    """Say so where so few evaluations were asked for that they tell nothing."""
    planned = defaults.planned_evaluations(training, steps, epochs)
    # Of fewer steps no schedule makes enough.
    is_short = planned > 0 and steps < defaults.LEAST_EVALUATIONS
    if training["eval_strategy"] == "no" or is_short or planned >= defaults.LEAST_EVALUATIONS:
        return []
    every = defaults.step_arguments({}, steps, evaluates=True)["eval_steps"]
    return [
        f"{planned} evaluations in {steps} steps are too few to choose the best checkpoint and to "
        f"say whether it still learns; leave eval_strategy and eval_steps out for one per {every} "
        "steps"
    ]


def about_held_out(
    asked: tuple[DatasetFacts, DatasetFacts | None],
    used: tuple[DatasetFacts, DatasetFacts | None],
) -> list[str]:
    """Say which rows are held out of a file, if the plan did so by itself."""
    if used[1] is None or asked[1] is not None:
        return []
    dataset = Path(asked[0].path)
    beside = validation_beside(dataset)
    file = f" ({beside.name} beside it, for one)" if beside else ""
    return [
        f"no validation file: {used[1].num_examples} of {asked[0].num_examples} examples are held "
        f"out of {dataset.name} to choose the best checkpoint{about_wordings(used[1])}; pass "
        f"`validation`{file} to choose them, or training.eval_strategy='no' to train on all of "
        "them once"
    ]


def about_continued(source: ModelSource, training: dict[str, Any]) -> list[str]:
    """Say what starts anew where a run's result is trained further."""
    if source.run_id is None:
        return []
    return [
        f"trains the result of {source.run_id} further: the optimizer starts anew and the learning "
        f"rate is warmed up again, to {training['learning_rate']:g}; compare both runs' validation "
        "loss before you use the new one"
    ]


def about_hardware(device: Device, place: Place) -> list[str]:
    """Say what of this hardware was never run by this project, and what it does not use."""
    found = []
    if device.name == "cpu":
        unused = unused_gpu() if place.backend == "local" else ""
        return [unused] if unused else []
    found.append(
        f"this project's own tests run on CPUs: training on {device.model} follows the libraries' "
        "documentation and was never run by it; start with a short run (max_steps=20). On a GPU a "
        "resumed run is not equal bit for bit"
    )
    if place.exported_for:
        found.append(
            f"this plan is for {place.exported_for} elsewhere, and is not started here; export_dir "
            "writes it, and the exported script trains there"
        )
    if place.sharding != "ddp":
        found.append(f"sharding={place.sharding!r} was never run by this project")
    return found


def about_unread(dataset: DatasetFacts) -> list[str]:
    """Name what the rows say of their prompts, and of what is not to be trained, to no effect."""
    cures = {"chat_template_kwargs": "write them into a template (training.chat_template_path)"}
    cures |= dict.fromkeys(UNTRAINED, f"such answers are trained; {KEEPS_OUT}")
    usual = "audit_dataset with output_dir puts it into the prompts"
    return [
        f"`{name}` of {count} examples is not read; {cures.get(name, usual)}"
        for name, count in sorted(dataset.unread.items())
    ]


def about_form(source: ModelSource, dataset: DatasetFacts, template: str | None) -> list[str]:
    """Say so when questions and answers of plain text are to train a model that is made to chat."""
    if dataset.format not in {"prompt_completion_text", "pairs_text"} or not source.path:
        return []
    folder = Path(model_folder.tokenizer_folder(source.adapter, source.path))
    if template is None and model_folder.chat_template(folder) is None:
        return []
    return [
        f"{Path(dataset.path).name} is plain text, so the chat template of {source.name} is not "
        "applied, and the result will hardly show in a chat; unless the texts contain its "
        "special tokens already, train on the messages that audit_dataset with output_dir writes"
    ]


def about_tokens(
    dataset: DatasetFacts, counted: Counts | None, why_not: str, length: int | None
) -> list[str]:
    """Say what tokenisation leaves out, as far as it is known."""
    found = []
    if counted is None:
        found.append(
            f"token counts are estimated from characters, the longest from bytes: {why_not}"
        )
        if length and dataset.longest_characters > 4 * length:
            found.append(
                f"the longest example has {dataset.longest_characters} characters, about "
                f"{dataset.longest_characters // 4} tokens; what is beyond max_length {length} is "
                "cut"
            )
        return found
    data = counted.data
    if counted.num_counted < dataset.num_examples:
        found.append(
            f"tokens are scaled from the first {counted.num_counted} of {dataset.num_examples} "
            "examples"
        )
    if data.num_truncated:
        found.append(
            f"{data.num_truncated} of {data.num_sequences} sequences "
            f"({data.num_truncated / data.num_sequences:.1%}) are cut at {length}, and their "
            f"answers have no end; the longest has {counted.lengths.longest_tokens} tokens: raise "
            "training.max_length, or shorten or remove these rows"
        )
    if data.num_dropped:
        found.append(f"{data.num_dropped} sequences have nothing to learn and are skipped")
    if data.num_prompt_drifts:
        found.append(
            f"{data.num_prompt_drifts} prompts are tokenized differently alone than with their "
            "answer"
        )
    return found


def about_decided(request: TrainingRequest, device: Device) -> list[str]:
    """Name the arguments that the plan replaces for this device."""
    asked = {"bf16": "bfloat16", "fp16": "float16"}
    found = [
        f"training.{name} is ignored: on {device.name} the plan computes in {device.precision}"
        for name, precision in asked.items()
        if request.training.get(name) and precision != device.precision
    ]
    optimizer = request.training.get("optim", "")
    if defaults.needs_gpu(optimizer) and device.name == "cpu":
        found.append(
            f"training.optim={optimizer!r} needs a GPU; on {device.name} it is adamw_torch"
        )
    return found
