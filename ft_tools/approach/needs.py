"""What is wrong and what is trained: the needs and the kind that a request states or implies."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from ft_tools.approach.conditions import APPROACHES, Kind
from ft_tools.approach.presumed import FAULTS
from ft_tools.approach.request import TRAINING, ApproachRequest, Considered, Symptom
from ft_tools.approach.table import table


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


def symptoms_of(request: ApproachRequest) -> set[Symptom]:
    """Return the symptoms, or what the question, the classes and the data imply without any.

    What is asked beside an approach adds no manner to what that one is for, and makes no answers
    wrong that it is only to make cheaper.
    """
    if request.symptoms:
        return set(request.symptoms)
    implied = {table().implied[asked] for asked in request.considering}
    proposed = {table().implied[each] for each in request.considering if each in APPROACHES}
    if proposed:
        implied -= {table().implied["sft"]} - proposed
    if proposed.isdisjoint(table().needs["quality"]) and request.target_met is not False:
        implied = proposed or implied
    if table().kinds[_kind_in(request) or request.task or "text"].pretraining:
        # Pretraining of another kind than text is no sign of missing facts.
        implied.discard(table().implied["continued_pretraining"])
    if request.num_classes is not None:
        return (implied - {table().implied["rag"]}) | {"classification"}
    is_searched = request.has_retrieval or request.retrieval_recall is not None
    are_inputs = "small_model_fine_tuning" in request.considering
    if is_searched or (request.has_documents and not are_inputs):
        implied.add("knowledge_gap")
    if request.has_documents is False and not _SENT.isdisjoint(request.considering):
        implied.add("stale_knowledge")
    if not implied and (request.num_preference_pairs or request.num_marks):
        implied.add("preference")
    return implied


def needs_of(
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
    of_task = table().kinds[request.task or "text"]
    found |= set(of_task.needs)
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
    is_of_text = of_task.is_prompted or bool(of_task.needs)
    found -= frozenset() if is_of_text else _OF_TEXT
    return frozenset(found - _OF_CONTEXT if _is_without_context(request) else found)


def _is_without_context(request: ApproachRequest) -> bool:
    """Tell whether nothing that is looked up can be put before the model: it hears or sees only."""
    is_lookup = request.has_retrieval or not _LOOKED_UP.isdisjoint(request.considering)
    kind = _kind_in(request) or request.task or "text"
    return table().kinds[kind].is_without_context and not is_lookup


def kind_of(request: ApproachRequest, needs: AbstractSet[str], fault: str) -> Kind:
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
    if "labels" in needs and (are_labels or fault == "encoder"):
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
_REWARDED = FAULTS["rewards"]
_TAUGHT: frozenset[Considered] = TRAINING - _REWARDED
"""Training that learns from answers, not from a reward."""
_OF_TEXT = frozenset({"labels", "spans", "retrievable"})
"""Needs on which the advice is wrong for images, speech, search and the like."""
_OF_CONTEXT = frozenset({"facts", "knowledge", "gap"})
"""Needs that passages in a prompt would meet."""
_AS_SEEN = ("quality", "invention")
"""Needs that a symptom states whatever causes it."""


_SENT: frozenset[Considered] = frozenset({"long_context", "tool_lookup"})
"""Who asks about one of these beside records, and no text, speaks of facts that change."""


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
