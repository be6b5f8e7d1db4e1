"""Which findings the plan of an evaluation has, and with what numbers."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ft_tools.endpoints.spec import Endpoint
from ft_tools.evaluation.evaluation_plan import EvaluatePlan
from ft_tools.evaluation.findings import warning
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.learned_rows import chose_the_checkpoint
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.models import Models, chat_template, may_think, quantization_of
from ft_tools.evaluation.systems.spec import MOST_TOKENS
from ft_tools.formats.test_sets import MOST_LOOKS
from ft_tools.formats.training_rows import CHARACTERS_PER_TOKEN
from ft_tools.metrics.checks.request import Judge, check_names
from ft_tools.metrics.text import THINKS
from ft_tools.models import model_folder

RARE = 0.05
"""Fraction of answers that may be cut off."""
# GLM 4.5 and SmolLM3 switch a thought off in a turn before the answer, as no row was trained.
IN_THE_QUESTION = re.compile(r"/no_?think")


def plan_warnings(
    request: EvaluateRequest,
    models: Models,
    plan: EvaluatePlan,
    examples: Sequence[HeldOut],
    left_out: Mapping[str, int],
    why_idle: str,
) -> Iterator[str]:
    """Yield the findings of a plan; `why_idle` says why a Mac's GPU is not used."""
    yield from _of_rows(request, plan, examples, left_out)
    yield from _of_claims(request, plan)
    yield from _of_training(models, plan)
    yield from _of_models(models, plan)
    if why_idle:
        yield warning("mac_gpu_idle", why=why_idle)
    yield from _of_systems(request, models, plan)
    if request.lm_eval_tasks:
        yield warning("tasks_not_timed")


def _of_rows(
    request: EvaluateRequest,
    plan: EvaluatePlan,
    examples: Sequence[HeldOut],
    left_out: Mapping[str, int],
) -> Iterator[str]:
    """Yield findings on the rows: too few, longer than the limit, marked bad, not mapped."""
    total, effect = len(examples), request.smallest_effect_fraction
    if (shown := plan.minimum_detectable_effect) > effect:
        needed = plan.examples_for_smallest_effect
        yield warning("few_held_out_examples", num=total, shown=shown, effect=effect, needed=needed)
    tokens = [len(one.written) / CHARACTERS_PER_TOKEN for one in examples]
    num, most = sum(number > request.max_new_tokens for number in tokens), request.max_new_tokens
    if num > RARE * total:
        enough = min(MOST_TOKENS, 2 ** math.ceil(math.log2(max(tokens))))
        found = {"num": num, "total": total, "most": most, "enough": enough}
        yield warning("answers_longer_than_limit", characters=CHARACTERS_PER_TOKEN, **found)
    reasons = dict(left_out)
    if num_bad := reasons.pop("marked_bad", 0):
        yield warning("marked_bad", num=num_bad)
    if reasons:
        listed = ", ".join(f"{num} {reason}" for reason, num in reasons.items())
        yield warning("left_out_by_mapping", num=sum(reasons.values()), reasons=listed)


def _of_claims(request: EvaluateRequest, plan: EvaluatePlan) -> Iterator[str]:
    """Yield what limits a claim: looks at these rows, where they come from, what was changed."""
    if plan.look > MOST_LOOKS:
        yield warning("fresh_rows_needed", look=plan.look)
    elif plan.look > 1:
        yield warning("looked_at_before", look=plan.look)
    if plan.target and request.origin is None:
        yield warning("origin_unknown")
    elif plan.target and request.origin != "collected":
        yield warning("not_collected", origin=request.origin)
    for name, num in plan.stress.items():
        if not num:
            yield warning("nothing_to_change", change=name)


def _of_training(models: Models, plan: EvaluatePlan) -> Iterator[str]:
    """Yield whether the rows were trained on or chosen by, as far as that is known."""
    overlap, path = plan.contamination, Path(plan.dataset)
    if any(chose_the_checkpoint(x, path, plan.dataset_sha256) for x in models.by_name.values()):
        yield warning("checkpoint_selected_here")
    if overlap.num_near:
        yield warning("near_copies", num=overlap.num_near, total=plan.num_examples)
    if models.by_name and overlap.not_checked:
        yield warning("training_files_missing")
    elif models.by_name and not overlap.checked_against:
        yield warning("training_data_unknown")


def _of_models(models: Models, plan: EvaluatePlan) -> Iterator[str]:
    """Yield findings on models that differ, and how they are loaded."""
    tuned = models.tuned
    if tuned is not None:
        if quantization_of(tuned) is not None:
            yield warning("trained_on_4_bit")
        if models.baseline is None:
            yield warning("measured_alone", model=tuned.name)
        elif tuned == models.baseline:
            yield warning("compared_with_itself")
        elif len({*map(chat_template, (tuned, models.baseline)), None}) > 2:
            yield warning("templates_differ")
    if plan.loading is not None and plan.loading.four_bit:
        yield warning("loaded_in_4_bit")
    if plan.rendering == "plain" or may_think(models.by_name.values()):
        return
    for name, source in models.by_name.items():
        template = (tuned and chat_template(tuned)) or chat_template(source) or ""
        has_switch = "enable_thinking" in template and not IN_THE_QUESTION.search(template)
        if THINKS.search(template) and not has_switch and may_think([source]):
            yield warning("thought_not_switched_off", system=name)


def _of_systems(request: EvaluateRequest, models: Models, plan: EvaluatePlan) -> Iterator[str]:
    """Yield findings on long questions, texts that leave the machine, and reused answers."""
    hosts = {spec.name: spec.endpoint for spec in request.all_systems() if spec.endpoint}
    for one in plan.systems:
        name, endpoint, source = one.name, hosts.get(one.name), models.by_name.get(one.name)
        if source is not None and source.path is not None and Path(source.path).is_dir():
            context = model_folder.config(Path(source.path)).get("max_position_embeddings")
            longest, most = one.longest_input_tokens, one.max_new_tokens
            if isinstance(context, int) and longest + most > context:
                numbers = {"longest": longest, "most": most, "context": context}
                yield warning("longer_than_context", system=name, **numbers)
        if endpoint is not None and one.num_questions:
            budget = ", ".join(f"{key} {value:g}" for key, value in one.budget.items())
            size = f"about {one.estimated_input_tokens} input tokens"
            yield _texts_sent(name, str(one.num_questions), size, endpoint, budget)
        if one.num_examples_removed:
            yield warning("examples_removed", system=name, num=one.num_examples_removed)
        if one.num_reused:
            yield warning("answers_reused", system=name, num=one.num_reused, run=one.reused_from)
    for name, check in zip(check_names(request.checks), request.checks, strict=True):
        if isinstance(check, Judge):
            budget = f"max_calls {check.endpoint.max_calls}"
            budget += f", max_usd {check.budget_usd:g}" if check.budget_usd else ""
            yield _texts_sent(name, "the held-out", "with all outputs", check.endpoint, budget)


def _texts_sent(name: str, num: str, size: str, endpoint: Endpoint, budget: str) -> str:
    row = "texts_sent_here" if endpoint.is_local else "texts_sent"
    return warning(row, system=name, num=num, size=size, host=endpoint.host, budget=budget)
