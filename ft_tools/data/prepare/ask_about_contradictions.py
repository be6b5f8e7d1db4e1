"""Ask which answer stays where many rows have different answers; no file is written before."""

from ft_tools.data.judge.next_steps import rule_for
from ft_tools.data.judge.verdict import MAX_CONFLICTING_FRACTION
from ft_tools.data.prepare.decided import Decided
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.request import Contradictions
from ft_tools.errors import BadInput


def rule_to_offer(request: PrepareRequest, decided: Decided) -> tuple[Contradictions, str] | None:
    """Return the rule to offer and why; None where nothing has to be decided."""
    share = decided.num_conflicting / max(1, decided.num_kept)
    if request.contradictions is not None or share <= MAX_CONFLICTING_FRACTION:
        return None
    return rule_for(decided.num_with_majority)


def question_of(request: PrepareRequest, decided: Decided) -> list[str]:
    """Ask which answers stay, where many contradict each other."""
    offer = rule_to_offer(request, decided)
    if offer is None:
        return []
    return [
        f"{decided.num_conflicting} of {decided.num_kept} rows have a prompt with different "
        f"answers: set contradictions to {offer[0]!r} ({offer[1]}), or to 'keep'"
    ]


def require_agreement(request: PrepareRequest, decided: Decided) -> None:
    """Refuse to write files while it is open which answers stay.

    Raises:
        BadInput: With what to set.
    """
    if question := question_of(request, decided):
        raise BadInput(f"decide first: {question[0]}")
