"""Find rows that say the same by meaning: MiniLM's cosine, asked of rows that share telling words.

Two rows are near if every part of them is. Greedy in order: a row goes if it is near an earlier
one that stays. A text that goes on behind what MiniLM reads must be near by its tokens, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ft_tools.similarity.token_store import Column, Mask, Rows, TokenStore
from ft_tools.similarity.words import JACCARD, jaccard
from ft_tools.similarity.worker.candidates import BELOW, Sketches, Vectors, similar_pairs
from ft_tools.similarity.worker.minilm import MiniLM

Phase = Callable[[str], None]
Tick = Callable[[int, int], None]
GATHERED = 1 << 16


class Match(NamedTuple):
    """A row that goes, the one that stays for it, and the lowest cosine of their parts."""

    row: int
    kept: int
    score: float


@dataclass(frozen=True)
class RowTexts:
    """Rows to compare, those of a validation file first."""

    parts: Sequence[Column]
    """What they say, by part; the part that is cheapest to encode comes first."""
    in_a_leak: Sequence[bool]
    """Per part, whether it must be near for a copy of a validation row, too."""
    labels: NDArray[np.int8]
    """Rows with different labels are not near, unless one is of the validation file."""
    num_validation: int = 0
    differ: Callable[[int, int], bool] = lambda _, __: False
    """Whether two rows that are near have other results, so that neither repeats the other."""


@dataclass(frozen=True)
class NearRows:
    """What a search found."""

    matches: list[Match]
    num_compared: int
    """Rows that were compared, the first ones: all unless too many are similar."""
    apart: set[int]
    """Rows that are near an earlier one, and differ from it as `RowTexts.differ` says."""


def find_near(
    model: MiniLM, compared: RowTexts, threshold: float, phase: Phase, tick: Tick
) -> NearRows:
    """Return the rows that are near an earlier one that stays."""
    phase("looking for shared words")
    loose = [
        p for p, is_needed in zip(compared.parts, compared.in_a_leak, strict=True) if is_needed
    ]
    columns = loose or list(compared.parts)
    sketches = Sketches(columns, model.num_tokens, model.max_tokens).side_by_side(columns)
    a, b, num = similar_pairs(sketches, sketches, threshold - BELOW, tick)
    is_leak = (a < compared.num_validation) & (b >= compared.num_validation)
    allowed = is_leak | (compared.labels[a] == compared.labels[b])
    a, b, is_leak = a[allowed], b[allowed], is_leak[allowed]
    lowest = np.ones(len(a), dtype=np.float32)
    for part, in_a_leak in zip(compared.parts, compared.in_a_leak, strict=True):
        phase(f"encoding with MiniLM: {len(a)} pairs")
        asked = np.ones(len(a), dtype=np.bool_) if in_a_leak else ~is_leak
        scores = np.ones(len(a), dtype=np.float32)
        texts = part.numbers[a[asked]], part.numbers[b[asked]]
        scores[asked] = cosines(model, part.store, *texts, threshold)
        near = scores > threshold
        a, b, is_leak, lowest = a[near], b[near], is_leak[near], np.minimum(lowest, scores)[near]
    apart: set[int] = set()
    matches = _greedy(model, compared, (a, b), lowest, apart)
    return NearRows(matches, num, apart - {match.row for match in matches})


def cosines(model: MiniLM, store: TokenStore, one: Rows, other: Rows, threshold: float) -> Vectors:
    """Return MiniLM's cosine of pairs of texts, in float32 where it is close to the threshold."""
    scores = np.ones(len(one), dtype=np.float32)
    asked = np.flatnonzero(one != other)
    for exactly in (False, True):
        if not len(asked):
            break
        before = scores[asked]
        wanted = np.union1d(one[asked], other[asked])
        vectors = model.encode(store, wanted, exactly=exactly)
        x, y = np.searchsorted(wanted, one[asked]), np.searchsorted(wanted, other[asked])
        for start in range(0, len(asked), GATHERED):
            part = slice(start, start + GATHERED)
            scores[asked[part]] = np.einsum("ij,ij->i", vectors[x[part]], vectors[y[part]])
        if exactly and np.abs(scores[asked] - before).max() > model.margin / 2:
            # These texts are further off in bfloat16 than the margin was measured for.
            model.use_float32()
            return cosines(model, store, one, other, threshold)
        if not model.margin:
            break
        asked = asked[np.abs(scores[asked] - threshold) <= model.margin]
    return scores


def _greedy(
    model: MiniLM,
    compared: RowTexts,
    pairs: tuple[Rows, Rows],
    scores: Vectors,
    apart: set[int],
) -> list[Match]:
    """Return for each row that goes the first row that stays and is near it."""
    order = np.lexsort(pairs)
    removed: dict[int, Match] = {}
    for at in order.tolist():
        kept, row = int(pairs[0][at]), int(pairs[1][at])
        if row in removed or kept in removed:
            continue
        if compared.differ(kept, row):
            apart.add(row)
            continue
        is_leak = kept < compared.num_validation <= row
        if all(
            _goes_on_alike(model, part, int(part.numbers[kept]), int(part.numbers[row]))
            for part, in_a_leak in zip(compared.parts, compared.in_a_leak, strict=True)
            if in_a_leak or not is_leak
        ):
            removed[row] = Match(row, kept, float(scores[at]))
    return list(removed.values())


def _goes_on_alike(model: MiniLM, part: Column, one: int, other: int) -> bool:
    """Return whether two texts that MiniLM read only the beginning of share their token pairs."""
    texts = part.store.of(one), part.store.of(other)
    if one == other or max(map(len, texts)) <= model.max_tokens:
        return True
    sets = [set((text[:-1].astype(np.int64) << 16 | text[1:]).tolist()) for text in texts]
    return jaccard(*sets) >= JACCARD


def near_known(
    model: MiniLM, texts: Column, known: Sequence[str], threshold: float, below: float
) -> Mask:
    """Return for each distinct text whether its cosine with a known one reaches the threshold.

    The known ones are added to the texts.
    """
    store, count = texts.store, len(texts.store)
    near = np.zeros(count, dtype=np.bool_)
    if not count or not known:
        return near
    numbers = np.unique([store.add(ids) for ids in model.tokens(known)])
    sketches = Sketches([texts], model.num_tokens, model.max_tokens).of(store)
    a, b, _ = similar_pairs(sketches[:count], sketches[numbers], threshold - below)
    scores = cosines(model, store, numbers[a], b, threshold)
    near[b[scores >= threshold]] = True
    return near
