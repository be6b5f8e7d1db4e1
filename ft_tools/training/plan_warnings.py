"""What a plan warns of; nothing here stops a launch. The texts are rows of findings.toml."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ft_tools.formats.example import THOUGHTS
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.turns import MARKS
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.hardware.devices import Device, unused_gpu
from ft_tools.runs.launchers.table import Place
from ft_tools.training import defaults
from ft_tools.training.findings import warning
from ft_tools.training.request import TrainingRequest
from ft_tools.training.token_counts import Counts
from ft_tools.training.validation_split import validation_beside

Files = tuple[DatasetFacts, DatasetFacts | None]
# What templates write around a thought: <think> of Qwen 3, DeepSeek R1, GLM 4.5 and Nemotron, the
# analysis channel of gpt-oss, START_THINKING of Command A, Seed-OSS, [THINK] of Mistral, thought
# channel of Gemma 4. Source: the chat templates of these models on the Hub.
THINKS = re.compile(
    r"<think>|<\|channel\|>analysis|<\|START_THINKING\|>|<seed:think>|\[THINK\]|<\|channel>thought"
)
SWITCH = re.compile(r"\b(enable_thinking|thinking_budget|reasoning_effort)\b")
FEW_THOUGHTS = 0.05
"""Fewer answers than this share are an oversight, not a decision."""
# Above this a DPO run often collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
DPO_RATE = 2e-5


def plan_warnings(
    request: TrainingRequest,
    source: ModelSource,
    asked: Files,
    plan: Mapping[str, Any],
    memory: Mapping[str, Any],
    why_not: str,
) -> list[str]:
    """Return what hardware, memory, model, data and arguments of a plan may spoil.

    Args:
        request: What was asked.
        source: The model.
        asked: The files that were asked for.
        plan: Arguments of the plan.
        memory: Of its estimate.
        why_not: Why tokens were not counted.
    """
    training, dataset = plan["training"], plan["dataset"]
    template = _template(source, training.get("chat_template_path"))
    return [
        *_hardware(plan["device"], plan["place"]),
        *_memory(memory),
        *_held_out(asked, (dataset, plan["validation"])),
        *_run(source, training, plan["validation"]),
        *_unread(dataset),
        *_thoughts(source, dataset, template),
        *_form(source, dataset, template),
        *_tokens(dataset, plan["counts"], why_not, training.get("max_length")),
        *(_preferences(request) if plan["task"] in {"dpo", "kto"} else []),
    ]


def few_evaluations(training: dict[str, Any], steps: int, epochs: float) -> list[str]:
    """Return a warning where so few evaluations were asked for that they show nothing."""
    planned = defaults.planned_evaluations(training, steps, epochs)
    # Of fewer steps no schedule makes enough.
    is_short = planned > 0 and steps < defaults.LEAST_EVALUATIONS
    if training["eval_strategy"] == "no" or is_short or planned >= defaults.LEAST_EVALUATIONS:
        return []
    every = defaults.step_arguments({}, steps, evaluates=True)["eval_steps"]
    return [warning("few_evaluations", planned=planned, steps=steps, every=every)]


def _hardware(device: Device, place: Place) -> Iterator[str]:
    if device.name == "cpu":
        if place.backend == "local" and (unused := unused_gpu()):
            yield warning("other_gpu", problem=unused)
        return
    yield warning("never_run_here", device=device.model)


def _memory(memory: Mapping[str, Any]) -> Iterator[str]:
    ram = memory["ram"]
    if ram is not None and ram["needed_high_gib"] > ram["machine_gib"]:
        sizes = {"needed": ram["needed_gib"], "high": ram["needed_high_gib"]}
        yield warning("memory_may_not_suffice", **sizes, machine=ram["machine_gib"])


def _held_out(asked: Files, used: Files) -> Iterator[str]:
    if used[1] is None or asked[1] is not None:
        return
    dataset = Path(asked[0].path)
    beside = validation_beside(dataset)
    yield warning(
        "held_out",
        held_out=used[1].num_examples,
        num_examples=asked[0].num_examples,
        name=dataset.name,
        beside=f" ({beside.name} beside it, for one)" if beside else "",
    )


def _run(
    source: ModelSource, training: Mapping[str, Any], validation: DatasetFacts | None
) -> Iterator[str]:
    if source.run_id is not None:
        yield warning("trained_further", run_id=source.run_id, rate=training["learning_rate"])
    if source.path is None:
        yield warning("model_not_here", model=source.name)
    if validation is None:
        yield warning("no_validation")
    elif training.get("loss_type") == "dft":
        yield warning("last_model_kept")
    length = training.get("max_length")
    limit = model_folder.max_positions(Path(source.path)) if source.path else None
    if length and limit and length > limit:
        yield warning("length_above_positions", length=length, limit=limit)


def _unread(dataset: DatasetFacts) -> Iterator[str]:
    for name, count in sorted(dataset.unread.items()):
        row = "unread_mark" if name in MARKS else "unread_field"
        row = "unread_template_arguments" if name == "chat_template_kwargs" else row
        yield warning(row, field=name, count=count)


def _thoughts(source: ModelSource, dataset: DatasetFacts, template: str | None) -> Iterator[str]:
    if template is None or dataset.format == "text":
        return
    thoughts, num_examples = dataset.num_thoughts, dataset.num_examples
    fields = {"model": source.name, "thoughts": thoughts, "num_examples": num_examples}
    if THINKS.search(template) and thoughts / num_examples <= FEW_THOUGHTS:
        found = SWITCH.search(template)
        switch = f"`{found[1]}`" if found else "a checkpoint of that family that does not think"
        yield warning("thoughts_missing", **fields, switch=switch)
    elif thoughts and not any(re.search(rf"\b{name}\b", template) for name in THOUGHTS):
        yield warning("thoughts_left_out", **fields)


def _form(source: ModelSource, dataset: DatasetFacts, template: str | None) -> Iterator[str]:
    is_plain = dataset.format in {"prompt_completion_text", "pairs_text", "prompts_text"}
    if is_plain and source.path and template is not None:
        name = Path(dataset.path).name
        yield warning("plain_text_for_a_chat_model", name=name, model=source.name)


def _tokens(
    dataset: DatasetFacts, counted: Counts | None, why_not: str, length: int | None
) -> Iterator[str]:
    if counted is None:
        yield warning("tokens_estimated", reason=why_not)
        return
    data = counted.data
    if data.num_truncated:
        yield warning(
            "rows_cut",
            cut=data.num_truncated,
            all_rows=data.num_sequences,
            fraction=data.num_truncated / data.num_sequences,
            length=length,
            longest=counted.lengths.longest_tokens,
        )


def _preferences(request: TrainingRequest) -> Iterator[str]:
    rate = request.training.get("learning_rate", 0.0)
    if rate > DPO_RATE:
        yield warning("high_rate_for_dpo", rate=rate, limit=DPO_RATE)


def _template(source: ModelSource, given: str | None) -> str | None:
    if given is None and not source.path:
        return None
    folder = Path(model_folder.tokenizer_folder(source.adapter, source.path or ""))
    return model_folder.chat_template(folder, given)
