"""What a request says, in the words that the decision table uses."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from ft_tools.approach.request import TRAINING, Approach, ApproachRequest, Count, Symptom
from ft_tools.approach.table import table
from ft_tools.approach.vocabulary import CHOICES, NUMBERS, PROMPTS, UNKNOWN


@dataclass(frozen=True)
class Situation:
    """A request in the table's words: needs, choices and numbers; None is an unknown number."""

    needs: frozenset[str]
    choices: Mapping[str, str]
    numbers: Mapping[str, float | None]
    considers: frozenset[Approach] = frozenset()
    assumes_prompt: bool = False
    """The question is about training, there is data for it, and no prompt is mentioned."""

    def after(self, leaves: Mapping[str, str | float]) -> "Situation":
        """Return the situation once a step was done and the target is still missed."""
        choices = {**self.choices, "target_met": "no"}
        numbers = dict(self.numbers)
        for field, value in leaves.items():
            if isinstance(value, str):
                choices[field] = _further(field, choices[field], value)
            else:
                numbers[field] = max(value, numbers[field] or 0) if value else 0
        return replace(self, choices=choices, numbers=numbers)


def situation(request: ApproachRequest) -> Situation:
    """Put a request into the table's words.

    Derived: the needs, from the symptoms or else from what is asked about; `demonstrations`, which
    counts only what may and should be trained on (none if a model wrote them under terms that
    forbid it, or if the same model family wrote them and nothing checks them);
    `context_tokens_per_day`, the whole corpus in every call; the terms of a teacher, from its name
    and the use; and the prompt, which counts as worked on where the question is about training on
    data that exists and no prompt is mentioned (`assumes_prompt`).
    """
    symptoms = _symptoms(request)
    terms = _terms(request)
    numbers = _numbers(request, terms)
    choices = {
        name: _choice(getattr(request, name))
        for name in CHOICES
        if name in ApproachRequest.model_fields
    }
    needs = _needs(request, symptoms, numbers)
    is_assumed = request.prompting_tried is None and _asks_to_train(request, needs, numbers)
    if is_assumed:
        choices["prompting_tried"] = PROMPTS[-1]
    if request.teacher and request.data_source == UNKNOWN:
        choices["data_source"] = "stronger_model"
    choices |= {
        "named": "yes" if symptoms else "no",
        "teacher_terms": terms,
        "budget": _budget(request),
        "small_model": _small_model(request),
        "retrieval": (found := _retrieval(request)),
        "thinking_at_risk": _choice(
            bool(request.must_keep_thinking) and not request.examples_have_reasoning
        ),
    }
    if found == "finds" and request.wrong_with_passage is None:
        choices["wrong_with_passage"] = "yes"
    return Situation(
        needs,
        choices,
        numbers,
        frozenset(request.considering),
        is_assumed,
    )


def number_of(count: Count | None) -> int | None:
    """Return a count as a number; a rough one is the middle of its range, on a log scale."""
    return int(table().rough[count].value) if isinstance(count, str) else count


def _further(field: str, before: str, after: str) -> str:
    """Keep the better prompt: a step back to instructions does not undo an optimized prompt."""
    if field == "prompting_tried" and before in PROMPTS:
        return max(before, after, key=PROMPTS.index)
    return after


def _symptoms(request: ApproachRequest) -> set[Symptom]:
    """Return the symptoms, or what the question and the data imply where none is named."""
    if request.symptoms or request.target_met is not None:
        return set(request.symptoms)
    implied = {table().implied[approach] for approach in request.considering}
    if not implied and (request.num_preference_pairs or request.num_marks):
        implied.add("preference")
    return {symptom for symptom in implied if symptom}


def _needs(
    request: ApproachRequest, symptoms: set[Symptom], numbers: Mapping[str, float | None]
) -> frozenset[str]:
    """Return the needs. Jargon is missing knowledge where documents explain it, else a manner."""
    found = {name for name, of_it in table().needs.items() if set(of_it) & symptoms}
    if request.num_classes is not None:
        found.add("labels")
    if "jargon" in found:
        explained = request.has_documents or request.corpus_tokens or request.documents
        has_examples = bool(numbers["num_demonstrations"]) or "labels" in found
        is_manner = request.has_documents is False or (has_examples and not explained)
        found.add("manner" if is_manner else "knowledge")
    return frozenset(found)


def _numbers(request: ApproachRequest, terms: str) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {
        name: getattr(request, name) for name in NUMBERS if name in ApproachRequest.model_fields
    }
    forbidden = terms == "forbidden" and request.data_source != "human"
    unchecked = (
        request.data_source == "same_model_family" and request.has_verifiable_reward is not True
    )
    given = number_of(request.num_demonstrations)
    numbers["num_demonstrations"] = given
    numbers["demonstrations"] = 0 if forbidden or unchecked else given
    numbers["preference_pairs"] = 0 if forbidden else number_of(request.num_preference_pairs)
    numbers["num_marks"] = number_of(request.num_marks)
    usable = numbers["demonstrations"]
    numbers["examples_per_class"] = (
        None if usable is None or request.num_classes is None else usable / request.num_classes
    )
    if request.calls_per_day is None and request.batch_calls is not None:
        numbers["calls_per_day"] = request.batch_calls / table().derived["days_of_a_batch"].value
    numbers["context_tokens_per_day"] = _product(request.corpus_tokens, numbers["calls_per_day"])
    return numbers


_PREFERENCES = {"preference_pairs": "preference_pairs", "num_marks": "marks"}
_DATA = _PREFERENCES | {
    "num_demonstrations": "sft_minimum",
    "corpus_tokens": "pretraining_tokens",
    "success_fraction": "some_success",
}
"""What training needs: a number, and the threshold from which there is enough of it."""


def _asks_to_train(
    request: ApproachRequest, needs: AbstractSet[str], numbers: Mapping[str, float | None]
) -> bool:
    """Tell whether the question is about training and there is something to train on.

    Collected preferences are such a question: prompts rarely settle a matter of taste.
    """
    is_asked = bool(TRAINING & set(request.considering))
    data = _DATA if is_asked else _PREFERENCES if "taste" in needs else {}
    lines = table().thresholds
    return any((numbers[name] or 0) >= lines[line].value for name, line in data.items())


def _terms(request: ApproachRequest) -> str:
    """Return what the teacher's terms say of this use; what the request says of them wins."""
    if request.teacher_terms is not None or request.teacher is None:
        return request.teacher_terms or UNKNOWN
    terms = table().teachers[request.teacher]
    if request.product_use == "sold":
        return terms.sold
    is_classifier = request.num_classes is not None or "classification" in request.symptoms
    if request.product_use == "internal":
        return terms.internal_classifier if is_classifier else terms.internal
    uses = {terms.sold, terms.internal, terms.internal_classifier}
    return uses.pop() if len(uses) == 1 else UNKNOWN


def _budget(request: ApproachRequest) -> str:
    if request.budget_usd is None:
        return request.budget or UNKNOWN
    low, medium = (table().derived[line].value for line in ("budget_low", "budget_medium"))
    return (
        "low" if request.budget_usd < low else "medium" if request.budget_usd <= medium else "high"
    )


def _small_model(request: ApproachRequest) -> str:
    small, large = request.small_model_score, request.large_model_score
    if small is None or large is None:
        return UNKNOWN
    return "as_good" if small >= large - table().derived["same_score"].value else "worse"


def _retrieval(request: ApproachRequest) -> str:
    if request.retrieval_recall is not None:
        enough = table().derived["retrieval_recall"].value
        return "finds" if request.retrieval_recall >= enough else "misses"
    return {True: "unmeasured", False: "none", None: UNKNOWN}[request.has_retrieval]


def _choice(value: object) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other
