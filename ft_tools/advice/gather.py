"""All facts of a request: what it gives, and in its place what was measured."""

from dataclasses import replace

from ft_tools.advice.dataset import dataset_facts, detectable_difference
from ft_tools.advice.documents import document_facts, reading_facts
from ft_tools.advice.evaluations import evaluation_facts
from ft_tools.advice.facts import Facts
from ft_tools.advice.model import model_facts
from ft_tools.advice.report import Fact
from ft_tools.advice.request import ApproachRequest
from ft_tools.facts.teachers import teachers

NUMBERS = {
    "num_examples": "examples",
    "num_classes": "classes",
    "num_pairs": "pairs",
    "num_marks": "marks",
    "num_eval_rows": "eval_rows",
    "corpus_tokens": "corpus_tokens",
    "prompt_tokens": "prompt_tokens",
    "calls_per_day": "calls_per_day",
    "success_fraction": "success_fraction",
}
"""Arguments that are numbers, and what the ladder calls them."""


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
        facts = facts.replaced_by(model_facts(request.model, request.gpu))
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
    terms, rows = _terms(request)
    if request.num_eval_rows:
        effect = detectable_difference(request.num_eval_rows)
        numbers["detectable_difference"] = effect
        says = f"{request.num_eval_rows} held-out rows detect a difference of {effect:.2f}"
        rows = (*rows, Fact(about="evaluations", says=says, source="num_eval_rows"))
    return Facts(numbers, words | terms, frozenset(request.tried), rows)


def _terms(request: ApproachRequest) -> tuple[dict[str, str], tuple[Fact, ...]]:
    """Return what the teacher's terms say of this use."""
    if request.teacher in {None, "cleared", "same_family"}:
        return {}, ()
    row = teachers()[request.teacher or ""]
    said = row.of_use(request.product_use, is_classifier=request.num_classes is not None)
    says = f"{request.teacher}: {said} for this use. {row.note} Not legal advice."
    return {"terms": said}, (Fact(about="terms", says=says, source=row.source or "teacher"),)
