"""Find examples that say the same: copies, leaks, repeated prompts.

Greedy in file order: an example goes if it says what one says that stays, and the report names that
one. What is near is found by `ft_tools.similarity.by_words` or by meaning.
"""

from collections import Counter
from collections.abc import Callable

from ft_tools.data.read.ledger import Ledger
from ft_tools.similarity.words import most_of_one

Note = Callable[[str, int], None]
"""Called with a finding id and an index."""


def mark_exact(ledger: Ledger, note: Note) -> int:
    """Remove copies of an earlier example; a copy of a validation example is a leak."""
    first: dict[int, int] = {}
    num_exact = 0
    for index in range(len(ledger)):
        if ledger.removal[index] or not ledger.whole[index]:
            continue
        kept = first.setdefault(ledger.whole[index], index)
        if kept != index:
            leak = kept < ledger.num_validation <= index
            num_exact += index >= ledger.num_validation and not leak
            finding = "validation_leak" if leak else "exact_duplicate"
            ledger.remove(index, finding, kept)
            note(finding, index)
    return num_exact


def mark_prompt_leaks(ledger: Ledger, note: Note) -> None:
    """Remove training examples that ask what a validation example asks.

    So does one that asks it on the way: the first exchange of a longer conversation. What the
    system says makes no difference, unless so many ask the same that only that tells them apart.
    """
    validation = ledger.kept(validation=True)
    training = ledger.kept(validation=False)
    asked = {question for at in validation for question in ledger.questions_at(at)}
    held = Counter(
        question
        for at in (*validation, *training)
        for question in asked.intersection(ledger.questions_at(at))
    )
    common = most_of_one(len(validation) + len(training))
    whole: dict[int, int] = {}
    on_the_way: dict[int, int] = {}
    with_system = {ledger.prompt[at]: at for at in reversed(validation) if ledger.prompt[at]}
    for at in reversed(validation):
        questions = ledger.questions_at(at)
        on_the_way.update((q, at) for q in questions if held[q] <= common)
        whole.update((q, at) for q in questions[-1:] if held[q] <= common)
    for at in training:
        questions = ledger.questions_at(at)
        matches = [with_system.get(ledger.prompt[at]), *map(on_the_way.get, questions[-1:])]
        match = next((t for t in (*matches, *map(whole.get, questions)) if t is not None), None)
        if match is not None:
            ledger.remove(at, "validation_leak", match)
            note("validation_leak", at)


def remove_near(ledger: Ledger, index: int, kept: int, score: float, note: Note) -> int:
    """Remove a near-duplicate, or a leak if its match is for validation.

    Returns:
        1 for a training example near another one, else 0: a leak is counted as a finding.
    """
    leak = kept < ledger.num_validation <= index
    finding = "validation_leak" if leak else "near_duplicate"
    ledger.remove(index, finding, kept, round(score, 4))
    note(finding, index)
    return int(index >= ledger.num_validation and not leak)
