"""Which findings a plan has, and with what numbers."""

import math
from collections.abc import Sequence
from pathlib import Path

from ft_tools import facts
from ft_tools.evaluation.findings import finding
from ft_tools.evaluation.report import Contamination
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

RARE = 0.05
"""Fraction of answers that may be cut off."""


def size_warning(request: EvaluateRequest, num_examples: int) -> str:
    """Return that these may be too few examples; empty if they are enough."""
    effect = request.smallest_effect_fraction
    discordance = facts.number("evaluation.discordance")
    shown = detectable_effect(num_examples, discordance)
    if shown <= effect:
        return ""
    needed = examples_needed(effect, discordance)
    return finding(
        "few_held_out_examples", num=num_examples, shown=shown, effect=effect, needed=needed
    )


def data_warnings(
    request: EvaluateRequest, references: Sequence[str], schema: Path | None
) -> list[str]:
    """Return findings on the references: a schema they violate, a limit they exceed."""
    found, total = [], len(references)
    if schema is not None:
        conforms = Scoring(references, schema=schema).conforms
        if num := sum(not conforms(reference) for reference in references):
            found.append(finding("schema_mismatch", num=num, total=total, name=schema.name))
    tokens = [len(reference) / CHARACTERS_PER_TOKEN for reference in references]
    num = sum(number > request.max_new_tokens for number in tokens)
    if num > RARE * total:
        found.append(
            finding(
                "answers_longer_than_limit",
                num=num,
                total=total,
                most=request.max_new_tokens,
                characters=CHARACTERS_PER_TOKEN,
                enough=min(MOST_TOKENS, 2 ** math.ceil(math.log2(max(tokens)))),
            )
        )
    return found


def model_warnings(
    models: Models,
    loading: LoadPlan | None,
    why_idle: str,
    overlap: Contamination | None,
    num_examples: int,
) -> list[str]:
    """Return findings on models that differ, how they are loaded, and what they were trained on."""
    return [
        *_pair_warnings(models),
        *(_overlap_warnings(models, overlap, num_examples) if overlap is not None else []),
        *([finding("loaded_in_4_bit")] if loading is not None and loading.four_bit else []),
        *([finding("mac_gpu_idle", why=why_idle)] if why_idle else []),
    ]


def _pair_warnings(models: Models) -> list[str]:
    tuned, baseline = models.tuned, models.baseline
    if tuned is None:
        return []
    found = [finding("trained_on_4_bit")] if quantization_of(tuned) is not None else []
    if baseline is None:
        return [finding("measured_alone", model=tuned.name), *found]
    if tuned == baseline:
        return [finding("compared_with_itself"), *found]
    if len({*map(chat_template, (tuned, baseline)), None}) > 2:
        found.append(finding("templates_differ"))
    if len({*map(tokenizer_files, (tuned, baseline)), ""}) > 2:
        found.append(finding("tokenizers_differ"))
    return found


def _overlap_warnings(models: Models, overlap: Contamination, num_examples: int) -> list[str]:
    found = []
    if overlap.num_near:
        found.append(finding("near_copies", num=overlap.num_near, total=num_examples))
    if models.by_name and overlap.not_checked:
        found.append(finding("training_files_missing"))
    elif models.by_name and not overlap.checked_against:
        found.append(finding("training_data_unknown"))
    return found


def system_warnings(request: EvaluateRequest, systems: Sequence[SystemPlan]) -> list[str]:
    """Return findings on texts that leave the machine, answers that are reused, and tasks."""
    found = []
    hosts = {spec.name: spec.endpoint for spec in request.all_systems() if spec.endpoint}
    for plan in systems:
        endpoint = hosts.get(plan.name)
        if endpoint is not None and plan.num_questions:
            budget = ", ".join(f"{name} {value:g}" for name, value in plan.budget.items())
            size = f"about {plan.estimated_input_tokens} input tokens"
            found.append(
                finding(
                    "texts_sent",
                    system=plan.name,
                    num=plan.num_questions,
                    size=size,
                    where=_where(endpoint.host, is_local=endpoint.is_local),
                    budget=budget,
                )
            )
        if plan.num_examples_removed:
            found.append(
                finding("examples_removed", system=plan.name, num=plan.num_examples_removed)
            )
        if plan.num_reused:
            found.append(
                finding(
                    "answers_reused",
                    system=plan.name,
                    num=plan.num_reused,
                    run=plan.reused_from,
                )
            )
    if request.judge is not None and "judge" in request.metrics:
        where = _where(request.judge.host, is_local=request.judge.is_local)
        budget = f"max_calls {request.judge_max_calls}"
        num, size = "the held-out", "with both outputs"
        found.append(
            finding("texts_sent", system="judge", num=num, size=size, where=where, budget=budget)
        )
    if request.lm_eval_tasks:
        found.append(finding("tasks_not_timed"))
        found += [] if request.task_paths else [finding("tasks_downloaded")]
    return found


def _where(host: str, *, is_local: bool) -> str:
    """Return where texts go.

    >>> _where("api.example", is_local=False)
    'which leave this machine: they are sent to api.example'
    """
    if is_local:
        return f"which are sent to {host}, on this machine"
    return f"which leave this machine: they are sent to {host}"
