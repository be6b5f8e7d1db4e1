"""Which of the facts that were given decided the first step, and which no rule used, and why."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.table_rows import Decision

_NO_FACTS = frozenset(
    {"problem", "response_format", "considering", "evaluations", "documents", "dataset"}
)
"""What is asked, where it is read, and how it is answered."""
_OF_CALLS = frozenset({"model", "gpu"})
"""What fills in calls and prices: not unused where it does not decide."""
_USUAL = {"weights_access": "open_weights"}
"""What the table takes for granted."""

_OF_FAILURES = ("symptoms", "observed", "task")
_WEIGHS: Mapping[str, Sequence[str]] = {
    "the rest says it": _OF_FAILURES,
    "decides where it is true": ("target_met",),
    "decides where there is none": ("has_eval_set",),
    "for prompts": ("prompting_tried",),
    "for training": (
        *("num_demonstrations", "data_source", "must_keep_thinking", "examples_have_reasoning"),
        *("budget", "budget_usd"),
    ),
    "for another run": ("tried_training",),
    "for preference training": ("num_preference_pairs", "num_marks"),
    "for preferences, RL and raw text": ("checkpoint",),
    "for RL and unchecked answers": ("has_verifiable_reward", "success_fraction"),
    "for a teacher's terms": ("teacher", "teacher_terms", "product_use"),
    "for missing facts": (
        *("has_documents", "corpus_tokens", "has_retrieval", "retrieval_recall"),
        *("knowledge_changes", "wrong_with_passage"),
    ),
    "for cost or delay": (
        *("prompt_tokens", "calls_per_day", "batch_calls"),
        *("small_model", "small_model_score", "large_model_score"),
    ),
    "for classes": ("num_classes",),
    "for broken syntax": ("schema_enforced",),
    "for data that go to an API": ("personal_data", "weights_access"),
    "for what does not run there": ("runs_on",),
}
"""Where a fact weighs -> the arguments: why one changes nothing elsewhere."""
WHERE = {name: where for where, names in _WEIGHS.items() for name in names}
ALONE = "alone: {}"


@dataclass(frozen=True)
class Weighed:
    """Facts by name, one value of a list each: `symptoms: cost`."""

    decided_by: Sequence[str]
    """Without it another row would hold, or it alone leads to this row."""
    unused: Mapping[str, str]
    """Without it the answer reads the same, and it does not decide; where it would."""


def weigh(
    request: ApproachRequest,
    row: Callable[[ApproachRequest], Decision],
    reads: Callable[[ApproachRequest], object],
) -> Weighed:
    """Leave out each fact once, and give each alone.

    Two facts of which either would do both decide.

    Args:
        request: What was asked, with its facts.
        row: Returns the row that decides a request.
        reads: Returns all that a reader sees of its answer.
    """
    decided, whole = row(request).id, reads(request)
    given = list(_facts(request))
    asked = request.model_copy(update={name: _default(name) for name, _ in given})
    starts = [asked, asked.model_copy(update={"considering": []})]
    usual = row(asked).id
    starts = [start for start in starts if row(start).id != decided]
    decided_by: list[str] = []
    unused: dict[str, str] = {}
    for name, value in given:
        less = request.model_copy(update={name: _rest(request, name, value)})
        alone = {name: [value] if _is_list(request, name) else value}
        leads = any(row(start.model_copy(update=alone)).id == decided for start in starts)
        said = f"{name}: {value}" if _is_list(request, name) else name
        if leads or row(less).id != decided:
            decided_by.append(said)
        elif name not in _OF_CALLS and reads(less) == whole:
            other = row(asked.model_copy(update=alone))
            leads_on = other.id != usual and name in _OF_FAILURES
            unused[said] = ALONE.format(other.approach) if leads_on else WHERE[name]
    return Weighed(decided_by, unused)


def _facts(request: ApproachRequest) -> Iterator[tuple[str, object]]:
    for name in ApproachRequest.model_fields:
        value = getattr(request, name)
        is_fact = name not in _NO_FACTS and value != _USUAL.get(name)
        if is_fact and value != _default(name):
            yield from ((name, one) for one in (value if isinstance(value, list) else [value]))


def _default(name: str) -> object:
    return ApproachRequest.model_fields[name].get_default(call_default_factory=True)


def _is_list(request: ApproachRequest, name: str) -> bool:
    return isinstance(getattr(request, name), list)


def _rest(request: ApproachRequest, name: str, value: object) -> object:
    if not _is_list(request, name):
        return _default(name)
    return [each for each in getattr(request, name) if each != value]
