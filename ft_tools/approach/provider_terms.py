"""What the provider of a larger model says about training on its outputs, for the use at hand."""

from ft_tools.approach.conditions import UNKNOWN
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.table import table


def terms_of(request: ApproachRequest) -> str:
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
    return "allowed" if uses == {"allowed"} else UNKNOWN


def is_about_terms(request: ApproachRequest, terms: str) -> bool:
    """Tell whether a teacher is all that is named: its terms are then what is asked about."""
    is_named = request.teacher is not None and terms != "allowed"
    data = (request.num_demonstrations, request.num_preference_pairs, request.num_marks)
    is_said = bool(request.symptoms or request.teacher_terms or request.product_use)
    return is_named and not is_said and set(data) == {None}
