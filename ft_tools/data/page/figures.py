"""What the page of an audit draws besides the report: counts by bins, languages, examples."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ft_tools.data.page.page_examples import Shown, gallery
from ft_tools.data.read.scanned import Scan
from ft_tools.data.report import Tokens
from ft_tools.data.understand.languages import UNKNOWN
from ft_tools.data.understand.preferred_wording import Marker
from ft_tools.formats.example import Example
from ft_tools.formats.trained_pieces import Masked

NUM_BINS = 24
NUM_SCORES = 5
SIZES = ((2, 2), (3, 3), (4, 5), (6, 10), (11, 100), (101, 10**9))
"""Of a group of examples that say the same: from, to."""
NUM_LANGUAGES = 10
Bars = list[tuple[str, int]]
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Figures:
    """Everything that the page shows and the report does not hold."""

    lengths: dict[str, Curve]
    """whole, answer -> (tokens from, examples); the last bin holds all that are longer."""
    groups: Bars
    """How many say the same -> groups."""
    scores: Bars
    """Score of a removed near-duplicate of the data -> examples."""
    languages: Bars
    markers: list[Marker]
    shown: list[Shown]


def figures_of(
    scanned: Scan,
    tokens: Tokens | None,
    masks: Callable[[Example], list[Masked]],
) -> Figures:
    """Count what is drawn, and read the examples that are shown."""
    spoken = scanned.variety.languages
    languages = [(name, n) for name, n in spoken.most_common(NUM_LANGUAGES) if name != UNKNOWN]
    if spoken[UNKNOWN]:
        languages.append(("not known", spoken[UNKNOWN]))
    groups, scores = _duplicates(scanned)
    return Figures(
        lengths=_lengths(scanned, tokens),
        groups=groups,
        scores=scores,
        languages=languages,
        markers=scanned.pairs.markers(),
        shown=gallery(scanned, masks),
    )


def _lengths(scanned: Scan, tokens: Tokens | None) -> dict[str, Curve]:
    if tokens is None:
        return {}
    ledger = scanned.ledger
    kept = ledger.kept(validation=False)
    top = max(16, tokens.p95 * 2)
    width = max(1, top // NUM_BINS)
    columns: dict[str, Sequence[int]] = {"whole": ledger.tokens, "answer": ledger.answer_tokens}
    made = {}
    for name, column in columns.items():
        bins = Counter(min(column[index], top) // width for index in kept)
        made[name] = [(float(at * width), float(bins[at])) for at in range(top // width + 1)]
    return made


def _duplicates(scanned: Scan) -> tuple[Bars, Bars]:
    ledger = scanned.ledger
    copies: Counter[int] = Counter()
    near: Counter[int] = Counter()
    for index in ledger.original:
        kept, _ = ledger.original_of(index)
        copies[kept] += 1
        if index >= ledger.num_validation and ledger.reason_of(index) == "near_duplicate":
            score = ledger.original[index][1]
            near[min(99, int(score * 100)) // NUM_SCORES * NUM_SCORES] += 1
    sizes = Counter(count + 1 for count in copies.values())
    groups = []
    for low, high in SIZES:
        count = sum(n for size, n in sizes.items() if low <= size <= high)
        name = f"{low}" if low == high else f"{low} to {high}" if high < 10**9 else "more than 100"
        if count:
            groups.append((f"{name} alike", count))
    scores = [(f"{at / 100:.2f} to {(at + NUM_SCORES) / 100:.2f}", near[at]) for at in sorted(near)]
    return groups, scores
