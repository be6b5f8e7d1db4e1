"""What a plan warns of; nothing here stops a launch. The texts are rows of findings.toml."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.formats.example import THOUGHTS
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.turns import MARKS
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.hardware.devices import unused_gpu
from ft_tools.training import defaults
from ft_tools.training.findings import warning
from ft_tools.training.request import TrainingRequest
from ft_tools.training.training_plan import TrainingPlan
from ft_tools.training.validation_split import validation_beside

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
    asked: tuple[DatasetFacts, DatasetFacts | None],
    plan: TrainingPlan,
    why_not: str,
) -> list[str]:
    """Return what hardware, memory, model, data and arguments of a plan may spoil.

    `asked` are the files that were named; `why_not` says why tokens were not counted.
    """
    training, dataset, ram = plan.training, plan.dataset, plan.estimate.ram or {}
    validation, counts, named = plan.validation, plan.counts, Path(asked[0].path)
    on_cpu = plan.device.name == "cpu"
    unused = unused_gpu() if on_cpu and plan.place.backend == "local" else ""
    beside = validation_beside(named)
    length = training.get("max_length")
    limit = model_folder.max_positions(Path(source.path)) if source.path else None
    cut, all_rows = (counts.data.num_truncated, counts.data.num_sequences) if counts else (0, 1)
    longest = counts.lengths.longest_tokens if counts else 0
    asked_rate = request.training.get("learning_rate", 0.0)
    template = _template(source, training.get("chat_template_path"))
    is_plain = dataset.format in {"prompt_completion_text", "pairs_text", "prompts_text"}
    needed, high, machine = (
        ram.get(f"{name}_gib", 0.0) for name in ("needed", "needed_high", "machine")
    )
    planned, steps = plan.num_evaluations, plan.estimate.steps
    every = defaults.step_arguments({}, steps, evaluates=True)["eval_steps"]
    # Of fewer steps no schedule makes enough.
    is_short = planned > 0 and steps < defaults.LEAST_EVALUATIONS
    is_watched = training["eval_strategy"] != "no" and not is_short
    rows: list[tuple[Any, str, dict[str, Any]]] = [
        (unused, "other_gpu", {"problem": unused}),
        (not on_cpu, "never_run_here", {"device": plan.device.model}),
        (
            high > machine,
            "memory_may_not_suffice",
            {"needed": needed, "high": high, "machine": machine},
        ),
        (
            validation is not None and asked[1] is None,
            "held_out",
            {
                "held_out": validation.num_examples if validation else 0,
                "num_examples": asked[0].num_examples,
                "name": named.name,
                "beside": f" ({beside.name} beside it, for one)" if beside else "",
            },
        ),
        (
            source.run_id is not None,
            "trained_further",
            {"run_id": source.run_id, "rate": training["learning_rate"]},
        ),
        (source.path is None, "model_not_here", {"model": source.name}),
        (validation is None, "no_validation", {}),
        (validation is not None and training.get("loss_type") == "dft", "last_model_kept", {}),
        (
            length and limit and length > limit,
            "length_above_positions",
            {"length": length, "limit": limit},
        ),
        (
            plan.task == "grpo" and limit and (plan.most_tokens or 0) > limit,
            "answers_above_positions",
            {"length": plan.most_tokens, "limit": limit},
        ),
        (training.get("use_vllm"), "vllm_never_run", {}),
        (
            is_watched and planned < defaults.LEAST_EVALUATIONS,
            "few_evaluations",
            {"planned": planned, "steps": steps, "every": every},
        ),
        *((True, *row) for row in _unread(dataset)),
        *((True, *row) for row in _thoughts(source, dataset, template)),
        (
            is_plain and source.path and template is not None,
            "plain_text_for_a_chat_model",
            {"name": Path(dataset.path).name, "model": source.name},
        ),
        (counts is None, "tokens_estimated", {"reason": why_not}),
        (
            cut,
            "rows_cut",
            {"cut": cut, "all_rows": all_rows, "fraction": cut / all_rows, "length": length,
             "longest": longest},
        ),
        (
            plan.task in {"dpo", "kto"} and asked_rate > DPO_RATE,
            "high_rate_for_dpo",
            {"rate": asked_rate, "limit": DPO_RATE},
        ),
    ]  # fmt: skip
    return [warning(name, **fields) for holds, name, fields in rows if holds]


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
