"""What a plan warns of; nothing here stops a launch. The texts are rows of findings.toml."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.formats.example import THOUGHTS
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.turns import MARKS
from ft_tools.metrics.text import THINKS
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.hardware.devices import unused_gpu
from ft_tools.runs.hardware.memory import total_bytes
from ft_tools.training import defaults
from ft_tools.training.findings import warning
from ft_tools.training.request import TrainingRequest
from ft_tools.training.training_plan import TrainingPlan
from ft_tools.training.validation_split import validation_beside

SWITCH = re.compile(r"\b(enable_thinking|thinking_budget|reasoning_effort)\b")
FEW_THOUGHTS = 0.05
"""Fewer answers than this share are an oversight, not a decision."""
# Above this a DPO run often collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
DPO_RATE = 2e-5
Row = tuple[Any, str, dict[str, Any]]
"""Whether it holds, which row of findings.toml, and the fields of its message."""


def plan_warnings(
    request: TrainingRequest,
    source: ModelSource,
    asked: tuple[DatasetFacts, DatasetFacts | None],
    plan: TrainingPlan,
    why_not: str,
) -> list[str]:
    """Return what hardware, memory, model, data and arguments of a plan may spoil.

    `asked` are the files that were named; `why_not` says why tokens were not counted.
    """
    rows = (
        *_of_machine(plan),
        *_of_files(source, asked, plan),
        *_of_arguments(source, plan),
        *_of_examples(source, plan, why_not),
        _of_rate(request, plan),
    )
    return [warning(name, **fields) for holds, name, fields in rows if holds]


def _of_machine(plan: TrainingPlan) -> Iterator[Row]:
    ram = plan.estimate.ram or {}
    on_cpu = plan.device.name == "cpu"
    unused = unused_gpu() if on_cpu and plan.place.backend == "local" else ""
    needed, high, machine = (
        ram.get(f"{name}_gib", 0.0) for name in ("needed", "needed_high", "machine")
    )
    yield unused, "other_gpu", {"problem": unused}
    yield not on_cpu, "never_run_here", {"device": plan.device.model}
    if plan.place.sharding == "fsdp" and plan.is_here and plan.model.num_params:
        # Rank 0 reads the weights, and collects all of them for each checkpoint.
        size = plan.model.num_params * (4 if plan.weights_dtype == "float32" else 2) / 2**30
        here = total_bytes() / 2**30
        yield size > here, "sharded_above_memory", {"size": size, "machine": here}
    fields = {"needed": needed, "high": high, "machine": machine}
    yield high > machine, "memory_may_not_suffice", fields


def _of_files(
    source: ModelSource, asked: tuple[DatasetFacts, DatasetFacts | None], plan: TrainingPlan
) -> Iterator[Row]:
    named, validation, training = Path(asked[0].path), plan.validation, plan.training
    if validation is not None and asked[1] is None:
        beside = validation_beside(named)
        yield (
            True,
            "held_out",
            {
                "held_out": validation.num_examples,
                "num_examples": asked[0].num_examples,
                "name": named.name,
                "beside": f" ({beside.name} beside it, for one)" if beside else "",
            },
        )
    further = {"run_id": source.run_id, "rate": training["learning_rate"]}
    yield source.run_id is not None, "trained_further", further
    yield source.path is None, "model_not_here", {"model": source.name}
    yield validation is None, "no_validation", {}
    yield validation is not None and training.get("loss_type") == "dft", "last_model_kept", {}


def _of_arguments(source: ModelSource, plan: TrainingPlan) -> Iterator[Row]:
    training, steps, planned = plan.training, plan.estimate.steps, plan.num_evaluations
    length, longest = training.get("max_length"), plan.most_tokens
    limit = model_folder.max_positions(Path(source.path)) if source.path else None
    is_above = length and limit and length > limit
    yield is_above, "length_above_positions", {"length": length, "limit": limit}
    is_above = plan.task == "grpo" and limit and (longest or 0) > limit
    yield is_above, "answers_above_positions", {"length": longest, "limit": limit}
    yield training.get("use_vllm"), "vllm_never_run", {}
    # Of fewer steps no schedule makes enough.
    is_short = planned > 0 and steps < defaults.LEAST_EVALUATIONS
    is_watched = training["eval_strategy"] != "no" and not is_short
    every = defaults.step_arguments({}, steps, evaluates=True)["eval_steps"]
    fields = {"planned": planned, "steps": steps, "every": every}
    yield is_watched and planned < defaults.LEAST_EVALUATIONS, "few_evaluations", fields


def _of_examples(source: ModelSource, plan: TrainingPlan, why_not: str) -> Iterator[Row]:
    dataset, counts = plan.dataset, plan.counts
    template = _template(source, plan.training.get("chat_template_path"))
    yield from ((True, *row) for row in _unread(dataset))
    yield from ((True, *row) for row in _thoughts(source, dataset, template))
    is_plain = dataset.format in {"prompt_completion_text", "pairs_text", "prompts_text"}
    fields: dict[str, Any] = {"name": Path(dataset.path).name, "model": source.name}
    yield (
        is_plain and source.path and template is not None,
        "plain_text_for_a_chat_model",
        fields,
    )
    yield counts is None, "tokens_estimated", {"reason": why_not}
    if counts and (cut := counts.data.num_truncated):
        all_rows = counts.data.num_sequences
        fields = {"cut": cut, "all_rows": all_rows, "fraction": cut / all_rows}
        fields |= {"length": plan.training.get("max_length")}
        yield True, "rows_cut", fields | {"longest": counts.lengths.longest_tokens}


def _of_rate(request: TrainingRequest, plan: TrainingPlan) -> Row:
    rate = request.training.get("learning_rate", 0.0)
    is_high = plan.task in {"dpo", "kto"} and rate > DPO_RATE
    return is_high, "high_rate_for_dpo", {"rate": rate, "limit": DPO_RATE}


def _unread(dataset: DatasetFacts) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, count in sorted(dataset.unread.items()):
        row = "unread_mark" if name in MARKS else "unread_field"
        row = "unread_template_arguments" if name == "chat_template_kwargs" else row
        yield row, {"field": name, "count": count}


def _thoughts(
    source: ModelSource, dataset: DatasetFacts, template: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    if template is None or dataset.format == "text":
        return
    thoughts, num_examples = dataset.num_thoughts, dataset.num_examples
    fields = {"model": source.name, "thoughts": thoughts, "num_examples": num_examples}
    if THINKS.search(template) and thoughts / num_examples <= FEW_THOUGHTS:
        found = SWITCH.search(template)
        switch = f"`{found[1]}`" if found else "a checkpoint of that family that does not think"
        yield "thoughts_missing", fields | {"switch": switch}
    elif thoughts and not any(re.search(rf"\b{name}\b", template) for name in THOUGHTS):
        yield "thoughts_left_out", fields


def _template(source: ModelSource, given: str | None) -> str | None:
    if given is None and not source.path:
        return None
    folder = Path(model_folder.tokenizer_folder(source.adapter, source.path or ""))
    return model_folder.chat_template(folder, given)
