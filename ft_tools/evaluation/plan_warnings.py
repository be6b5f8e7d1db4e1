"""What a plan warns about, in sentences."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ft_tools import facts
from ft_tools.evaluation import benchmark_time
from ft_tools.evaluation.intervals.sample_size import (
    FEWEST_EXAMPLES,
    detectable_effect,
    examples_needed,
)
from ft_tools.evaluation.metrics.choose_metrics import is_latin
from ft_tools.evaluation.report import Contamination
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.compared_models import (
    LoadPlan,
    Models,
    chat_template,
    tokenizer_files,
    trained_over_quantized,
)
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import MOST_TOKENS
from ft_tools.formats.training_rows import CHARACTERS_PER_TOKEN
from ft_tools.formats.wordings import has_few_wordings
from ft_tools.models.mlx import is_apple_silicon
from ft_tools.models.resolve import ModelSource

LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")
SELDOM = 0.05
"""Share of answers that may be cut off."""


def about_loading(loading: LoadPlan | None, models: Models, idle: str = "") -> list[str]:
    """Warn about 4-bit loading, a GPU that is not used, and what was never run.

    Args:
        loading: Where the models are loaded.
        models: The models.
        idle: Why a Mac's GPU is not used.
    """
    if loading is None:
        unknown = [source.name for source in models.by_name.values() if source.kind != "gguf"]
        return [f"memory is checked after the download of {unknown[0]}"] if unknown else []
    found = []
    if loading.four_bit:
        found.append(
            "16-bit weights do not fit on this machine: all models are measured in 4 bits, as the "
            "adapter was trained; merge_and_quantize ships it over the 16-bit ones"
        )
    if idle:
        found.append(f"runs on the CPU with torch, not on the Mac's GPU with MLX: {idle}")
    if loading.on_mlx:
        found.append(
            "evaluation with MLX was tested on a Linux CPU only, never on a Mac's GPU"
            if is_apple_silicon()
            else "MLX runs on this machine's CPU, which is slow"
        )
    if not loading.on_cpu and not loading.on_mlx:
        found.append(
            "evaluation on a GPU has never been run by this project's own tests; `fine-tuning-llm "
            "doctor --gpu` tests it on yours"
        )
    return found


def about_marks(num_bad: int) -> list[str]:
    """Say how many rows are left out because their answer is marked bad."""
    if not num_bad:
        return []
    return [f"{num_bad} rows are left out: their answer is marked bad and is no reference"]


def about_length(references: Sequence[str], most: int) -> list[str]:
    """Warn where an answer as long as the wanted one would be cut off.

    Args:
        references: The wanted answers.
        most: Tokens that an answer may have.
    """
    tokens = [len(reference) / CHARACTERS_PER_TOKEN for reference in references]
    cut = sum(number > most for number in tokens)
    if cut <= SELDOM * len(tokens):
        return []
    enough = min(MOST_TOKENS, 2 ** math.ceil(math.log2(max(tokens))))
    said = "has room for all" if max(tokens) <= enough else "is the most that is allowed"
    return [
        f"about {cut} of {len(tokens)} wanted answers are longer than max_new_tokens={most}, "
        f"counted as {CHARACTERS_PER_TOKEN} characters a token: answers as long as these are cut "
        f"off; max_new_tokens={enough} {said}"
    ]


def about_wordings(questions: Sequence[str]) -> list[str]:
    """Warn about questions that a few templates were filled for."""
    if not has_few_wordings(questions):
        return []
    return [
        "most held-out questions follow a few templates: scores hold for these wordings, and may "
        "be far too good for questions that people word themselves; add some of those to dataset"
    ]


def about_request(
    request: EvaluateRequest,
    references: Sequence[str],
    metrics: Sequence[str],
    overlap: Contamination | None,
    models: Models,
) -> list[str]:
    """Warn about models that differ, contamination, and texts that leave the machine."""
    found = []
    if models.tuned is not None and models.baseline is not None:
        found += _about_models(models.tuned, models.baseline, alone=request.baseline is None)
    if overlap is not None:
        found += _about_overlap(overlap, len(references))
        if models.by_name:
            found += _about_unchecked(overlap)
    if "rouge" in metrics and not is_latin(references):
        found.append("ROUGE counts words and characters of every script here, not only Latin")
    if "judge" in metrics:
        found.append(
            f"the held-out texts and both outputs {_go_to(str(request.judge_url))}, in at most "
            f"{request.judge_max_calls} calls"
        )
    if request.lm_eval_tasks and not request.task_paths:
        found.append("lm-eval tasks without task_paths are downloaded from the Hub")
    return found


def about_tasks(request: EvaluateRequest) -> list[str]:
    """Name the lm-eval tasks whose time the plan does not know."""
    unknown = benchmark_time.uncounted(request.lm_eval_tasks, request.lm_eval_limit)
    if not unknown:
        return []
    return [
        f"the estimated time leaves out {', '.join(unknown)}: how many documents they have is not "
        "known before they are loaded; lm_eval_limit bounds them"
    ]


def about_systems(systems: Sequence[SystemPlan]) -> list[str]:
    """Warn about texts that leave the machine and answers that are reused."""
    found = []
    for plan in systems:
        if plan.sent_to is not None and plan.num_questions:
            budget = ", ".join(f"{name} {value:g}" for name, value in plan.budget.items())
            found.append(
                f"{plan.name}: {plan.num_questions} texts, about {plan.estimated_input_tokens} "
                f"input tokens, {_go_to(plan.sent_to)} ({budget})"
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


def _go_to(place: str) -> str:
    """Say whether texts leave the machine.

    >>> _go_to("localhost:11434"), _go_to("https://api.example/v1")
    ('are sent to localhost:11434, on this machine', \
'leave this machine: they are sent to https://api.example/v1')
    """
    host = urlsplit(place if "//" in place else f"//{place}").hostname or ""
    if LOOPBACK.fullmatch(host):
        return f"are sent to {place}, on this machine"
    return f"leave this machine: they are sent to {place}"


def about_size(request: EvaluateRequest, num_examples: int) -> str:
    """Say that these may be too few examples; empty if they are enough."""
    effect = request.smallest_effect_fraction
    discordance = facts.number("evaluation.discordance")
    shown = detectable_effect(num_examples, discordance)
    if num_examples < FEWEST_EXAMPLES:
        return (
            f"{num_examples} examples can show no change, however large: the exact test of yes/no "
            f"answers needs {FEWEST_EXAMPLES}, and a change of {effect:g} takes about "
            f"{examples_needed(effect, discordance)}"
        )
    if shown <= effect:
        return ""
    return (
        f"{num_examples} examples may be too few: they show a change of {shown:.2g}, and one of "
        f"{effect:g} takes about {examples_needed(effect, discordance)}; a change that is missed "
        "is reported as underpowered, not as absent"
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
    if overlap.num_sentence_twins:
        found.append(
            f"the longest sentence of {overlap.num_sentence_twins} of {num_examples} held-out "
            "questions, digits and names aside, is in a training question: new wordings may score "
            "lower"
        )
    if overlap.num_same_wording:
        found.append(
            f"{overlap.num_same_wording} of {num_examples} held-out questions have the wording of "
            "a training question with other nouns in it: the score on them measures a memorised "
            "template; prepare_dataset holds out whole wordings"
        )
    return found


def _about_unchecked(overlap: Contamination) -> list[str]:
    if overlap.not_checked:
        return [
            "some training files are missing or outside the workspace: contamination is not "
            "checked against them"
        ]
    if not overlap.checked_against:
        seen = (
            "only with the examples that are shown or learned from here"
            if overlap.learned_from
            else "with no training data"
        )
        return [f"what the models were trained on is unknown; questions are compared {seen}"]
    return []


def about_schema(path: Path, references: Sequence[str]) -> list[str]:
    """Warn about references that the schema would refuse."""
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
            f"the base model of {tuned.name} is unknown, so it is measured alone: `baseline` and "
            "`tuned` are the same model, which is asked once; pass `baseline` for a comparison"
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
