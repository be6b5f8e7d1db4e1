"""What an evaluation warns of and refuses, and which findings a plan has with what numbers."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from ft_tools import facts
from ft_tools.endpoints.spec import Endpoint
from ft_tools.evaluation.held_out import HeldOut, num_marked_bad
from ft_tools.evaluation.learned_rows import chose_the_checkpoint
from ft_tools.evaluation.report import Contamination, Origin
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.models import (
    LoadPlan,
    Models,
    chat_template,
    quantization_of,
)
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import MOST_TOKENS
from ft_tools.findings import FindingsTable
from ft_tools.formats.test_sets import MOST_LOOKS
from ft_tools.formats.training_rows import CHARACTERS_PER_TOKEN
from ft_tools.metrics.checks.request import Judge, check_names
from ft_tools.metrics.sample_size import detectable_effect, examples_needed
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource

_TABLE = FindingsTable("evaluation")
warning, refusal = _TABLE.warning, _TABLE.refusal
"""The rows of findings.toml."""
RARE = 0.05
"""Fraction of answers that may be cut off."""


def data_warnings(
    request: EvaluateRequest,
    digest: str,
    path: Path,
    examples: Sequence[HeldOut],
    sources: Sequence[ModelSource],
) -> Iterator[str]:
    """Yield findings on the rows: too few, not fresh, longer than the limit, marked bad."""
    total, effect = len(examples), request.smallest_effect_fraction
    discordance = facts.number("evaluation.discordance")
    if (shown := detectable_effect(total, discordance)) > effect:
        needed = examples_needed(effect, discordance)
        numbers = {"num": total, "shown": shown, "effect": effect, "needed": needed}
        yield warning("few_held_out_examples", **numbers)
    if any(chose_the_checkpoint(one, path, digest) for one in sources):
        yield warning("checkpoint_selected_here")
    tokens = [len(one.reference) / CHARACTERS_PER_TOKEN for one in examples]
    num = sum(number > request.max_new_tokens for number in tokens)
    if num > RARE * total:
        yield warning(
            "answers_longer_than_limit",
            num=num,
            total=total,
            most=request.max_new_tokens,
            characters=CHARACTERS_PER_TOKEN,
            enough=min(MOST_TOKENS, 2 ** math.ceil(math.log2(max(tokens)))),
        )
    if num_bad := num_marked_bad(path, examples[-1].line):
        yield warning("marked_bad", num=num_bad)


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
    if look > MOST_LOOKS:
        yield warning("fresh_rows_needed", look=look)
    elif look > 1:
        yield warning("looked_at_before", look=look, earlier=look - 1)
    if has_target and origin is None:
        yield warning("origin_unknown")
    elif has_target and origin != "collected":
        yield warning("not_collected", origin=origin)
    for name, num in num_changed.items():
        if not num:
            yield warning("nothing_to_change", change=name)


def model_warnings(
    models: Models,
    loading: LoadPlan | None,
    why_idle: str,
    overlap: Contamination,
    num_examples: int,
) -> Iterator[str]:
    """Yield findings on models that differ, how they are loaded, and what they were trained on."""
    if models.tuned is not None:
        yield from _pair_warnings(models.tuned, models.baseline)
    if overlap.num_near:
        yield warning("near_copies", num=overlap.num_near, total=num_examples)
    if models.by_name and overlap.not_checked:
        yield warning("training_files_missing")
    elif models.by_name and not overlap.checked_against:
        yield warning("training_data_unknown")
    if loading is not None and loading.four_bit:
        yield warning("loaded_in_4_bit")
    if why_idle:
        yield warning("mac_gpu_idle", why=why_idle)


def _pair_warnings(tuned: ModelSource, baseline: ModelSource | None) -> Iterator[str]:
    if quantization_of(tuned) is not None:
        yield warning("trained_on_4_bit")
    if baseline is None:
        yield warning("measured_alone", model=tuned.name)
        return
    if tuned == baseline:
        yield warning("compared_with_itself")
    if len({*map(chat_template, (tuned, baseline)), None}) > 2:
        yield warning("templates_differ")


def context_warnings(models: Models, systems: Sequence[SystemPlan]) -> Iterator[str]:
    """Yield the models whose longest question and answer exceed what their config was made for."""
    for plan in systems:
        source = models.by_name.get(plan.name)
        folder = None if source is None or source.path is None else Path(source.path)
        if folder is None or not folder.is_dir():
            continue
        context = model_folder.config(folder).get("max_position_embeddings")
        needed = plan.longest_input_tokens + plan.max_new_tokens
        if isinstance(context, int) and needed > context:
            yield warning(
                "longer_than_context",
                system=plan.name,
                longest=plan.longest_input_tokens,
                most=plan.max_new_tokens,
                context=context,
            )


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
            yield warning("examples_removed", system=name, num=plan.num_examples_removed)
        if plan.num_reused:
            yield warning("answers_reused", system=name, num=plan.num_reused, run=plan.reused_from)
    for name, check in zip(check_names(request.checks), request.checks, strict=True):
        if isinstance(check, Judge):
            budget = f"max_calls {check.endpoint.max_calls}"
            budget += f", max_usd {check.budget_usd:g}" if check.budget_usd else ""
            yield _texts_sent(name, "the held-out", "with all outputs", check.endpoint, budget)
    if request.lm_eval_tasks:
        yield warning("tasks_not_timed")


def _texts_sent(name: str, num: str, size: str, endpoint: Endpoint, budget: str) -> str:
    row = "texts_sent_here" if endpoint.is_local else "texts_sent"
    return warning(row, system=name, num=num, size=size, host=endpoint.host, budget=budget)
