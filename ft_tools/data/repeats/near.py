"""What a search for near-duplicates tells an audit, and the one by words, which needs no model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ft_tools.data.read.scanned import Scan
from ft_tools.data.repeats.duplicates import remove_near
from ft_tools.data.request import AuditRequest
from ft_tools.data.split.draw import will_split
from ft_tools.similarity.words import JACCARD, MAX_WORDS, MAX_WORK

if TYPE_CHECKING:
    from ft_tools.similarity.by_words import Lexical

LEXICAL = f"lexical: Jaccard of word pairs >= {JACCARD}, verified exactly"
BY_WORDS = "near-duplicates were compared by words; semantic ones need near_duplicates='semantic'"
# Fewer word pairs that many prompts share are a turn of phrase, and not worth a line.
TEMPLATE_PAIRS = 10


@dataclass(frozen=True)
class Near:
    """How a search for near-duplicates went, and how it was done."""

    num_near: int
    method: str
    assumptions: tuple[str, ...] = ()
    by_meaning: bool = False


FindNear = Callable[[Scan, AuditRequest], Near]


def find_lexical(
    scanned: Scan, request: AuditRequest, why: str = BY_WORDS, most_work: int = MAX_WORK
) -> Near:
    """Look for near-duplicates by their words, and say why by these."""
    if request.near_duplicates == "off":
        return Near(0, "not looked for")
    # numpy comes with it, which tools that compare nothing do without.
    from ft_tools.similarity.by_words import Lexical

    search = Lexical(scanned.ledger, most_work)
    num_near = sum(
        remove_near(scanned.ledger, *near, scanned.note)
        for near in search.near(request.deduplicate_on)
    )
    notes = [why, *_lexical_limits(scanned, search, most_work)]
    notes += link_near_prompts(scanned, request, most_work)
    return Near(num_near, LEXICAL, tuple(notes))


def link_near_prompts(scanned: Scan, request: AuditRequest, most_work: int = MAX_WORK) -> list[str]:
    """Link similar prompts where there will be a split; return what was left out of that."""
    from ft_tools.similarity.by_words import Lexical

    if not will_split(request) or Lexical(scanned.ledger, most_work).link_near_prompts():
        return []
    return [
        "too many prompts are similar to compare them all: some similar ones may be on both sides "
        "of the split"
    ]


def _lexical_limits(scanned: Scan, search: "Lexical", most_work: int) -> Iterator[str]:
    """Return what the search for near-duplicates by words left out."""
    ledger = scanned.ledger
    if len(search.shared) >= TEMPLATE_PAIRS:
        yield f"{len(search.shared)} word pairs of a template were set aside in prompts"
    if ledger.num_cut:
        yield (
            f"{ledger.num_cut} texts have more than {MAX_WORDS:,} words: only so many of "
            "each were compared"
        )
    if not search.is_complete:
        yield (
            f"the search for near-duplicates stopped after {most_work:,} word pairs, with "
            f"{search.num_searched} of {len(ledger)} examples compared: too many of them are "
            "similar; near_duplicates='semantic' compares all"
        )
    elif ledger.num_paired < len(ledger):
        yield (
            f"the first {ledger.num_paired} of {len(ledger)} examples were compared, as many as "
            "the search by words holds in memory; near_duplicates='semantic' compares all"
        )
