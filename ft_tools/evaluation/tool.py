"""evaluate: plan a comparison of two models, and start it when the plan is confirmed."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ft_tools import facts, rules, workspace
from ft_tools.contract import NextStep
from ft_tools.errors import BadInput, MissingExtra
from ft_tools.evaluation.contamination import (
    Contamination,
    chose_the_checkpoint,
    find_contamination,
    training_files,
)
from ft_tools.evaluation.held_out import HeldOut, read_held_out
from ft_tools.evaluation.intervals.proportions import detectable_effect, examples_needed
from ft_tools.evaluation.metrics.choose import choose_metrics, is_latin
from ft_tools.evaluation.metrics.general import NEW_TOKENS, general_prompts
from ft_tools.evaluation.reports import TOO_FEW, EvaluatePlan, EvaluateRequest
from ft_tools.evaluation.systems.models import (
    chat_template,
    choose_rendering,
    find_baseline,
    model_plan,
    tokenizer_files,
    trained_over_quantized,
    weight_bytes,
)
from ft_tools.evaluation.systems.presence import require_tasks, require_there
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.publish import sha256
from ft_tools.runs.plan import Launch, plan_hash, require_same
from ft_tools.runs.start import start

LEAK = "train_validation_leak"
CHOSEN = (
    "the run chose its checkpoint by this very file, so the tuned model looks a little better on "
    "it than it is; measure on a third file"
)
# Arguments that a plan shows only where they are not the default.
SHOWN_IF_GIVEN = {
    *("regex", "json_schema", "cluster_field", "smallest_effect_fraction", "lm_eval_limit"),
    *("judge_url", "judge_model", "judge_key_variable", "judge_max_calls", "judge_criterion"),
}
# Measured: SmolLM2-135M (269 MB on disk), computed in float32 on 2 shared cores in batches of 32:
# 5,600 tokens in 52 s. Seconds for one token of one sequence, a byte of 16-bit weights.
SECONDS_PER_TOKEN_BYTE = 3.5e-11
LOAD_SECONDS = 15.0


def evaluate(request: EvaluateRequest) -> Launch:
    """Compare a tuned model with its baseline on held-out examples.

    Without `confirm` the plan comes back: counts, metrics and why, contamination, the smallest
    change that this many examples can show. With it the run starts.

    Raises:
        BadData: A held-out line has no reference, or cannot be read.
        BadInput: A task path is no folder or lacks a task, a model folder has no weights, or a
            chat template is asked for and none is there.
        NotFound: A model is neither on this machine nor on the Hub.
        Refused: Held-out examples were trained on, and this was not accepted.
        PlanChanged: `confirm` belongs to another plan.
        MissingExtra: A package that this evaluation needs is not installed.
    """
    tuned = resolve_model(request.model)
    baseline = find_baseline(tuned, request.baseline)
    plan = make_plan(request, tuned, baseline)
    launch = Launch(
        plan_hash=plan_hash(plan), plan=plan.model_dump(mode="json"), warnings=plan.warnings
    )
    if request.confirm is None:
        arguments = request.model_dump(exclude_defaults=True) | {"confirm": launch.plan_hash}
        step = NextStep(tool="evaluate", arguments=arguments, why="Starts exactly this plan.")
        return launch.model_copy(update={"next_steps": [step]})
    require_same(request.confirm, plan)
    lineage = {"model": request.model, "baseline": baseline.name}
    if tuned.run_id:
        lineage["parent_run"] = tuned.run_id
    if plan.dataset:
        lineage["dataset"] = plan.dataset
    run_id = start(
        "evaluate",
        request,
        plan,
        request_id=request.request_id,
        name=request.name,
        lineage=lineage,
    )
    step = NextStep(tool="get_run", arguments={"run_id": run_id}, why="Shows how far it is.")
    return launch.model_copy(update={"started": True, "run_id": run_id, "next_steps": [step]})


def make_plan(request: EvaluateRequest, tuned: ModelSource, baseline: ModelSource) -> EvaluatePlan:
    """Return what would be done; it reads the held-out file and the training files."""
    unchecked = [line for source in _distinct(tuned, baseline) for line in require_there(source)]
    path = workspace.existing(request.dataset) if request.dataset else None
    examples = _read(request, path)
    references = [example.reference for example in examples]
    metrics = choose_metrics(request.metrics, references) if examples else {}
    _require_packages(request, [tuned, baseline])
    task_paths = [_folder(name) for name in request.task_paths]
    if request.lm_eval_tasks:
        require_tasks(request.lm_eval_tasks, task_paths, [tuned, baseline])
    files, gone = training_files(tuned)
    overlap = find_contamination(examples, files, gone) if examples else None
    accepted = _accept(request, overlap)
    schema = workspace.existing(request.json_schema) if request.json_schema else None
    discordance = facts.number("evaluation.discordance")
    num_prompts = len(general_prompts()) if request.general_ability else 0
    return EvaluatePlan(
        tuned=model_plan(tuned),
        baseline=model_plan(baseline),
        alone=tuned == baseline and request.baseline is None,
        dataset=str(path) if path else None,
        dataset_sha256=sha256(path) if path else None,
        num_examples=len(examples),
        metrics=metrics,
        json_schema_sha256=sha256(schema) if schema else None,
        arguments=request.model_dump(include=SHOWN_IF_GIVEN, exclude_defaults=True),
        rendering=choose_rendering(request.rendering, examples, tuned, baseline),
        max_new_tokens=request.max_new_tokens,
        batch_size=request.batch_size,
        seed=request.seed,
        num_general_prompts=num_prompts,
        lm_eval_tasks=request.lm_eval_tasks,
        task_paths=task_paths,
        contamination=overlap,
        minimum_detectable_effect=(
            round(detectable_effect(len(examples), discordance), 4) if examples else None
        ),
        examples_for_smallest_effect=examples_needed(request.smallest_effect_fraction, discordance),
        estimated_seconds=_seconds(request, [tuned, baseline], len(examples), num_prompts),
        accepted=accepted,
        accept_reason=request.accept_reason,
        warnings=[
            *unchecked,
            *([CHOSEN] if chose_the_checkpoint(tuned, path) else []),
            *(_about_schema(schema, references) if schema else []),
            *_warnings(request, examples, list(metrics), overlap, tuned, baseline),
        ],
    )


def _distinct(tuned: ModelSource, baseline: ModelSource) -> list[ModelSource]:
    """Return the two models, or one where both load the same weights."""
    return list({source.load_from: source for source in (tuned, baseline)}.values())


def _read(request: EvaluateRequest, path: Path | None) -> list[HeldOut]:
    if path is None:
        return []
    return read_held_out(
        path, cluster_field=request.cluster_field, max_examples=request.max_examples
    )


def _folder(name: str) -> str:
    path = workspace.existing(name)
    if not path.is_dir():
        raise BadInput(f"task path {name!r} is not a folder; name the folder with the YAML files")
    return str(path)


def _require_packages(request: EvaluateRequest, sources: Sequence[ModelSource]) -> None:
    kinds = {source.kind for source in sources}
    needed = dict.fromkeys(("torch", "transformers", "peft", "rouge_score"), True)
    needed |= {"llama_cpp": "gguf" in kinds, "lm_eval": bool(request.lm_eval_tasks)}
    for module, is_needed in needed.items():
        if is_needed and importlib.util.find_spec(module) is None:
            raise MissingExtra("gguf" if module == "llama_cpp" else "eval", module)


def _accept(request: EvaluateRequest, overlap: Contamination | None) -> list[str]:
    if overlap is None or not overlap.num_exact:
        return []
    if LEAK not in request.accept_findings:
        lines = ", ".join(map(str, overlap.lines))
        raise rules.refusal(
            LEAK,
            f"{overlap.num_exact} held-out questions are in the training data (lines {lines})",
            "Remove them from the held-out file, or split again with audit_dataset.",
        )
    return [LEAK]


def _seconds(
    request: EvaluateRequest, sources: Sequence[ModelSource], num_examples: int, num_prompts: int
) -> float | None:
    sizes = [weight_bytes(source) for source in sources]
    if any(size is None for size in sizes):
        return None
    tokens = num_examples * request.max_new_tokens + num_prompts * NEW_TOKENS
    cost = sum(size for size in sizes if size) * SECONDS_PER_TOKEN_BYTE
    return round(LOAD_SECONDS * len(sizes) + tokens * cost)


def _warnings(
    request: EvaluateRequest,
    examples: Sequence[HeldOut],
    metrics: Sequence[str],
    overlap: Contamination | None,
    tuned: ModelSource,
    baseline: ModelSource,
) -> list[str]:
    found = _about_models(tuned, baseline, alone=request.baseline is None)
    if overlap is not None:
        found += _about_data(request, examples, overlap)
    if "rouge" in metrics and not is_latin([example.reference for example in examples]):
        found.append("ROUGE counts words and characters of all scripts here, not only Latin ones")
    if "judge" in metrics:
        found.append(
            f"the held-out texts and both outputs are sent to {request.judge_url}, in at most "
            f"{request.judge_max_calls} calls"
        )
    if request.lm_eval_tasks and not request.task_paths:
        found.append("lm-eval tasks without task_paths are fetched from the Hub")
    return found


def _about_data(
    request: EvaluateRequest, examples: Sequence[HeldOut], overlap: Contamination
) -> list[str]:
    found = []
    effect = request.smallest_effect_fraction
    discordance = facts.number("evaluation.discordance")
    needed = examples_needed(effect, discordance)
    if detectable_effect(len(examples), discordance) > effect:
        found.append(
            f"{len(examples)} {TOO_FEW}: a change of {effect:g} takes about "
            f"{needed}; what is not shown then is called underpowered, not absent"
        )
    if overlap.num_near:
        found.append(f"{overlap.num_near} held-out examples are nearly in the training data")
    if overlap.not_checked:
        found.append(
            "training files are gone or outside the workspace: contamination is not "
            "checked against them"
        )
    elif not overlap.checked_against:
        found.append("the training data of this model is not known: contamination is not checked")
    return found


def _about_schema(path: Path, references: Sequence[str]) -> list[str]:
    # Its library takes a tenth of the time to a first answer, and few evaluations have a schema.
    from ft_tools.evaluation.metrics.schema import read_schema

    conforms = read_schema(path)
    wrong = sum(not conforms(reference) for reference in references)
    if not wrong:
        return []
    return [f"{wrong} of {len(references)} references do not conform to {path.name} themselves"]


def _about_models(tuned: ModelSource, baseline: ModelSource, *, alone: bool) -> list[str]:
    found = []
    if tuned == baseline and alone:
        found.append(
            f"{tuned.name} came from no other model that is known: it is measured alone; pass "
            "`baseline` for a comparison"
        )
    if trained_over_quantized(tuned):
        found.append(
            "the adapter was trained over 4-bit weights and is measured over the full ones, as "
            "merge_and_quantize ships it"
        )
    templates = {chat_template(source) for source in (tuned, baseline)}
    if len(templates) > 1 and None not in templates:
        found.append("the chat templates differ: both models get prompts in the tuned one's")
    tokenizers = {tokenizer_files(source) for source in (tuned, baseline)}
    if len(tokenizers) > 1 and "" not in tokenizers:
        found.append("the tokenizers differ: perplexity is compared as bits per byte")
    return found
