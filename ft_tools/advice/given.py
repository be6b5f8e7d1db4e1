"""Facts that the caller gives: counts, words, and what a provider's terms say of this use."""

from ft_tools import facts
from ft_tools.advice.facts import Facts
from ft_tools.advice.report import Fact
from ft_tools.advice.request import ApproachRequest
from ft_tools.facts import Fact as Sourced

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

WORDS = {
    "target_met": ("target", {True: "met", False: "missed"}),
    "run_is_broken": ("run", {True: "broken", False: "sound"}),
    "wrong_with_passage": ("passage", {True: "wrong", False: "right"}),
    "has_verifiable_reward": ("check", {True: "yes", False: "no"}),
    "purpose": ("purpose", {}),
    "knowledge_changes": ("knowledge_changes", {}),
    "data_source": ("data_source", {}),
    "weights_access": ("weights_access", {}),
    "checkpoint": ("checkpoint", {}),
    "reasoning": ("reasoning", {}),
}
"""Arguments that are words, what the ladder calls them, and how it spells their values."""


class Terms(Sourced):
    """What a provider's terms say of training on its model's outputs, by use."""

    sold: str
    internal: str
    internal_classifier: str
    note: str


def given_facts(request: ApproachRequest) -> Facts:
    """Return what the request itself says."""
    numbers = {
        name: float(value)
        for argument, name in NUMBERS.items()
        if (value := getattr(request, argument)) is not None
    }
    words = {
        name: spelled.get(value, value)
        for argument, (name, spelled) in WORDS.items()
        if (value := getattr(request, argument)) is not None
    }
    if request.num_classes is not None:
        words["answers"] = "labels"
    if request.has_verifiable_reward:
        words["filtered"] = "yes"
    if request.success_fraction is not None:
        words.setdefault("check", "yes")
    terms, rows = _terms(request)
    return Facts(numbers, words | terms, frozenset(request.tried), rows)


def _terms(request: ApproachRequest) -> tuple[dict[str, str], tuple[Fact, ...]]:
    """Return what the teacher's terms say; what someone read of them wins."""
    if request.teacher is None and request.teacher_terms is None:
        if request.data_source == "stronger_model":
            return {"terms": "unclear"}, ()
        return {}, ()
    if request.teacher is None:
        return {"terms": str(request.teacher_terms)}, ()
    row = Terms.model_validate(facts.table_of("teachers.toml")[request.teacher])
    uses = {row.sold, row.internal, row.internal_classifier}
    use = "internal_classifier" if request.num_classes is not None else "internal"
    known = {
        None: uses.pop() if len(uses) == 1 else "unclear",
        "sold": row.sold,
        "internal": getattr(row, use),
    }
    said = request.teacher_terms or known[request.product_use].replace("unknown", "unclear")
    says = f"{request.teacher}: {said} for this use. {row.note} Not legal advice."
    return {"terms": said}, (Fact(about="terms", says=says, source=row.source),)
