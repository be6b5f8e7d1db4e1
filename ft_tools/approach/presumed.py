"""What a request presumes: data that exist, a prompt that was tried, what a fault is a fault of."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ft_tools.approach.conditions import PROMPTS, UNKNOWN
from ft_tools.approach.request import TRAINING, ApproachRequest, Considered, Observed
from ft_tools.approach.table import table

DEMONSTRATIONS = "num_demonstrations"
STILL_LEARNING: Observed = "still_learning"
PLANNED = "planned"
"""Source of data that nobody has written yet: nothing is presumed to exist."""
_EITHER = {"num_preference_pairs": "num_marks", "num_marks": "num_preference_pairs"}
"""Preferences come as pairs or as marks: where one is there, the other is not presumed."""
FAULTS: Mapping[str, frozenset[Considered]] = {
    "rewards": frozenset({"rl_verifiable_reward", "rlhf"}),
    "preferences": frozenset({"dpo", "kto", "sft_then_dpo", "other_loss"}),
}
"""Kind of training -> the approaches that are it; the first that was run, or is asked about."""
_OF_PREFERENCES = FAULTS["preferences"] | {"rlhf"}
_INSTEAD: frozenset[Considered] = frozenset(
    {
        "constrained_decoding",
        "few_shot",
        "prompt_optimization",
        "rag",
        "tool_lookup",
        "do_nothing",
        "other_model",
        "routing",
        "guard",
        "decoding",
        "tool_design",
    }
)
"""Ways without examples: who asks whether to train or to do one of these does not say there are."""


@dataclass(frozen=True)
class Presumed:
    """Numbers by argument, and which of them the question itself presumes."""

    numbers: Mapping[str, float]
    asked: frozenset[str]


def presumed(request: ApproachRequest) -> Presumed:
    """Return what a question about an approach presumes, and what a named author has written.

    Only for arguments that are not given. Raw text is never presumed: how much there is of it
    decides. Nor are pairs where a prompt was measured and DPO is one of several ways that are asked
    about: that they are compared does not mean that there are pairs. Nor answers that nobody is
    said to have written, where they would have to be recorded, collected or cleaned first.
    """
    if request.data_source == PLANNED:
        return Presumed({}, frozenset())
    asked = {
        table().presumes.get(approach, "")
        for approach in request.considering
        if not (approach in _OF_PREFERENCES and _is_one_of_several(request))
    } - {""}
    if _is_without_examples(request) or not _INSTEAD.isdisjoint(request.considering):
        asked.discard(DEMONSTRATIONS)
    asked = {
        field
        for field in asked
        if getattr(request, field) is None and not _has(request, _EITHER.get(field, ""))
    }
    if _continues(request):
        asked.add(DEMONSTRATIONS)
    named = asked | ({DEMONSTRATIONS} if _has_author(request) else set())
    amount = table().derived["presumed"].value
    return Presumed(dict.fromkeys(named, amount), frozenset(asked))


def _continues(request: ApproachRequest) -> bool:
    """Tell whether SFT is asked of a trained model, or as the stage before missing preferences."""
    has_no_preferences = request.num_preference_pairs in (0, "none")
    is_first_stage = has_no_preferences and not _OF_PREFERENCES.isdisjoint(request.considering)
    is_asked = "sft" in request.considering and request.num_demonstrations is None
    return is_asked and (request.checkpoint == "sft_run" or is_first_stage)


def _is_one_of_several(request: ApproachRequest) -> bool:
    is_measured = request.prompting_tried not in (None, "none")
    is_other_fault = fault_of(request) in ("encoder", "examples")
    return is_other_fault or (is_measured and bool(set(request.considering) - _OF_PREFERENCES))


def _is_without_examples(request: ApproachRequest) -> bool:
    """Tell whether a question about training does not say that there is something to train on.

    It does not where answers are good and only too dear or slow, where examples are asked for,
    where training is for a search, and where only raw logs are named.
    """
    is_wrong = not request.symptoms or _is_wrong(request)
    if request.data_source != UNKNOWN or request.teacher is not None:
        are_raw = request.data_source == "production_logs" and request.teacher is None
        are_labels = request.num_classes is not None or "classification" in request.symptoms
        return is_wrong and are_raw and not are_labels
    is_to_collect = asks_for_examples(request) or "data_amount" in request.considering
    is_search = bool(request.has_retrieval) or request.task == "search"
    return not is_wrong or is_to_collect or is_search


def asks_for_examples(request: ApproachRequest) -> bool:
    """Tell whether answers are to be collected: inputs that are counted may have none yet."""
    is_asked = "collect_data_first" in request.considering
    return is_asked and not request.tried_training


def is_failing(request: ApproachRequest) -> bool:
    """Tell whether the request says that answers are wrong, or miss the target."""
    return _is_wrong(request) or request.target_met is False


def _is_wrong(request: ApproachRequest) -> bool:
    return not set(table().needs["quality"]).isdisjoint(request.symptoms)


def fault_of(request: ApproachRequest) -> str:
    """Return what training that shows a fault learned from: what was run, else what is asked.

    Preferences or rewards that are asked about count beside a supervised run only if they exist.
    """
    if set(table().needs["setup"]).isdisjoint(request.symptoms):
        return "none"
    for kind, runs in FAULTS.items():
        if not runs.isdisjoint(request.tried_training):
            return kind
    has_reward = request.has_verifiable_reward is True
    has_pairs = _has(request, "num_preference_pairs") or _has(request, "num_marks")
    is_supervised = bool(request.tried_training)
    for kind, runs in FAULTS.items():
        there = has_reward if kind == "rewards" else has_pairs
        if not runs.isdisjoint(request.considering) and (there or not is_supervised):
            return kind
    if "small_model_fine_tuning" in request.tried_training:
        return "encoder"
    return "examples" if is_supervised else UNKNOWN


def _has(request: ApproachRequest, field: str) -> bool:
    return bool(field) and getattr(request, field) not in (None, 0, "none")


def _has_author(request: ApproachRequest) -> bool:
    """Tell whether somebody wrote demonstrations that nobody counted."""
    is_named = request.data_source != UNKNOWN or request.teacher is not None
    if _is_without_examples(request):
        return False
    is_of_preferences = _has(request, "num_preference_pairs") or _has(request, "num_marks")
    return is_named and request.num_demonstrations is None and not is_of_preferences


_OF_TRAINING = TRAINING | {
    "full_training",
    "hyperparameters",
    "data_format",
    "several_adapters",
    "merge_models",
    "class_imbalance",
    "retraining",
    "negatives",
    "data_mix",
    "continue_run",
}
"""Who asks about one of these trains already, or is about to."""
_PREFERENCES = {"preference_pairs": "preference_pairs", "num_marks": "marks"}
_CONDUCT = {"num_demonstrations": "sft_minimum"}
_DATA = _PREFERENCES | {
    "num_demonstrations": "sft_minimum",
    "corpus_tokens": "pretraining_tokens",
    "success_fraction": "some_success",
}
"""What training needs: a number, and the threshold from which there is enough of it."""


def assumes_prompt(
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
        # Beside a run that is only to be trained further, the prompt is as it was measured.
        return tried != PROMPTS[-2] or STILL_LEARNING not in request.observed
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
