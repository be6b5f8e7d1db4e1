"""What a request says, in the words of the decision table, and how much of it is presumed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from ft_tools.approach.conditions import ARGUMENTS, LISTS, NUMBERS, PROMPTS, UNKNOWN, Kind
from ft_tools.approach.needs import kind_of, needs_of, symptoms_of, with_implied
from ft_tools.approach.presumed import (
    DEMONSTRATIONS,
    PLANNED,
    STILL_LEARNING,
    asks_for_examples,
    assumes_prompt,
    fault_of,
    is_failing,
    presumed,
)
from ft_tools.approach.provider_terms import is_about_terms, terms_of
from ft_tools.approach.request import (
    Approach,
    ApproachRequest,
    Considered,
    Count,
    Share,
)
from ft_tools.approach.table import table


@dataclass(frozen=True)
class Situation:
    """A request in the table's words: needs, choices and numbers; None is an unknown number."""

    needs: frozenset[str]
    choices: Mapping[str, str]
    numbers: Mapping[str, float | None]
    considers: frozenset[Considered] = frozenset()
    tried: frozenset[Approach] = frozenset()
    """Training that was done and missed; other data make it worth another try."""
    assumes_prompt: bool = False
    """The question is about training, there is data for it, and no prompt is mentioned."""
    lists: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Arguments that are lists of words, as they are."""
    presumed: Mapping[str, float] = field(default_factory=dict)
    """Arguments that were not given, and the number that is taken for them."""

    @property
    def kind(self) -> Kind:
        """Return what is trained."""
        return cast("Kind", self.choices["kind"])

    @property
    def needs_permission(self) -> bool:
        """Tell whether data about people, or that may not leave, would go to an API."""
        is_bound = self.choices["personal_data"] == "yes" or "privacy" in self.needs
        return is_bound and self.choices["weights_access"] == "api_only"

    def after(self, leaves: Mapping[str, str | float]) -> "Situation":
        """Return the situation once a step was done and the target is still missed."""
        tried = frozenset[Approach]() if DEMONSTRATIONS in leaves else self.tried
        choices = {**self.choices, "target_met": "no"}
        numbers = dict(self.numbers)
        for name, value in leaves.items():
            if isinstance(value, str):
                choices[name] = _further(name, choices[name], value)
            else:
                numbers[name] = max(value, numbers[name] or 0) if value else 0
        return replace(self, choices=choices, numbers=numbers, tried=tried)


def situation(request: ApproachRequest) -> Situation:
    """Put a request into the table's words.

    Derived: the needs, from the symptoms and the classes, or else from what is asked about; numbers
    of what is named without one (`presumed`); `demonstrations`, which counts only what may and
    should be trained on (none if a model wrote them under terms that forbid it, or if the same
    model family wrote them and nothing checks them); `context_tokens_per_day`, the whole corpus in
    every call; the terms of a teacher, from its name and the use; and the prompt, which counts as
    worked on where the question is about training on data that exists and no prompt is mentioned
    (`assumes_prompt`).
    """
    request = with_implied(request)
    symptoms = symptoms_of(request)
    terms = terms_of(request)
    taken = presumed(request)
    numbers = _numbers(request, terms, taken.numbers)
    choices = {name: _choice(getattr(request, name)) for name in ARGUMENTS}
    needs = needs_of(request, symptoms, numbers)
    is_assumed = assumes_prompt(request, needs, numbers, taken)
    if is_assumed:
        choices["prompting_tried"] = PROMPTS[-1]
    if request.teacher and request.data_source in (UNKNOWN, PLANNED, "production_logs"):
        choices["data_source"] = "stronger_model"
    if choices["data_source"] == PLANNED:
        choices["data_source"] = UNKNOWN
    choices |= {
        "named": "yes" if symptoms else "no",
        "stated": _choice(bool(request.symptoms)),
        "prompt_assumed": _choice(is_assumed),
        "teacher_terms": terms,
        "terms_open": _choice(is_about_terms(request, terms)),
        "failing": _choice(is_failing(request)),
        "fault_of": (fault := fault_of(request)),
        "kind": kind_of(request, needs, fault),
        "budget": _budget(request),
        "small_model": _small_model(request),
        "retrieval": (found := _retrieval(request)),
        "checkpoint": request.checkpoint or _checkpoint_in(request.model or ""),
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
        _missed(request),
        is_assumed,
        {name: frozenset(getattr(request, name)) for name in LISTS},
        taken.numbers,
    )


def number_of(count: Count | None) -> int | None:
    """Return a count as a number; a rough one is the middle of its range, on a log scale."""
    return int(table().rough[count].value) if isinstance(count, str) else count


def share_of(share: float | Share | None) -> float | None:
    """Return a fraction as a number."""
    return table().shares[share].value if isinstance(share, str) else share


def _missed(request: ApproachRequest) -> frozenset[Approach]:
    """Return the training that was done and missed: not what ended while it was still learning."""
    tried = frozenset[Approach](request.tried_training)
    return tried - _TAUGHT_LONGER if STILL_LEARNING in request.observed else tried


_TAUGHT_LONGER: frozenset[Approach] = frozenset({"sft", "small_model_fine_tuning", "distillation"})
"""Training that a launch continues from its result."""


def _further(name: str, before: str, after: str) -> str:
    """Keep the better prompt: a step back to instructions does not undo an optimized prompt."""
    if name == "prompting_tried" and before in PROMPTS:
        return max(before, after, key=PROMPTS.index)
    return after


def _numbers(
    request: ApproachRequest, terms: str, taken: Mapping[str, float]
) -> dict[str, float | None]:
    given = {
        name: getattr(request, name) for name in NUMBERS if name in ApproachRequest.model_fields
    }
    numbers: dict[str, float | None] = given | {
        name: number_of(getattr(request, name)) for name in COUNTS
    }
    if request.data_source == PLANNED:
        numbers |= {name: 0 for name in _PLANS if numbers[name] is None}
    numbers["success_fraction"] = share_of(request.success_fraction)
    numbers |= taken
    forbidden = terms == "forbidden" and request.data_source != "human"
    unchecked = (
        request.data_source == "same_model_family" and request.has_verifiable_reward is not True
    )
    if forbidden:
        numbers |= dict.fromkeys(taken.keys() - {DEMONSTRATIONS}, 0)
    numbers["demonstrations"] = 0 if forbidden or unchecked else numbers["num_demonstrations"]
    if asks_for_examples(request):
        numbers["demonstrations"] = None
    pairs = numbers.pop("num_preference_pairs")
    numbers["preference_pairs"] = 0 if forbidden else pairs
    numbers["num_marks"] = 0 if forbidden else numbers["num_marks"]
    usable = numbers["demonstrations"]
    numbers["examples_per_class"] = (
        None if usable is None or request.num_classes is None else usable / request.num_classes
    )
    batch = number_of(request.batch_calls)
    if request.calls_per_day is None and batch is not None:
        numbers["calls_per_day"] = batch / table().derived["days_of_a_batch"].value
    numbers["context_tokens_per_day"] = _product(request.corpus_tokens, numbers["calls_per_day"])
    return numbers


_PLANS = (DEMONSTRATIONS, "num_preference_pairs", "num_marks")
"""What does not exist where it is only planned."""
COUNTS = (*_PLANS, "calls_per_day")
"""Arguments that take a rough count and are numbers of the table."""


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
        return request.small_model or UNKNOWN
    return "as_good" if small >= large - table().derived["same_score"].value else "worse"


_INSTRUCT = re.compile(r"(?<![a-z0-9])(chat|instruct)(?![a-z0-9])")
_GEMMA_INSTRUCT = re.compile(r"-it(?![a-z0-9])")
"""What names of chat models hold. Of other families than Gemma, `it` is Italian."""


def _checkpoint_in(model: str) -> str:
    """Return the checkpoint that a model's name says: chat and instruct models say it."""
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    says = _INSTRUCT.search(name) or ("gemma" in name and _GEMMA_INSTRUCT.search(name))
    return "instruct" if says else UNKNOWN


def _retrieval(request: ApproachRequest) -> str:
    recall = share_of(request.retrieval_recall)
    if recall is not None:
        return "finds" if recall >= table().derived["retrieval_recall"].value else "misses"
    return {True: "unmeasured", False: "none", None: UNKNOWN}[request.has_retrieval]


def _choice(value: object) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other
