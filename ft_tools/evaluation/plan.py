"""What an evaluation would do: counts, metrics, contamination, what could be missed."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from ft_tools import facts, rules, workspace
from ft_tools.contract import Report
from ft_tools.errors import BadInput, MissingExtra, UnknownName
from ft_tools.evaluation.contamination import (
    Contamination,
    chose_the_checkpoint,
    find_contamination,
    training_files,
)
from ft_tools.evaluation.held_out import HeldOut, read_held_out
from ft_tools.evaluation.intervals.proportions import detectable_effect, examples_needed
from ft_tools.evaluation.metrics.choose import MEASURES, choose_metrics, is_latin
from ft_tools.evaluation.metrics.general import NEW_TOKENS, general_prompts
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.requirements import NAMES
from ft_tools.evaluation.systems.models import (
    LoadPlan,
    ModelFiles,
    chat_template,
    choose_rendering,
    find_baseline,
    load_plan,
    model_files,
    tokenizer_files,
    trained_over_quantized,
    weight_bytes,
)
from ft_tools.evaluation.systems.plan import SystemPlan, plan_system
from ft_tools.evaluation.systems.presence import require_tasks, require_there
from ft_tools.models.machine import this_machine
from ft_tools.models.resolve import ModelSource, resolve_model
from ft_tools.publish import sha256

LEAK = "train_validation_leak"
CHOSEN = (
    "the run selected its checkpoint on this file, so the tuned model's score on it is slightly "
    "too high; evaluate on a third file"
)
# Measures of a whole set, which no single example has.
WHOLE_SET = {"macro_f1", "log_perplexity", "judge", "judge_equal_length"}
# Arguments that a plan shows only where they are not the default.
SHOWN_IF_GIVEN = {
    *(
        "regex",
        "json_schema",
        "number_tolerance",
        "cluster_field",
        "smallest_effect_fraction",
        "lm_eval_limit",
    ),
    *("judge_url", "judge_model", "judge_key_variable", "judge_max_calls", "judge_criterion"),
}
# Measured: SmolLM2-135M (269 MB on disk), computed in float32 on 2 shared cores in batches of 32:
# 5,600 tokens in 52 s. Seconds for one token of one sequence, a byte of 16-bit weights.
SECONDS_PER_TOKEN_BYTE = 3.5e-11
LOAD_SECONDS = 15.0


class EvaluatePlan(Report):
    """What an evaluation would do."""

    systems: list[SystemPlan] = Field(description="The first is the reference.")
    target: dict[str, float] = Field(default_factory=dict, description="Metric -> needed value.")
    tuned: ModelFiles | None = None
    baseline: ModelFiles | None = None
    device: str = Field("", description="cpu or the GPU's name; empty: no model is loaded here.")
    alone: bool = Field(description="Measured without a baseline.")
    dataset: str | None = Field(description="Path of the held-out file.")
    dataset_sha256: str | None = None
    num_examples: int = Field(description="Held-out examples that are used.")
    metrics: dict[str, str] = Field(description="Metric -> why it was chosen.")
    json_schema_sha256: str | None = None
    arguments: dict[str, object] = Field(
        default_factory=dict, description="Other arguments that are not the default."
    )
    rendering: Literal["chat", "plain"]
    max_new_tokens: int
    batch_size: int
    seed: int
    num_general_prompts: int = Field(description="Questions of the general suite.")
    lm_eval_tasks: list[str] = Field(default_factory=list)
    task_paths: list[str] = Field(default_factory=list)
    contamination: Contamination | None = None
    minimum_detectable_effect: float | None = Field(
        description="Change of a yes/no metric that this many examples detect in 4 of 5 runs, if "
        "the models differ on a fifth of them."
    )
    examples_for_smallest_effect: int = Field(
        description="Examples needed to detect the smallest effect that matters."
    )
    loading: LoadPlan | None = Field(
        None, description="Where models are loaded; null: none is, or no size is known yet."
    )
    estimated_seconds: float | None = Field(
        description="On the device of `loading`, with outputs of full length; null if unknown. "
        "lm-eval tasks are not included."
    )
    accepted: list[str] = Field(default_factory=list, description="Ids of accepted findings.")
    accept_reason: str = Field("", description="Why, in the user's words.")
    size_warning: str = Field("", description="Why these may be too few examples.")
    warnings: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Models:
    """The models of a request: of the short form both, of `systems` those that are models."""

    by_name: dict[str, ModelSource]
    tuned: ModelSource | None = None
    baseline: ModelSource | None = None

    @property
    def distinct(self) -> list[ModelSource]:
        """Return each source of weights once."""
        return list({source.load_from: source for source in self.by_name.values()}.values())


def find_models(request: EvaluateRequest) -> Models:
    """Resolve every model that the request names."""
    if request.model is not None:
        tuned = resolve_model(request.model)
        baseline = find_baseline(tuned, request.baseline)
        return Models({"baseline": baseline, "tuned": tuned}, tuned, baseline)
    return Models({s.name: resolve_model(s.model) for s in request.all_systems() if s.model})


def make_plan(request: EvaluateRequest, models: Models) -> EvaluatePlan:
    """Return what would be done; it reads the held-out file and the training files."""
    unchecked = [line for source in models.distinct for line in require_there(source)]
    path = workspace.existing(request.dataset) if request.dataset else None
    examples = _read(request, path)
    references = [example.reference for example in examples]
    rows = [example.row for example in examples]
    metrics = choose_metrics(request.metrics, references, rows) if examples else {}
    if request.systems:
        # It compares weights; systems are compared by their answers.
        metrics.pop("perplexity", None)
    target = _target(request, metrics)
    sources = list(models.by_name.values())
    _require_packages(request, sources)
    task_paths = [_folder(name) for name in request.task_paths]
    if request.lm_eval_tasks:
        require_tasks(request.lm_eval_tasks, task_paths, sources)
    overlap = _contamination(examples, sources)
    accepted = _accept(request, overlap)
    schema = workspace.existing(request.json_schema) if request.json_schema else None
    discordance = facts.number("evaluation.discordance")
    has_general = request.general_ability and models.tuned is not None
    num_prompts = len(general_prompts()) if has_general else 0
    rendering = choose_rendering(request.rendering, examples, sources)
    systems = _systems(request, models, path, examples, rendering) if path else []
    loading = load_plan(sources, request.device)
    size = len(examples)
    return EvaluatePlan(
        systems=systems,
        target=target,
        tuned=model_files(models.tuned) if models.tuned else None,
        baseline=model_files(models.baseline) if models.baseline else None,
        alone=request.is_alone and models.tuned == models.baseline,
        dataset=str(path) if path else None,
        dataset_sha256=sha256(path) if path else None,
        num_examples=size,
        metrics=metrics,
        json_schema_sha256=sha256(schema) if schema else None,
        arguments=request.model_dump(mode="json", include=SHOWN_IF_GIVEN, exclude_defaults=True),
        rendering=rendering,
        max_new_tokens=request.max_new_tokens,
        batch_size=request.batch_size,
        seed=request.seed,
        num_general_prompts=num_prompts,
        lm_eval_tasks=request.lm_eval_tasks,
        task_paths=task_paths,
        contamination=overlap,
        minimum_detectable_effect=round(detectable_effect(size, discordance), 4) if size else None,
        examples_for_smallest_effect=examples_needed(request.smallest_effect_fraction, discordance),
        loading=loading,
        estimated_seconds=_seconds(models, systems, num_prompts, request.batch_size, loading),
        accepted=accepted,
        accept_reason=request.accept_reason,
        size_warning=_about_size(request, size) if size else "",
        warnings=[
            *unchecked,
            *([CHOSEN] if any(chose_the_checkpoint(source, path) for source in sources) else []),
            *(_about_schema(schema, references) if schema else []),
            *_warnings(request, references, list(metrics), overlap, models),
            *_about_systems(systems),
            *_about_loading(loading, models),
        ],
    )


def _target(request: EvaluateRequest, metrics: Mapping[str, str]) -> dict[str, float]:
    """Return the target under the names that are measured.

    Raises:
        BadInput: It names a metric that no single example has, or that is not measured.
    """
    target = {NAMES.get(name, name): value for name, value in request.target.items()}
    measured = [m for metric in metrics for m in MEASURES[metric] if m not in WHOLE_SET]
    for name in target:
        if name not in measured:
            raise BadInput(
                f"target {name!r} is not measured; measured here: {', '.join(measured)}; add it to "
                "metrics, or set the target for one of these"
            )
    return target


def _contamination(
    examples: Sequence[HeldOut], sources: Sequence[ModelSource]
) -> Contamination | None:
    if not examples:
        return None
    found = [training_files(source) for source in sources if source.run_id]
    files = list(dict.fromkeys(file for there, _ in found for file in there))
    gone = list(dict.fromkeys(name for _, missing in found for name in missing))
    return find_contamination(examples, files, gone)


def _systems(
    request: EvaluateRequest,
    models: Models,
    path: Path,
    examples: Sequence[HeldOut],
    rendering: str,
) -> list[SystemPlan]:
    settings: dict[str, object] = {
        "dataset": sha256(path),
        "lines": [examples[0].line, examples[-1].line, len(examples)],
        "max_new_tokens": request.max_new_tokens,
        "rendering": rendering,
    }
    if models.tuned is not None:
        # Both get prompts in one template.
        settings["template"] = chat_template(models.tuned) or ""
    return [
        plan_system(
            spec, models.by_name.get(spec.name), path, examples, settings, reuse=request.reuse
        )
        for spec in request.all_systems()
    ]


def _read(request: EvaluateRequest, path: Path | None) -> list[HeldOut]:
    if path is None:
        return []
    return read_held_out(
        path, cluster_field=request.cluster_field, max_examples=request.max_examples
    )


def _folder(name: str) -> str:
    path = workspace.existing(name)
    if not path.is_dir():
        raise BadInput(f"task path {name!r} is not a folder; pass the folder with the YAML files")
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
    models: Models,
    systems: Sequence[SystemPlan],
    num_prompts: int,
    batch_size: int,
    loading: LoadPlan | None,
) -> float | None:
    """Estimate the time of the models; endpoints and simple baselines are not counted."""
    sizes = {name: weight_bytes(source) for name, source in models.by_name.items()}
    if any(size is None for size in sizes.values()):
        return None
    tokens = dict.fromkeys(sizes, float(num_prompts * NEW_TOKENS))
    for plan in systems:
        if plan.name in tokens:
            tokens[plan.name] += plan.num_questions * plan.max_new_tokens
    each = {name: seconds_per_token(size or 0, batch_size, loading) for name, size in sizes.items()}
    costs = [each[name] for name in sizes]
    if any(cost is None for cost in costs):
        return None
    total = sum(tokens[name] * (each[name] or 0.0) for name in sizes)
    return round(LOAD_SECONDS * len(sizes) + total)


def seconds_per_token(num_bytes: int, batch_size: int, loading: LoadPlan | None) -> float | None:
    """Return about how long one token of one sequence takes; None where the device's speed is not.

    On a GPU a step reads all weights once for the whole batch, and takes at least what starting
    its kernels takes.
    """
    if loading is None or loading.on_cpu:
        return num_bytes * SECONDS_PER_TOKEN_BYTE
    try:
        flops = facts.gpu(this_machine(loading.device).cards[0].name).bf16_dense_tflops
    except (UnknownName, IndexError):
        return None
    if flops is None:
        return None
    bytes_per_second = flops * 1e12 / facts.number("evaluation.flops_per_byte")
    return max(facts.number("evaluation.step_seconds"), num_bytes / bytes_per_second) / batch_size


def _about_loading(loading: LoadPlan | None, models: Models) -> list[str]:
    if loading is None:
        unknown = [source.name for source in models.by_name.values() if source.kind != "gguf"]
        return [f"memory is checked after the download of {unknown[0]}"] if unknown else []
    found = []
    if loading.four_bit:
        found.append(
            "16-bit weights do not fit on this machine: all models are measured in 4 bits, as the "
            "adapter was trained; merge_and_quantize ships it over the 16-bit ones"
        )
    if not loading.on_cpu:
        found.append(
            "evaluation on a GPU has never been run by this project's own tests; `fine-tuning-llm "
            "doctor --gpu` tests it on yours"
        )
    return found


def _warnings(
    request: EvaluateRequest,
    references: Sequence[str],
    metrics: Sequence[str],
    overlap: Contamination | None,
    models: Models,
) -> list[str]:
    found = []
    if models.tuned is not None and models.baseline is not None:
        found += _about_models(models.tuned, models.baseline, alone=request.baseline is None)
    if overlap is not None and models.by_name:
        found += _about_overlap(overlap, len(references))
    if "rouge" in metrics and not is_latin(references):
        found.append("ROUGE counts words and characters of every script here, not only Latin")
    if "judge" in metrics:
        found.append(
            f"the held-out texts and both outputs leave this machine: they are sent to "
            f"{request.judge_url}, in at most {request.judge_max_calls} calls"
        )
    if request.lm_eval_tasks and not request.task_paths:
        found.append("lm-eval tasks without task_paths are downloaded from the Hub")
    return found


def _about_systems(systems: Sequence[SystemPlan]) -> list[str]:
    found = []
    for plan in systems:
        if plan.sent_to is not None and plan.num_questions:
            budget = ", ".join(f"{name} {value:g}" for name, value in plan.budget.items())
            found.append(
                f"{plan.name}: {plan.num_questions} texts, about {plan.estimated_input_tokens} "
                f"input tokens, leave this machine: they are sent to {plan.sent_to} ({budget})"
            )
        if plan.num_examples_removed:
            found.append(
                f"{plan.name}: {plan.num_examples_removed} rows of examples.path are held-out "
                "questions and are not used"
            )
        if plan.num_reused:
            found.append(
                f"{plan.name}: {plan.num_reused} answers are reused from {plan.reused_from}; pass "
                "reuse=false to measure again"
            )
    return found


def _about_size(request: EvaluateRequest, num_examples: int) -> str:
    effect = request.smallest_effect_fraction
    discordance = facts.number("evaluation.discordance")
    if detectable_effect(num_examples, discordance) <= effect:
        return ""
    return (
        f"{num_examples} examples may be too few: detecting a change of {effect:g} takes about "
        f"{examples_needed(effect, discordance)}; a change that is missed is reported as "
        "underpowered, not as absent"
    )


def _about_overlap(overlap: Contamination, num_examples: int) -> list[str]:
    found = []
    if overlap.num_near:
        found.append(f"{overlap.num_near} held-out examples are near copies of training examples")
    if overlap.num_twins:
        found.append(
            f"{overlap.num_twins} of {num_examples} held-out questions equal a training question "
            "except for digits, names and ids: the score on them measures a memorised template"
        )
    if overlap.not_checked:
        found.append(
            "some training files are missing or outside the workspace: contamination is not "
            "checked against them"
        )
    elif not overlap.checked_against:
        found.append("the training data of this model is unknown: contamination is not checked")
    return found


def _about_schema(path: Path, references: Sequence[str]) -> list[str]:
    # Its library takes a tenth of the time to a first answer, and few evaluations have a schema.
    from ft_tools.evaluation.metrics.schema import read_schema

    conforms = read_schema(path)
    wrong = sum(not conforms(reference) for reference in references)
    if not wrong:
        return []
    return [f"{wrong} of {len(references)} references do not conform to {path.name}"]


def _about_models(tuned: ModelSource, baseline: ModelSource, *, alone: bool) -> list[str]:
    found = []
    if tuned == baseline and alone:
        found.append(
            f"the base model of {tuned.name} is unknown, so it is measured alone; pass `baseline` "
            "for a comparison"
        )
    if trained_over_quantized(tuned):
        found.append(
            "the adapter was trained on 4-bit weights and is evaluated on the full-precision ones, "
            "as merge_and_quantize ships it"
        )
    templates = {chat_template(source) for source in (tuned, baseline)}
    if len(templates) > 1 and None not in templates:
        found.append(
            "the chat templates differ: both models get prompts in the tuned model's template"
        )
    tokenizers = {tokenizer_files(source) for source in (tuned, baseline)}
    if len(tokenizers) > 1 and "" not in tokenizers:
        found.append("the tokenizers differ: perplexity is compared as bits per byte")
    return found
