"""Which findings a plan has, and with what numbers."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from ft_tools import facts
from ft_tools.endpoints.spec import Endpoint
from ft_tools.evaluation.findings import finding
from ft_tools.evaluation.looks import MOST
from ft_tools.evaluation.report import Contamination, Origin
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.models import (
    LoadPlan,
    Models,
    chat_template,
    quantization_of,
    tokenizer_files,
)
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import MOST_TOKENS
from ft_tools.formats.training_rows import CHARACTERS_PER_TOKEN
from ft_tools.metrics.sample_size import detectable_effect, examples_needed
from ft_tools.metrics.scores import Scoring
from ft_tools.models.resolve import ModelSource

RARE = 0.05
"""Fraction of answers that may be cut off."""


def size_warning(request: EvaluateRequest, num_examples: int) -> str:
    """Return that these may be too few examples; empty if they are enough."""
    effect = request.smallest_effect_fraction
    discordance = facts.number("evaluation.discordance")
    shown = detectable_effect(num_examples, discordance)
    if not num_examples or shown <= effect:
        return ""
    needed = examples_needed(effect, discordance)
    return finding(
        "few_held_out_examples", num=num_examples, shown=shown, effect=effect, needed=needed
    )


def data_warnings(
    request: EvaluateRequest, references: Sequence[str], schema: Path | None, num_bad: int
) -> Iterator[str]:
    """Yield findings on the references: a schema they violate, a limit they exceed, bad ones."""
    total = len(references)
    if schema is not None:
        conforms = Scoring(references, schema=schema).conforms
        if num := sum(not conforms(reference) for reference in references):
            yield finding("schema_mismatch", num=num, total=total, name=schema.name)
    tokens = [len(reference) / CHARACTERS_PER_TOKEN for reference in references]
    num = sum(number > request.max_new_tokens for number in tokens)
    if num > RARE * total:
        yield finding(
            "answers_longer_than_limit",
            num=num,
            total=total,
            most=request.max_new_tokens,
            characters=CHARACTERS_PER_TOKEN,
            enough=min(MOST_TOKENS, 2 ** math.ceil(math.log2(max(tokens)))),
        )
    if num_bad:
        yield finding("marked_bad", num=num_bad)


def claim_warnings(
    look: int, origin: Origin | None, num_changed: dict[str, int], *, has_target: bool
) -> Iterator[str]:
    """Yield what limits a claim: looks at these rows, where they come from, what was changed.

    Args:
        look: At these rows, with this evaluation.
        origin: As the caller named it.
        num_changed: Change -> rows that it applies to.
        has_target: Whether a target may be met.
    """
    if look > MOST:
        yield finding("fresh_rows_needed", look=look)
    elif look > 1:
        yield finding("looked_at_before", look=look, earlier=look - 1)
    if has_target and origin is None:
        yield finding("origin_unknown")
    elif has_target and origin != "collected":
        yield finding("not_collected", origin=origin)
    for name, num in num_changed.items():
        if not num:
            yield finding("nothing_to_change", change=name)


def model_warnings(
    models: Models,
    loading: LoadPlan | None,
    why_idle: str,
    overlap: Contamination | None,
    num_examples: int,
) -> Iterator[str]:
    """Yield findings on models that differ, how they are loaded, and what they were trained on."""
    if models.tuned is not None:
        yield from _pair_warnings(models.tuned, models.baseline)
    if overlap is not None and overlap.num_near:
        yield finding("near_copies", num=overlap.num_near, total=num_examples)
    if overlap is not None and models.by_name and overlap.not_checked:
        yield finding("training_files_missing")
    elif overlap is not None and models.by_name and not overlap.checked_against:
        yield finding("training_data_unknown")
    if loading is not None and loading.four_bit:
        yield finding("loaded_in_4_bit")
    if why_idle:
        yield finding("mac_gpu_idle", why=why_idle)


def _pair_warnings(tuned: ModelSource, baseline: ModelSource | None) -> Iterator[str]:
    if quantization_of(tuned) is not None:
        yield finding("trained_on_4_bit")
    if baseline is None:
        yield finding("measured_alone", model=tuned.name)
        return
    if tuned == baseline:
        yield finding("compared_with_itself")
    if len({*map(chat_template, (tuned, baseline)), None}) > 2:
        yield finding("templates_differ")
    if len({*map(tokenizer_files, (tuned, baseline)), ""}) > 2:
        yield finding("tokenizers_differ")


def system_warnings(request: EvaluateRequest, systems: Sequence[SystemPlan]) -> Iterator[str]:
    """Yield findings on texts that leave the machine, answers that are reused, and tasks."""
    hosts = {spec.name: spec.endpoint for spec in request.all_systems() if spec.endpoint}
    for plan in systems:
        name, endpoint = plan.name, hosts.get(plan.name)
        if endpoint is not None and plan.num_questions:
            budget = ", ".join(f"{key} {value:g}" for key, value in plan.budget.items())
            size = f"about {plan.estimated_input_tokens} input tokens"
            yield _texts_sent(name, str(plan.num_questions), size, endpoint, budget)
        if plan.num_examples_removed:
            yield finding("examples_removed", system=name, num=plan.num_examples_removed)
        if plan.num_reused:
            yield finding("answers_reused", system=name, num=plan.num_reused, run=plan.reused_from)
    if request.judge is not None and "judge" in request.metrics:
        budget = f"max_calls {request.judge_max_calls}"
        yield _texts_sent("judge", "the held-out", "with both outputs", request.judge, budget)
    if request.lm_eval_tasks:
        yield finding("tasks_not_timed")
        if not request.task_paths:
            yield finding("tasks_downloaded")


def _texts_sent(name: str, num: str, size: str, endpoint: Endpoint, budget: str) -> str:
    row = "texts_sent_here" if endpoint.is_local else "texts_sent"
    return finding(row, system=name, num=num, size=size, host=endpoint.host, budget=budget)
