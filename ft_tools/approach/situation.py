"""What a request says, in the words of the decision table, and how much of it is presumed."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import cast

from ft_tools.approach.conditions import ARGUMENTS, LISTS, NUMBERS, PROMPTS, UNKNOWN, Kind
from ft_tools.approach.presumed import (
    DEMONSTRATIONS,
    PLANNED,
    Presumed,
    asks_for_examples,
    fault_of,
    is_failing,
    presumed,
)
from ft_tools.approach.provider_terms import is_about_terms, terms_of
from ft_tools.approach.request import (
    TRAINING,
    Approach,
    ApproachRequest,
    Considered,
    Count,
    Share,
    Symptom,
)
from ft_tools.approach.table import table

_OF_TRAINING = TRAINING | {
    "full_training",
    "hyperparameters",
    "data_format",
    "several_adapters",
    "merge_models",
    "class_imbalance",
    "retraining",
    "negatives",
}
"""Who asks about one of these trains already, or is about to."""


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
    symptoms = _symptoms(request)
    terms = terms_of(request)
    taken = presumed(request)
    numbers = _numbers(request, terms, taken.numbers)
    choices = {name: _choice(getattr(request, name)) for name in ARGUMENTS}
    needs = _needs(request, symptoms, numbers)
    is_assumed = _assumes_prompt(request, needs, numbers, taken)
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
        "kind": _kind(request, needs, fault),
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
        frozenset[Approach](request.tried_training),
        is_assumed,
        {name: frozenset(getattr(request, name)) for name in LISTS},
        taken.numbers,
    )


def with_implied(request: ApproachRequest) -> ApproachRequest:
    """Add the symptoms that what was observed implies.

    After training they are a fault of the run, if none is named; without training, of how the
    model is asked, if nothing else is named. What is normal in the training that was run, or else
    is asked about, implies nothing.
    """
    runs = frozenset(request.tried_training or request.considering)
    is_trained = bool(request.tried_training) or request.checkpoint == "sft_run"
    seen = (table().observed[each] for each in request.observed)
    rows = [row for row in seen if runs.isdisjoint(row.not_of)]
    implied = {row.trained if is_trained else row.untrained for row in rows} - {""}
    specific = implied - _WIDE
    is_named = (
        not set(table().needs["setup"]).isdisjoint(request.symptoms)
        if is_trained
        else bool(request.symptoms)
    )
    more = specific if is_named else implied
    return request.model_copy(
        update={"symptoms": [*request.symptoms, *sorted(more - set(request.symptoms))]}
    )


_WIDE = frozenset({"training_fault", "instruction_following"})
"""Symptoms that say less than any other."""


def number_of(count: Count | None) -> int | None:
    """Return a count as a number; a rough one is the middle of its range, on a log scale."""
    return int(table().rough[count].value) if isinstance(count, str) else count


def share_of(share: float | Share | None) -> float | None:
    """Return a fraction as a number."""
    return table().shares[share].value if isinstance(share, str) else share


def _further(name: str, before: str, after: str) -> str:
    """Keep the better prompt: a step back to instructions does not undo an optimized prompt."""
    if name == "prompting_tried" and before in PROMPTS:
        return max(before, after, key=PROMPTS.index)
    return after


def _symptoms(request: ApproachRequest) -> set[Symptom]:
    """Return the symptoms, or what the question, the classes and the data imply without any."""
    if request.symptoms:
        return set(request.symptoms)
    implied = {table().implied[approach] for approach in request.considering}
    if table().kinds[_kind_in(request) or request.task or "text"].pretraining:
        # Pretraining of another kind than text is no sign of missing facts.
        implied.discard(table().implied["continued_pretraining"])
    if request.num_classes is not None:
        return (implied - {table().implied["rag"]}) | {"classification"}
    is_searched = request.has_retrieval or request.retrieval_recall is not None
    are_inputs = "small_model_fine_tuning" in request.considering
    if is_searched or (request.has_documents and not are_inputs):
        implied.add("knowledge_gap")
    if not implied and (request.num_preference_pairs or request.num_marks):
        implied.add("preference")
    return implied


def _needs(
    request: ApproachRequest, symptoms: set[Symptom], numbers: Mapping[str, float | None]
) -> frozenset[str]:
    """Return the needs. Jargon is missing knowledge where documents explain it, else a manner.

    What is asked about says what the task is, too: reinforcement learning is for steps that can be
    checked, preference training for taste, a small model for labels where nothing else is wrong.
    """
    causes = _causes(request, symptoms)
    found = {
        name
        for name, of_it in table().needs.items()
        if not (symptoms if name in _AS_SEEN else causes).isdisjoint(of_it)
    }
    is_for_labels = "small_model_fine_tuning" in request.considering and not request.has_retrieval
    found |= _OF_TASK.get(request.task, frozenset())
    if request.num_classes is not None or ("jargon" in found and is_for_labels):
        found.add("labels")
    if "jargon" in found:
        explained = (
            request.has_documents
            or request.has_retrieval
            or request.corpus_tokens
            or request.documents
        )
        has_examples = bool(numbers["num_demonstrations"]) or "labels" in found
        is_manner = request.has_documents is False or (has_examples and not explained)
        is_manner = is_manner or is_for_labels
        found.add("manner" if is_manner else "knowledge")
    is_good = "quality" not in found
    for approach in request.considering:
        asked = table().asks_for.get(approach)
        if asked is not None and (is_good or asked.also_if_wrong):
            found |= set(asked.needs)
    if request.task == "code" and request.num_classes is None:
        found -= {"labels"}
    return frozenset(found - _OF_TEXT if request.task in ELSEWHERE else found)


def _kind(request: ApproachRequest, needs: AbstractSet[str], fault: str) -> Kind:
    """Return what is trained, by the model's name, the reward, the task or the needs."""
    are_labels = request.num_classes is not None or "classification" in request.symptoms
    is_open = request.task in _LOOSE and (not are_labels if request.task else "labels" not in needs)
    if is_open and (named := _kind_in(request)):
        return named
    trained = {*request.considering, *request.tried_training}
    if fault == "rewards" or (fault == "none" and trained & _REWARDED and not trained & _TAUGHT):
        is_checked = "rl_verifiable_reward" in trained or request.has_verifiable_reward
        return "rl" if is_checked else "reward_model"
    if request.task is not None:
        return request.task
    if "labels" in needs:
        return "label"
    if fault == "encoder":
        return "search" if request.has_retrieval else "label"
    return "extract" if "spans" in needs else "text"


def _kind_in(request: ApproachRequest) -> Kind | None:
    """Return the kind that the model's name says, where the task says less."""
    if not request.model or request.task not in _LOOSE:
        return None
    name = request.model.rstrip("/").rsplit("/", 1)[-1].lower()
    for kind, facts in table().kinds.items():
        if any(re.search(rf"(?<![a-z]){re.escape(part)}", name) for part in facts.models):
            return kind
    return None


_LOOSE = frozenset({None, "extract", "image", "other"})
"""Tasks of which the model's name says more."""
_REWARDED: frozenset[Considered] = frozenset({"rl_verifiable_reward", "rlhf"})
_TAUGHT: frozenset[Considered] = TRAINING - _REWARDED
"""Training that learns from answers, not from a reward."""

ELSEWHERE = frozenset({"search", "translate", "image", "speech", "voice", "other"})
"""Tasks for which advice on labels and spans of texts is wrong."""
_OF_TEXT = frozenset({"labels", "spans", "retrievable"})
_OF_TASK: Mapping[str | None, frozenset[str]] = {
    "label": frozenset({"labels"}),
    "extract": frozenset({"spans"}),
    "table": frozenset({"labels"}),
}


_AS_SEEN = ("quality", "invention")
"""Needs that a symptom states whatever causes it."""


def _causes(request: ApproachRequest, symptoms: set[Symptom]) -> set[Symptom]:
    """Leave out invented content that no missing fact causes.

    The text is given, the ability was lost, or nothing is said that could be looked up.
    """
    is_other = not symptoms.isdisjoint({"extraction", "forgetting", *table().needs["setup"]})
    is_lookup = (
        request.has_documents is not None
        or request.has_retrieval is not None
        or bool(request.corpus_tokens or request.documents or request.knowledge_changes)
        or not _LOOKED_UP.isdisjoint(request.considering)
    )
    return symptoms if is_lookup and not is_other else symptoms - {"hallucination"}


_LOOKED_UP: frozenset[Considered] = frozenset({"rag", "long_context", "tool_lookup", "sft_and_rag"})
"""Who asks about one of these says that the facts are written somewhere."""


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


_PLANS = ("num_demonstrations", "num_preference_pairs", "num_marks")
"""What does not exist where it is only planned."""
COUNTS = ("num_demonstrations", "num_preference_pairs", "num_marks", "calls_per_day")
"""Arguments that take a rough count and are numbers of the table."""

_PREFERENCES = {"preference_pairs": "preference_pairs", "num_marks": "marks"}
_CONDUCT = {"num_demonstrations": "sft_minimum"}
_DATA = _PREFERENCES | {
    "num_demonstrations": "sft_minimum",
    "corpus_tokens": "pretraining_tokens",
    "success_fraction": "some_success",
}
"""What training needs: a number, and the threshold from which there is enough of it."""


def _assumes_prompt(
    request: ApproachRequest,
    needs: AbstractSet[str],
    numbers: Mapping[str, float | None],
    taken: Presumed,
) -> bool:
    """Tell whether the question is about training and there is something to train on.

    Collected preferences and examples of safe conduct are such a question, too: prompts rarely
    settle a matter of taste, and can be talked around. No prompt may be mentioned, except where
    training on preferences is asked about. Where answers are wrong, demonstrations that have an
    author and no number are not enough.
    """
    tried = request.prompting_tried
    lines = table().thresholds

    def enough(data: Mapping[str, str]) -> bool:
        return any((numbers[name] or 0) >= lines[line].value for name, line in data.items())

    is_asked = not _OF_TRAINING.isdisjoint(request.considering)
    if "taste" in needs and enough(_PREFERENCES) and (is_asked or tried is None):
        return tried not in ("none", PROMPTS[-1])
    is_trained = request.tried_training or "forgetting" in request.symptoms
    if is_trained and tried not in ("none", PROMPTS[-1]):
        return True
    if tried is not None:
        return False
    if "rl_verifiable_reward" in request.considering and request.has_verifiable_reward:
        return True
    data = dict(_DATA if is_asked else {})
    if "rl_verifiable_reward" not in request.considering:
        data.pop("success_fraction", None)
    if asks_for_examples(request):
        data.pop(DEMONSTRATIONS, None)
    data |= _CONDUCT if "conduct" in needs else {}
    if "quality" in needs:
        for name in taken.numbers.keys() - taken.asked:
            data.pop(name, None)
    return enough(data)


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
