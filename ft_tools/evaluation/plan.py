"""What an evaluation would do: its examples, metrics, systems and time, and what is refused."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ft_tools import anti_patterns, facts, workspace
from ft_tools.errors import UnknownName, require_installed
from ft_tools.evaluation.estimates import estimate
from ft_tools.evaluation.evaluation_plan import EvaluatePlan
from ft_tools.evaluation.findings import refusal
from ft_tools.evaluation.held_out import HeldOut, read_held_out, scored_rows
from ft_tools.evaluation.learned_rows import find_contamination
from ft_tools.evaluation.report import GENERAL_LOSS, Contamination
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.stress import question_sets
from ft_tools.evaluation.systems.models import (
    MLX,
    Models,
    chat_template,
    choose_rendering,
    chooses_mlx,
    load_plan,
    may_think,
    weight_bytes,
)
from ft_tools.evaluation.systems.plan import plan_system
from ft_tools.evaluation.warnings import plan_warnings
from ft_tools.formats.readers.file_kinds import TABLES
from ft_tools.formats.test_sets import asked_by, earlier_looks
from ft_tools.metrics.checks.request import Judge
from ft_tools.metrics.checks.scorer import Scorer, file_hashes, require_columns
from ft_tools.metrics.choose import choose_metrics
from ft_tools.metrics.general import general_prompts
from ft_tools.metrics.table import asked_for
from ft_tools.metrics.text import tool_calls
from ft_tools.metrics.verdicts import detectable_effect, examples_needed
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import sha256

LEAK = "train_validation_leak"
# How a task or group of lm-evaluation-harness names itself in its YAML file.
TASK_NAME = re.compile(r"^(?:task|group|tag): *[\"']?([\w.-]+)", re.MULTILINE)


def make_plan(request: EvaluateRequest, models: Models) -> EvaluatePlan:
    """Return what would be done; it reads the held-out file and the training files."""
    path, left_out = workspace.existing(request.dataset), Counter[str]()
    if request.mapping is None and path.suffix.lower() in TABLES:
        raise refusal("table_without_mapping", path=request.dataset)
    examples = read_held_out(
        path, request.mapping, request.cluster_field, request.max_examples, left_out
    )
    by_name, sources = models.by_name, list(models.by_name.values())
    metrics = _metrics(request, examples)
    target = _target(request, metrics)
    _require_packages(request, sources)
    _require_tasks(request, sources)
    overlap = find_contamination(examples, path, sources, request.all_systems())
    discordance = facts.number("evaluation.discordance")
    has_general = request.general_ability and models.tuned is not None
    uses_mlx, why_idle = chooses_mlx(request, sources)
    sets = question_sets(examples, request.stress, request.seed)
    check_files = _check_files(request, path, sets)
    digest, rendering = sha256(path), choose_rendering(request.rendering, examples, sources)
    settings: dict[str, object] = {
        "dataset": digest,
        "max_new_tokens": request.max_new_tokens,
        "rendering": rendering,
    }
    if uses_mlx:
        settings["engine"] = MLX
    if not may_think(sources):
        settings["thinks"] = False
    if request.mapping is not None:
        settings["mapping"] = request.mapping.model_dump_json(exclude_defaults=True)
    if models.tuned is not None:
        # Both get prompts in one template.
        settings["template"] = chat_template(models.tuned) or ""
    changed = zip(request.stress, list(sets.values())[1:], strict=True)
    plan = EvaluatePlan(
        systems=[
            plan_system(spec, by_name.get(spec.name), path, sets, settings, reuse=request.reuse)
            for spec in request.all_systems()
            if models.tuned is None or spec.name in by_name
        ],
        target=target,
        alone=len(by_name if models.tuned else request.systems) == 1,
        dataset=str(path),
        dataset_sha256=digest,
        num_examples=len(examples),
        stress={one.name: len(found) for one, found in changed},
        look=1 + earlier_looks(asked_by(one.numbered for one in examples)),
        metrics=metrics,
        check_files=check_files,
        rendering=rendering,
        batch_size=request.batch_size,
        num_general_prompts=len(general_prompts()) if has_general else 0,
        contamination=overlap,
        minimum_detectable_effect=round(detectable_effect(len(examples), discordance), 4),
        examples_for_smallest_effect=examples_needed(request.smallest_effect_fraction, discordance),
        loading=load_plan(sources, request.device, on_mlx=uses_mlx),
        accepted=_accept(request, overlap),
        accept_reason=request.accept_reason,
    )
    sizes = {name: weight_bytes(source) for name, source in by_name.items()}
    found = plan_warnings(request, models, plan, examples, left_out, why_idle)
    return plan.model_copy(
        update={"duration": estimate(request, plan, sizes), "warnings": [*found]}
    )


def _metrics(request: EvaluateRequest, examples: Sequence[HeldOut]) -> dict[str, str]:
    """Return the words of the metrics with the reasons; systems are compared by answers alone."""
    found = {"checks": "declared"} if request.checks else {}
    found |= choose_metrics(request.metrics, [one.reference for one in examples])
    if "tool_call" in found and not any(tool_calls(one.reference) for one in examples):
        raise refusal("no_tool_call")
    rows = [row for name in found for row in asked_for(name)]
    if request.stress and not any(row.score or row.source == "checks" for row in rows):
        raise refusal("stress_without_metric")
    return found


def _check_files(
    request: EvaluateRequest, path: Path, sets: Mapping[str, Sequence[HeldOut]]
) -> dict[str, str]:
    """Return the files of the declared checks; refuse checks that cannot be used on the rows."""
    num_asked = 0
    for examples in sets.values() if request.checks else ():
        lines = [example.line for example in examples]
        require_columns(request.checks, zip(lines, scored_rows(examples), strict=True), path)
        num_asked += len(request.all_systems()) * len(lines)
    for one in request.checks:
        if isinstance(one, Judge) and one.endpoint.max_calls < num_asked:
            raise refusal("judge_calls_too_few", num=num_asked, most=one.endpoint.max_calls)
    with Scorer(request.checks):
        return file_hashes(request.checks)


def _target(request: EvaluateRequest, metrics: Mapping[str, str]) -> dict[str, float]:
    """Return the target under the names that are measured; refuse what has none or is not."""
    measured = {row.name: row for metric in metrics for row in asked_for(metric)}
    names = [name for name, row in measured.items() if row.is_rankable and row.sign]
    possible = ", ".join(names) or "none"
    target = {}
    for given, value in request.target.items():
        asked = (row.name for row in measured.values() if row.asked_as == given)
        name = given if given in measured else next(asked, given)
        # Of labels an exact match is accuracy.
        if name == "exact_match" and name not in measured and "accuracy" in measured:
            name = "accuracy"
        if name not in names:
            row = "target_not_possible" if name in measured else "target_not_measured"
            raise refusal(row, name=given, possible=possible)
        if not 0 <= value <= 1:
            raise refusal("target_out_of_range", name=name, value=value)
        target[name] = value
    return target


def _require_tasks(request: EvaluateRequest, sources: Sequence[ModelSource]) -> None:
    """Refuse tasks that GGUF files cannot do, or that no YAML file of `task_paths` names.

    Without folders the tasks are the harness's own, which takes seconds to list; the run does it.
    """
    if request.lm_eval_tasks and any(source.kind == "gguf" for source in sources):
        raise refusal("tasks_of_gguf")
    folders = [workspace.existing(name) for name in request.task_paths]
    files = [file for folder in folders for file in folder.rglob("*.y*ml")]
    known = {name for f in files for name in TASK_NAME.findall(f.read_text("utf-8", "replace"))}
    for task in request.lm_eval_tasks if folders else ():
        if task not in known:
            raise UnknownName("task of lm-evaluation-harness", task, known, "see task_paths")


def _require_packages(request: EvaluateRequest, sources: Sequence[ModelSource]) -> None:
    needed = ["rouge_score", "scipy"]
    needed += ["torch", "transformers", "peft"] if sources else []
    needed += ["lm_eval"] if request.lm_eval_tasks else []
    for module in needed:
        require_installed("eval", module)
    if any(source.kind == "gguf" for source in sources):
        require_installed("gguf", "llama_cpp")


def _accept(request: EvaluateRequest, overlap: Contamination) -> list[str]:
    """Return the findings that are accepted; refuse rows that were trained on and are not."""
    named, has_leak = set(request.accept_findings), overlap.num_exact > 0
    if unknown := sorted(named - {LEAK, GENERAL_LOSS}):
        raise refusal("accept_unknown", names=unknown, allowed=f"{LEAK}, {GENERAL_LOSS}")
    if has_leak and LEAK not in named:
        lines = ", ".join(map(str, overlap.lines))
        raise anti_patterns.refusal(
            LEAK,
            f"{overlap.num_exact} held-out questions are in the training data (lines {lines})",
            "Remove them from the held-out file, or split again with audit_dataset.",
        )
    return [one for one in (LEAK, GENERAL_LOSS) if one in named and (one != LEAK or has_leak)]
