"""All facts of a request: what it gives, and in its place what was measured."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ft_tools.advice.dataset import dataset_facts, detectable_difference
from ft_tools.advice.documents import document_facts, reading_facts
from ft_tools.advice.evaluations import evaluation_facts
from ft_tools.advice.facts import Facts, one_fact
from ft_tools.advice.request import ApproachRequest
from ft_tools.errors import FineTuningError
from ft_tools.facts.teachers import teachers
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram
from ft_tools.models import model_folder, other_names
from ft_tools.models.resolve import resolve_model

NUMBERS = {
    **{f"num_{name}": name for name in ("examples", "classes", "pairs", "marks", "eval_rows")},
    **{name: name for name in ("corpus_tokens", "prompt_tokens", "calls_per_day")},
    "success_fraction": "success_fraction",
}
"""Arguments that are numbers, and what the ladder calls them."""
MOVING = {"weekly", "daily", "hourly"}
"""As the rule moving_target has them."""
METHODS = ("lora", "qlora")
SEQ_LEN = 1024
"""TRL's default of max_length."""


def gather(request: ApproachRequest) -> Facts:
    """Return the facts of a request.

    Raises:
        NotFound: The dataset, the documents or an evaluation is not there.
        BadInput: A run is no finished evaluation, or the documents hold no text.
        OutsideWorkspace: A path leaves the workspace.
    """
    facts = _facts_of_request(request)
    if request.dataset is not None:
        measured = dataset_facts(request.dataset)
        if request.num_eval_rows:
            # What the caller counts is another test than a part of this dataset.
            others = {k: v for k, v in measured.numbers.items() if k != "detectable_difference"}
            measured = replace(measured, numbers=others)
        facts = facts.replaced_by(measured)
        if "test_rows" in facts.numbers:
            tested = {"eval_rows": facts.numbers["test_rows"]}
            facts = replace(facts, numbers=tested | dict(facts.numbers))
    if request.documents is not None:
        facts = facts.replaced_by(document_facts(request.documents))
    if request.evaluations:
        facts = facts.replaced_by(evaluation_facts(request.evaluations))
    if request.model is not None:
        facts = facts.replaced_by(_model_facts(request.model, request.gpu))
    if request.evaluations or "test_set" in facts.words:
        # There is a test; how little its rows decide is among the facts.
        facts = replace(facts, words={**facts.words, "tested": "yes"})
    return facts.replaced_by(reading_facts(facts, request.price_per_million_tokens))


def _facts_of_request(request: ApproachRequest) -> Facts:
    """Return what the request itself says."""
    numbers = {
        name: float(value)
        for argument, name in NUMBERS.items()
        if (value := getattr(request, argument)) is not None
    }
    words = {
        name: str(value)
        for name in ("purpose", "knowledge_changes", "teacher")
        if (value := getattr(request, name)) is not None
    }
    words["filtered"] = "no" if request.success_fraction is None else "yes"
    if request.target_met is not None:
        words["target"] = "met" if request.target_met else "missed"
    if request.num_classes is not None:
        words["answers"] = "labels"
    facts = Facts(numbers, words, frozenset(request.tried))
    if request.knowledge_changes in MOVING and request.purpose != "facts":
        says = (
            f"facts change {request.knowledge_changes}: training can teach to read records that "
            "each call supplies, not the facts (purpose='facts' blocks it: moving_target)"
        )
        facts = facts.replaced_by(one_fact("conflict", says, "knowledge_changes"))
    if request.teacher not in {None, "cleared", "same_family"}:
        row = teachers()[request.teacher or ""]
        terms = row.of_use(request.product_use, is_classifier=request.num_classes is not None)
        says = f"{request.teacher}: {terms} for this use. {row.note} Not legal advice."
        found = one_fact("terms", says, row.source or "teacher", words={"terms": terms})
        facts = facts.replaced_by(found)
    if request.num_eval_rows:
        effect = detectable_difference(request.num_eval_rows)
        says = f"{request.num_eval_rows} held-out rows detect a difference of {effect:.2f}"
        known = {"detectable_difference": effect}
        facts = facts.replaced_by(one_fact("evaluations", says, "num_eval_rows", numbers=known))
    return facts


def _model_facts(model: str, gpu: str | None) -> Facts:
    """Return what a model is, its licence, and which adapters of it train on a GPU."""
    kind, row = _checkpoint(model), other_names.row(model)
    known = Facts(words={"checkpoint": kind} if kind else {})
    if row:
        known = known.replaced_by(one_fact("model", f"licence: {row.licence}", row.source))
    return known if gpu is None else _fit(model, gpu).replaced_by(known)


def _checkpoint(model: str) -> str:
    """Return sft_run, instruct or base; empty where neither files nor catalog show it."""
    if other_names.instruct_name(model):
        return "base"
    if other_names.row(model) and model.endswith(other_names.INSTRUCT):
        return "instruct"
    with suppress(FineTuningError):
        source = resolve_model(model)
        if source.run_id or source.adapter:
            return "sft_run"
        if source.kind == "folder" and source.path:
            is_tuned = model_folder.chat_template(Path(source.path)) is not None
            return "instruct" if is_tuned else "base"
    return ""


def _fit(model: str, gpu: str) -> Facts:
    """Return the memory that training takes with each kind of adapter."""
    try:
        found = {
            method: estimate_vram(VramRequest(model=model, gpu=gpu, method=method, seq_len=SEQ_LEN))
            for method in METHODS
        }
    except FineTuningError as error:
        return one_fact("model", f"memory is unknown: {error}", "estimate_vram")
    shown = [f"{name} {one.peak_allocated_gib:.1f} ({one.fits})" for name, one in found.items()]
    usable = found["lora"].usable_gib or 0
    says = f"on {gpu} at {SEQ_LEN} tokens: {', '.join(shown)} of {usable:.1f} GiB"
    sizes = {f"{name}_gib": one.peak_allocated_gib for name, one in found.items()}
    return one_fact("model", says, "estimate_vram", numbers=sizes)
