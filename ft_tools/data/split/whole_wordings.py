"""Hold out whole wordings: of prompts that follow few templates, all of one are in one part.

Rows of one template in both parts would measure how well the template was learned, not how
questions are answered that people word themselves.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ft_tools.data.judge.enough_examples import label_counts
from ft_tools.data.map.apply_mapping import MAX_CLASSES, are_classes
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.split.draw import choose_validation, draw, groups_of
from ft_tools.formats.wordings import wordings_of

MAX_OVER = 1.5
"""Rows of a held-out part over those that are wanted, and of the wanted training rows over these.
Judgement."""
LEAST_VALIDATED = 2
"""Wordings of the validation part, whose loss chooses the checkpoint. Judgement."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """Rows that stay in one part: of one wording, or similar to one another."""

    rows: list[int]
    is_wording: bool


class ValidationPart(NamedTuple):
    """Rows that are validated on, and the wordings of which none is trained; 0 without such."""

    rows: set[int]
    num_wordings: int
    few_wordings: bool = False
    """Whether most prompts follow few templates."""


def validation_part(
    ledger: Ledger, kept: Sequence[int], fraction: float, seed: int, *, few_wordings: bool
) -> ValidationPart:
    """Choose a validation part: whole wordings where two fit, else rows that ask something else.

    Args:
        ledger: With the words of the prompts, if they follow few templates.
        kept: Its rows to divide.
        fraction: Of these that is wanted.
        seed: Of the draw.
        few_wordings: Whether the prompts follow few templates.
    """
    if few_wordings:
        chosen = choose_validated(
            bundles_of(ledger, groups_of(ledger, kept)),
            round(fraction * len(kept)),
            ledger.split_key,
            classes_of(ledger, {}, kept),
            seed,
        )
        rows, num_wordings = rows_in(chosen), sum(one.is_wording for one in chosen)
        # Not where hardly any are left to train on.
        if num_wordings and MAX_OVER * (len(kept) - len(rows)) >= (1 - fraction) * len(kept):
            return ValidationPart(rows, num_wordings)
    return ValidationPart(choose_validation(ledger, kept, fraction, seed), 0)


def rows_in(bundles: Iterable[Bundle]) -> set[int]:
    """Return the rows of bundles."""
    return {at for one in bundles for at in one.rows}


def bundles_of(ledger: Ledger, groups: Sequence[list[int]]) -> list[Bundle]:
    """Put the groups together that have a wording in common.

    Args:
        ledger: With the words of the prompts.
        groups: Rows that stay together for other reasons.
    """
    kept = [at for group in groups for at in group]
    found = wordings_of([ledger.prompt_words_at(at) for at in kept])
    wording = dict(zip(kept, found, strict=True))
    first: dict[int, int] = {}

    def root(one: int) -> int:
        while one in first:
            one = first[one]
        return one

    for group in groups:
        known = sorted({root(wording[at]) for at in group} - {0})
        for other in known[1:]:
            first[other] = known[0]
    together: dict[int, list[int]] = defaultdict(list)
    alone = []
    for group in groups:
        named = next((root(wording[at]) for at in group if wording[at]), 0)
        if named:
            together[named] += group
        else:
            alone.append(Bundle(group, is_wording=False))
    return [*(Bundle(rows, is_wording=True) for rows in together.values()), *alone]


def classes_of(
    ledger: Ledger, labels: Mapping[int, Mapping[str, str]], kept: Iterable[int]
) -> Mapping[int, Sequence[Hashable]]:
    """Return the classes that each row teaches; nothing where answers are no classes.

    Args:
        ledger: With the answers.
        labels: Hash of an answer -> its labels by field; empty if they were not read.
        kept: The rows.
    """
    counts = label_counts(ledger, labels) if labels else {}
    if names := {name for name, values in counts.items() if are_classes(values)}:
        return {
            at: [pair for pair in labels[ledger.answer[at]].items() if pair[0] in names]
            for at in kept
        }
    answers = {at: [ledger.answer[at]] for at in kept}
    return answers if len({one for (one,) in answers.values()}) <= MAX_CLASSES else {}


def choose_validated(
    bundles: Iterable[Bundle],
    wanted: int,
    strata: Sequence[Hashable],
    classes: Mapping[int, Sequence[Hashable]],
    seed: int,
) -> list[Bundle]:
    """Return what `choose` does, if that has wordings enough for a loss; else nothing."""
    chosen = choose(bundles, wanted, strata, classes, seed)
    return chosen if sum(one.is_wording for one in chosen) >= LEAST_VALIDATED else []


def choose(
    bundles: Iterable[Bundle],
    wanted: int,
    strata: Sequence[Hashable],
    classes: Mapping[int, Sequence[Hashable]],
    seed: int,
) -> list[Bundle]:
    """Return whole bundles with about as many rows as are wanted, in proportion to the strata.

    Of each class at least one bundle is left over, to be trained on.

    Args:
        bundles: To choose from.
        wanted: Rows.
        strata: What the part holds in proportion, by row.
        classes: The classes that a row teaches; none where answers are texts.
        seed: Of the draw.
    """
    drawn = sorted(bundles, key=lambda one: draw(seed, one.rows[0]))
    sizes = Counter(strata[at] for one in drawn for at in one.rows)
    share = wanted / max(1, sizes.total())
    left = Counter(name for one in drawn for name in _taught(one, classes))
    missing = {name: share * size for name, size in sizes.items()}
    chosen: list[Bundle] = []
    passed: list[Bundle] = []
    num_rows = 0

    def take(one: Bundle) -> None:
        nonlocal num_rows
        chosen.append(one)
        num_rows += len(one.rows)
        left.subtract(_taught(one, classes))
        for at in one.rows:
            missing[strata[at]] -= 1

    def may_go(one: Bundle) -> bool:
        fits = num_rows + len(one.rows) <= MAX_OVER * wanted
        return fits and all(left[name] > 1 for name in _taught(one, classes))

    for one in drawn:
        counts = Counter(strata[at] for at in one.rows)
        # Negative where the distance from the wanted numbers of the strata falls.
        change = sum(count * (count - 2 * missing[name]) for name, count in counts.items())
        if change < 0 and may_go(one):
            take(one)
        else:
            passed.append(one)
    for one in passed:
        if 2 * num_rows < wanted and may_go(one):
            take(one)
    return chosen


def _taught(one: Bundle, classes: Mapping[int, Sequence[Hashable]]) -> set[Hashable]:
    return {name for at in one.rows for name in classes.get(at, ())}
