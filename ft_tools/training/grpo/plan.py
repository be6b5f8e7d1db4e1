"""What launch_grpo would do: the plan that is hashed, confirmed, stored and obeyed."""

import hashlib
import importlib.util
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ft_tools.lora.choices import choose_learning_rate
from ft_tools.lora.data_shape import rounded_length
from ft_tools.metrics.checks.request import Check, Judge, Python, check_names
from ft_tools.metrics.checks.scorer import columns_read, file_hashes, require_columns
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource
from ft_tools.runs import estimates
from ft_tools.training import defaults
from ft_tools.training.estimates import MEASURED, Completions
from ft_tools.training.findings import refusal, warning
from ft_tools.training.grpo import probe
from ft_tools.training.grpo.probe import ProbeResult
from ft_tools.training.grpo.prompts import Prompt, read_prompts
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.grpo.reward_test import RewardTest, require_sound
from ft_tools.training.model_plan import model_plan, source_of
from ft_tools.training.plan import Files, files_of, make_plan
from ft_tools.training.training_plan import TrainingPlan

GENERATIONS, GENERATIONS_EVAL = 8, 4
COMPLETION_TOKENS = 512
"""Longest answer where neither caller nor probe says more."""
ROOM = 1.5
"""Longest answer that is trained, as a multiple of what 99 of 100 answers of the probe needed."""
EVALUATED_TOGETHER = 32
BLOCK = 256
"""Tokens by which vLLM's context is rounded up."""
SAMPLING = (
    "num_generations", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
    "max_completion_length", "generation_kwargs",
)  # fmt: skip
"""Arguments that another probe may follow from."""


class GrpoPlan(TrainingPlan):
    """A reinforcement run."""

    MACHINE: ClassVar[Mapping[str, Any]] = {**TrainingPlan.MACHINE, "probe": True}

    task: Literal["grpo"] = "grpo"
    rewards: list[Check] = Field(description="Checks, each with its name and weight.")
    reward_files: dict[str, str] = Field(description="Files that they read -> SHA-256.")
    reward_test: RewardTest
    probe: ProbeResult | None = Field(
        None, description="Measured of the starting model; null: not measured."
    )
    probe_key: str = Field(description="Of what a probe depends on.")
    stop_rules: bool = True
    prompts_per_step: int = 0


def plan_grpo(request: GrpoRequest) -> GrpoPlan:
    """Resolve everything that a reinforcement run needs."""
    hashes = file_hashes(request.rewards)
    checks = _confirmed(request.rewards, hashes)
    source = source_of(request.model, request.sft_run)
    # A row of an SFT file has its reference there.
    read = {"answer", "completion"} | columns_read(checks)
    files = files_of("grpo", request, read)
    prompts = read_prompts(files[0])
    for file in filter(None, files):
        rows = prompts if file is files[0] else read_prompts(file)
        require_columns(checks, ((one.line, one.row) for one in rows), file.path)
    _require_unseen(prompts, files, request.accept_findings)
    accepted = request.accept_findings
    tested, notes = require_sound(checks, prompts, request.reference_format, accepted)
    sampled = _with_sampling(request, source)
    _require_engine(request, source, sampled.training)
    key = _probe_key(
        sampled, source, files, [hashes, *(one.model_dump(mode="json") for one in checks)]
    )
    found = probe.result_of(key) if request.probe and request.is_here else None
    if found is not None:
        notes += probe.judged(
            found,
            request.accept_findings,
            longest=sampled.training["max_completion_length"],
            first=probe.train_first(request, files[0], prompts),
        )
        sampled = _with_length(sampled, request, found)
    if request.probe and not request.is_here:
        notes.append(warning("not_probed"))
    plan = make_plan(
        GrpoPlan,
        sampled,
        source,
        files,
        _completions(sampled, found),
        rewards=checks,
        reward_files=hashes,
        reward_test=tested,
        probe=found,
        probe_key=key,
        stop_rules=request.stop_rules,
    )
    prompts_per_step = _require_batch(plan.training, plan.dataset.num_examples)
    notes += _judges(plan)
    if plan.training.get("use_vllm"):
        _bound_context(plan, source)
    if (count := plan.place.num_processes) > 1:
        raise refusal("grpo_several_processes", count=count)
    update = {"prompts_per_step": prompts_per_step, "warnings": [*notes, *plan.warnings]}
    return plan.model_copy(update=update)


def _require_unseen(prompts: Sequence[Prompt], files: Files, accepted: Collection[str]) -> None:
    """Refuse held-out prompts that are trained on: their reward would show nothing."""
    if files[1] is None or "train_validation_leak" in accepted:
        return
    trained = {one.row["prompt"]: one.line for one in prompts}
    both = [one for one in read_prompts(files[1]) if one.row["prompt"] in trained]
    if both:
        lines = {"line": both[0].line, "trained": trained[both[0].row["prompt"]]}
        raise refusal("prompts_in_both", count=len(both), **lines)


def _confirmed(checks: Sequence[Check], hashes: Mapping[str, str]) -> list[Check]:
    """Return the checks, each with its name."""
    for one in checks:
        # The test of a reward runs it, before any plan could be confirmed.
        if isinstance(one, Python) and one.sha256 != hashes[one.path]:
            raise refusal("reward_code_unconfirmed", path=one.path, sha256=hashes[one.path])
    names = check_names(checks)
    return [one.model_copy(update={"name": n}) for one, n in zip(checks, names, strict=True)]


def _judges(plan: GrpoPlan) -> list[str]:
    """Return the warning of what judges are sent and may cost."""
    training, validation, steps = plan.training, plan.validation, plan.estimate.steps
    count = steps * math.prod(int(training[name]) for name in defaults.BATCH)
    if validation is not None:
        held_out = validation.num_examples * training["num_generations_eval"]
        count += (plan.num_evaluations + 1) * held_out
    return [
        warning(
            "judge_in_rewards",
            name=one.name,
            url=one.endpoint.url,
            count=count,
            budget=f"{one.budget_usd:g} USD" if one.budget_usd else "no limit (set budget_usd)",
        )
        for one in plan.rewards
        if isinstance(one, Judge)
    ]


def _with_sampling(request: GrpoRequest, source: ModelSource) -> GrpoRequest:
    """Return the request with how completions are sampled, evaluated and trained on."""
    given = request.training
    chosen: dict[str, Any] = {
        "num_generations": GENERATIONS,
        "num_generations_eval": GENERATIONS_EVAL,
        "max_completion_length": COMPLETION_TOKENS,
        "temperature": 1.0,
        "beta": 0.0,
        "learning_rate": choose_learning_rate("grpo", request.method, None).value,
    } | given
    held_out = chosen["num_generations_eval"]
    together = held_out * max(1, EVALUATED_TOGETHER // held_out)
    chosen.setdefault("per_device_eval_batch_size", together)
    if chosen["per_device_eval_batch_size"] % held_out:
        sizes = {"batch": chosen["per_device_eval_batch_size"], "generations": held_out}
        raise refusal("evaluated_groups_split", **sizes)
    changed: dict[str, Any] = {"training": chosen, "engine": "torch"}
    if request.method != "full" and not source.adapter:
        changed["peft"] = {"r": defaults.LORA["r"], **request.peft}
    return request.model_copy(update=changed)


def _with_length(sampled: GrpoRequest, request: GrpoRequest, found: ProbeResult) -> GrpoRequest:
    """Return the request with answers as long as the starting model needs, and some room."""
    if "max_completion_length" in request.training:
        return sampled
    most = sampled.training["max_completion_length"]
    length = rounded_length(int(ROOM * found.longest_usual_tokens), most)
    return sampled.model_copy(
        update={"training": {**sampled.training, "max_completion_length": length}}
    )


def _probe_key(
    request: GrpoRequest, source: ModelSource, files: Files, rewards: Sequence[Any]
) -> str:
    """Return a hash of what a probe depends on: model, prompts, rewards and sampling."""
    model = model_plan(source, request.training.get("chat_template_path"))
    known = model.model_dump(exclude={"name", "num_params", "hidden_size"})
    sampling = {name: request.training[name] for name in SAMPLING if name in request.training}
    text = json.dumps([known, request.method, files[0].sha256, rewards, sampling], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _completions(request: GrpoRequest, found: ProbeResult | None) -> Completions:
    """Return what is known of the completions: measured, or half of what they may have."""
    if found is None:
        return Completions(request.training["max_completion_length"] / 2, None)
    return Completions(found.mean_tokens, estimates.about(found.seconds_per_completion, MEASURED))


def _require_batch(training: Mapping[str, Any], num_prompts: int) -> int:
    """Return the prompts of a step; of fewer than that TRL makes no step at all, and ends well."""
    micro, steps = (int(training[name]) for name in defaults.BATCH)
    group = int(training["num_generations"])
    if micro * steps % group:
        raise refusal("groups_split", batch=micro * steps, generations=group)
    prompts = micro * steps // group
    if num_prompts < prompts:
        raise refusal("too_few_prompts", prompts=num_prompts, wanted=prompts)
    return prompts


def _bound_context(plan: GrpoPlan, source: ModelSource) -> None:
    """Let vLLM reserve keys and values for the longest row, not for the model's whole context.

    It refuses to start with more than that.
    """
    if plan.most_tokens is None:
        return
    rounded, folder = -(-plan.most_tokens // BLOCK) * BLOCK, source.path or source.files
    context = model_folder.max_positions(Path(folder)) if folder else None
    plan.training.setdefault("vllm_max_model_length", min(rounded, context or rounded))


def _require_engine(request: GrpoRequest, source: ModelSource, training: Mapping[str, Any]) -> None:
    """Refuse a Mac's engine, vLLM where it cannot be used, and a reference that is a copy."""
    if request.engine == "mlx":
        raise refusal("mlx_cannot", problem="launch_grpo trains with torch only")
    if training["beta"] and (source.adapter or request.method == "full"):
        start = "the adapter of the earlier run" if source.adapter else "method='full'"
        raise refusal("grpo_reference_copy", beta=training["beta"], start=start)
    if training.get("use_vllm") and request.method != "full":
        raise refusal("vllm_with_adapter", method=request.method)
    if training.get("use_vllm") and importlib.util.find_spec("vllm") is None:
        raise refusal("vllm_missing")
