"""Choose rows for a part so that nothing is on both sides.

Rows that ask the same first, or are linked (similar prompts, one group of the caller's), stay
together; where prompts follow few templates, so do all rows of one wording: rows of a template in
both parts would measure how well it was learned, not how questions are answered that people word
themselves. Each stratum (rows with one `split_key`) gives its share, and so does each class where
whole wordings are held out: few of them are drawn, and most of one class might be. The same seed
and data give the same parts.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ft_tools.data.map.answers import MAX_CLASSES, are_classes
from ft_tools.data.read.ledger import Ledger
from ft_tools.similarity.links import Links

MAX_OVER = 1.5
"""Rows of a part of whole wordings over those that are wanted, and of the wanted training rows over
these. Judgement."""
Labels = Mapping[int, Mapping[str, str]]
"""Hash of an answer -> its labels by field."""
Class = tuple[str, Hashable]
"""A field of the answers, empty for the whole answer, and its value."""
Classes = Mapping[int, Sequence[Class]]
"""The classes that each row teaches."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """Rows that stay in one part."""

    rows: list[int]
    is_wording: bool = False
    """Whether they are all rows of a wording."""


def num_wanted(num_kept: int, fraction: float) -> int:
    """Return how many examples a part should have."""
    if fraction <= 0 or num_kept < 2:
        return 0
    return min(max(1, round(fraction * num_kept)), num_kept - 1)


def rows_in(bundles: Iterable[Bundle]) -> set[int]:
    """Return the rows of bundles."""
    return {at for one in bundles for at in one.rows}


def groups_of(ledger: Ledger, kept: Sequence[int]) -> list[Bundle]:
    """Put examples together that ask the same first, are the same in full, or are linked."""
    first_with: dict[int, int] = {}
    for index in kept:
        key = ledger.first_prompt[index] or ledger.whole[index]
        ledger.link(index, first_with.setdefault(key, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in kept:
        groups[ledger.linked(index)].append(index)
    return [Bundle(rows) for rows in groups.values()]


def can_hold_out(ledger: Ledger, kept: Sequence[int], fraction: float) -> bool:
    """Return whether a part can be held out of which nothing, or nothing similar, is trained."""
    wanted = num_wanted(len(kept), fraction)
    return any(len(one.rows) <= wanted for one in groups_of(ledger, kept))


def by_wording(ledger: Ledger, groups: Sequence[Bundle]) -> list[Bundle]:
    """Put the groups together that have a wording in common."""
    # numpy comes with it, which tools that compare nothing do without.
    from ft_tools.similarity.wordings import wordings_of

    kept = [at for group in groups for at in group.rows]
    found = wordings_of([ledger.prompt_words_at(at) for at in kept])
    links, first = Links(), dict[int, int]()
    for at, wording in zip(kept, found.of, strict=True):
        links.link(at, ledger.linked(at))
        if wording:
            links.link(at, first.setdefault(wording, at))
    together: dict[int, list[int]] = defaultdict(list)
    for at in kept:
        together[links.linked(at)].append(at)
    worded = {links.linked(at) for at in first.values()}
    return [Bundle(rows, is_wording=one in worded) for one, rows in together.items()]


def label_counts(ledger: Ledger, labels: Labels) -> dict[str, "Counter[str]"]:
    """Return how many kept examples have which label, by field; empty where answers are none."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for answer, count in Counter(ledger.answer[at] for at in ledger.kept(validation=False)).items():
        named = labels.get(answer)
        if not named:
            return {}
        for name, label in named.items():
            counts[name][label] += count
    return dict(counts)


def classes_of(ledger: Ledger, labels: Labels, kept: Iterable[int]) -> Classes:
    """Return the classes that each row teaches; nothing where answers are no classes."""
    counts = label_counts(ledger, labels) if labels else {}
    if names := {name for name, values in counts.items() if are_classes(values)}:
        return {
            at: [pair for pair in labels[ledger.answer[at]].items() if pair[0] in names]
            for at in kept
        }
    answers: dict[int, list[Class]] = {at: [("", ledger.answer[at])] for at in kept}
    return answers if len({one for (one,) in answers.values()}) <= MAX_CLASSES else {}


def choose(
    ledger: Ledger,
    bundles: Sequence[Bundle],
    wanted: int,
    seed: int,
    *,
    classes: Classes | None = None,
) -> list[Bundle]:
    """Return whole bundles with about as many rows as are wanted, in proportion to the strata.

    Classes that the rows teach are in proportion too, and of each at least one bundle is left over
    to be trained on; with these, bundles of wordings may be more rows than are wanted.
    """
    drawn = sorted(bundles, key=lambda one: _draw(seed, ledger.lines[one.rows[0]]))
    share = wanted / max(1, sum(len(one.rows) for one in drawn))
    strata = _Shares(drawn, share, lambda at: [("", ledger.split_key[at])])
    fields = _Shares(drawn, share, lambda at: (classes or {}).get(at, ()), least=1)
    left = Counter(name for one in drawn for name in fields.of(one))
    most = wanted if classes is None else MAX_OVER * wanted
    chosen: list[Bundle] = []
    num_rows = 0
    # First what brings both the strata and the classes of each field nearer to their shares, then
    # the classes, then the strata; then what any of them still lacks.
    with_classes = [(strata, fields), (fields,)] if classes else []
    for nearer in (*with_classes, (strata,), ()):
        passed = []
        for one in drawn:
            reached = num_rows + len(one.rows)
            if reached > most or any(left[name] < 2 for name in fields.of(one)):
                is_wanted = False
            elif nearer:
                is_near = len(one.rows) < 2 * (wanted - num_rows)
                is_wanted = is_near and all(shares.gains(one) for shares in nearer)
            else:
                is_wanted = reached <= wanted or 2 * num_rows < wanted
            if not is_wanted:
                passed.append(one)
                continue
            chosen.append(one)
            num_rows = reached
            left.subtract(fields.of(one).keys())
            strata.take(one)
            fields.take(one)
        drawn = passed
    return chosen


class _Shares:
    """How many rows of each class a part still lacks, by field.

    Classes of which less than `least` rows are wanted are in no proportion.
    """

    def __init__(
        self,
        bundles: Iterable[Bundle],
        share: float,
        names: Callable[[int], Sequence[Class]],
        least: int = 0,
    ) -> None:
        self._names = names
        counts = Counter(name for one in bundles for at in one.rows for name in names(at))
        self._missing = {name: share * number for name, number in counts.items()}
        self._rare = {name for name, number in self._missing.items() if number < least}

    def of(self, bundle: Bundle) -> Counter[Class]:
        """Return how many rows of each class a bundle has."""
        return Counter(name for at in bundle.rows for name in self._names(at))

    def gains(self, bundle: Bundle) -> bool:
        """Return whether a bundle brings every field nearer to its shares, by squares."""
        change: dict[str, float] = defaultdict(float)
        for name, number in self.of(bundle).items():
            if name not in self._rare:
                change[name[0]] += number * (number - 2 * self._missing[name])
        return all(each < 0 for each in change.values())

    def take(self, bundle: Bundle) -> None:
        """Count a bundle's rows as no longer missing."""
        for name, number in self.of(bundle).items():
            self._missing[name] -= number


def _draw(seed: int, line: int) -> bytes:
    """Return what rows are drawn in the order of."""
    return hashlib.blake2b(f"{seed}:{line}".encode(), digest_size=8).digest()
