"""What simple baselines learn from: the classes in the reference answers."""

from collections import Counter
from collections.abc import Sequence

from ft_tools.errors import BadInput
from ft_tools.evaluation.metrics.measures import label
from ft_tools.evaluation.systems.classifier import MAX_CLASSES, columns_of, has_classes


def majority_answer(references: Sequence[str]) -> str:
    """Return the most frequent answer.

    >>> majority_answer(["Yes", "no", "yes."])
    'Yes'
    """
    first: dict[str, str] = {}
    for reference in references:
        first.setdefault(label(reference), reference)
    return first[Counter(label(reference) for reference in references).most_common(1)[0][0]]


def require_classes(references: Sequence[str], path: str) -> None:
    """Refuse answers that are free text: there is nothing to classify.

    Raises:
        BadInput: No part of the answers has few enough different values.
    """
    columns = columns_of(references).values()
    if not any(map(has_classes, columns)):
        counts = ", ".join(str(len(set(values))) for values in columns)
        raise BadInput(
            f"tf_idf predicts classes, and the {len(references)} answers of {path!r} have {counts} "
            f"different values (2 to {MAX_CLASSES} are needed); use baseline nearest_example"
        )
