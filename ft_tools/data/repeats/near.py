"""What a search for near-duplicates tells an audit, and the one by words, which needs no model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ft_tools.data.judge.findings import note
from ft_tools.data.read.scan import Scan
from ft_tools.data.repeats.duplicates import remove_near
from ft_tools.data.request import AuditRequest
from ft_tools.similarity.words import JACCARD, MAX_WORDS, MAX_WORK

if TYPE_CHECKING:
    from ft_tools.similarity.by_words import Lexical

LEXICAL = f"lexical: Jaccard of word pairs >= {JACCARD}, verified exactly"


@dataclass(frozen=True)
class Near:
    """How a search for near-duplicates went, and how it was done."""

    num_near: int
    method: str
    assumptions: tuple[str, ...] = ()
    by_meaning: bool = False
    are_prompts_linked: bool = False
    """Whether all similar prompts are known, so that they stay in one part."""


FindNear = Callable[[Scan, AuditRequest], Near]


def find_lexical(
    scanned: Scan,
    request: AuditRequest,
    why: str = "",
    most_work: int = MAX_WORK,
    differ: Callable[[int, int], bool] = lambda *_: False,
) -> Near:
    """Look for near-duplicates by their words, and note why by these; empty: no model is there.

    `differ` says of two lines whether their rows are no repetition, whatever their words.
    """
    if request.near_duplicates == "off":
        return Near(0, "not looked for")
    # numpy comes with it, which tools that compare nothing do without.
    from ft_tools.similarity.by_words import Lexical

    search, lines = Lexical(scanned.ledger, most_work), scanned.ledger.lines
    num_near = sum(
        remove_near(scanned.ledger, *near, scanned.note)
        for near in search.near(
            request.deduplicate_on, lambda at, other: differ(lines[at], lines[other])
        )
    )
    for at in sorted(search.apart):
        scanned.note("alike_but_for_numbers", at)
    notes = [why or note("by_words"), *_lexical_limits(scanned, search, most_work)]
    notes += link_before_split(scanned, request, most_work)
    return Near(num_near, LEXICAL, tuple(notes))


def link_before_split(scanned: Scan, request: AuditRequest, most_work: int = MAX_WORK) -> list[str]:
    """Link similar prompts where there will be a split; return what was left out of that."""
    if not request.splits or link_prompts(scanned, most_work).are_prompts_linked:
        return []
    return [note("split_not_compared")]


def link_prompts(scanned: Scan, most_work: int = MAX_WORK) -> Near:
    """Link rows whose prompts are similar, and remove none."""
    from ft_tools.similarity.by_words import Lexical

    linked = Lexical(scanned.ledger, most_work).link_near_prompts()
    return Near(0, LEXICAL, are_prompts_linked=linked)


def _lexical_limits(scanned: Scan, search: "Lexical", most_work: int) -> Iterator[str]:
    """Return what the search for near-duplicates by words left out."""
    ledger = scanned.ledger
    total = len(ledger)
    if ledger.num_cut:
        yield note("texts_cut_by_words", count=ledger.num_cut, most=f"{MAX_WORDS:,}")
    if not search.is_complete:
        work = f"{most_work:,}"
        yield note("search_stopped", work=work, count=search.num_searched, total=total)
    elif ledger.num_paired < total:
        yield note("first_compared", count=ledger.num_paired, total=total)
