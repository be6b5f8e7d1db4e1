"""Which of the facts that were given decided the first step, and which no rule used."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ft_tools.approach.request import ApproachRequest

_NO_FACTS = frozenset(
    {"problem", "response_format", "considering", "evaluations", "documents", "dataset"}
)
"""What is asked, where it is read, and how it is answered."""
_OF_CALLS = frozenset({"model", "gpu"})
"""What fills in calls and prices: not unused where it does not decide."""
_USUAL = {"weights_access": "open_weights"}
"""What the table takes for granted."""


@dataclass(frozen=True)
class Weighed:
    """Facts by name, one value of a list each: `symptoms: cost`."""

    decided_by: Sequence[str]
    """Without it another row would hold, or it alone leads to this row."""
    unused: Sequence[str]
    """Without it the answer reads the same, and it does not decide."""


def weigh(
    request: ApproachRequest,
    row: Callable[[ApproachRequest], str],
    reads: Callable[[ApproachRequest], object],
) -> Weighed:
    """Leave out each fact once, and give each alone.

    Two facts of which either would do both decide.

    Args:
        request: What was asked, with its facts.
        row: Returns the row that decides a request.
        reads: Returns all that a reader sees of its answer.
    """
    decided, whole = row(request), reads(request)
    given = list(_facts(request))
    asked = request.model_copy(update={name: _default(name) for name, _ in given})
    starts = [asked, asked.model_copy(update={"considering": []})]
    starts = [start for start in starts if row(start) != decided]
    decided_by, unused = [], []
    for name, value in given:
        less = request.model_copy(update={name: _rest(request, name, value)})
        alone = {name: [value] if _is_list(request, name) else value}
        leads = any(row(start.model_copy(update=alone)) == decided for start in starts)
        said = f"{name}: {value}" if _is_list(request, name) else name
        if leads or row(less) != decided:
            decided_by.append(said)
        elif name not in _OF_CALLS and reads(less) == whole:
            unused.append(said)
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
