"""Group texts by their wording: one template filled with other names and numbers.

Held-out rows of such a file have its wordings, too, so a score on them is too good for questions
that people word themselves. The similarity of two texts is that of their pairs of neighbouring
words (Jaccard), each pair counting by how rare it is (inverse document frequency); words that
hardly any text has fill a slot, and count as the same one. Each text is put together with the
texts most similar to it.

Measured on templates with known slots: benchmarks/held_out.json. Of public files (up to 1,000
rows), 0 to 5% of the prompts of alpaca_en_demo, alpaca_zh_demo, dpo_en_demo, kto_en_demo and gsm8k
follow templates, 49% of codegen-instruct, 47% of glaive_toolcall_en_demo, all of toolformer, which
is made of templates.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ft_tools.abandoned_calls import require_waiting
from ft_tools.similarity.links import Links
from ft_tools.similarity.words import tokens_of

Words = Sequence[Hashable]
Pair = tuple[Hashable, Hashable]
MOST_WORDS = 200
"""Of a text, half of them at each end."""
MOST_LEARNED = 2000
"""Texts that are compared with each other; of more, a draw. The others join the one that each is
most similar to."""
SIMILAR = 0.23
NEIGHBOURS = 3
"""Most similar texts that one is put together with; all above `SIMILAR` would chain wordings."""
SLOT, FILLED = 3, 0.3
"""Words that fewer texts have fill a slot; what each adds to the size of its text, as a part of the
rarest pair. Of twelve small files of questions that people worded, all short and many with the same
opening, 7 to 81% followed templates without that, and 0 to 16% do with it."""
INSTRUCTION = 0.5
"""Of the texts: pairs that more of them have are of an instruction, and tell nothing apart."""
LEAST = 3
"""Texts that make a template."""
TINY = 1e-9
LEAST_TEXTS = 40
MOSTLY = 0.8
MOST_DRAWN, MOST_CHARS = 1000, 1500
"""Prompts to draw of a file, and characters that are read of each."""


class Wordings(NamedTuple):
    """The wordings of some texts."""

    of: list[int]
    """Of each text a number that texts of its wording share; 0: it has one of its own."""
    fraction: float
    """Of texts whose wording at least `LEAST` have; 0 of fewer than `LEAST_TEXTS` texts."""

    @property
    def are_few(self) -> bool:
        """Return whether most texts follow few templates."""
        return self.fraction >= MOSTLY

    @property
    def number(self) -> int:
        """Return how many wordings two or more texts share."""
        return len({*self.of} - {0})


def num_templated(prompts: Sequence[str], num_all: int) -> int:
    """Return about how many prompts follow templates, by a draw of them; 0 unless most do."""
    half = MOST_CHARS // 2
    ends = (p if len(p) <= MOST_CHARS else f"{p[:half]}\n{p[-half:]}" for p in prompts)
    found = wordings_of([tokens_of(text) for text in ends])
    return round(found.fraction * num_all) if found.are_few else 0


def wordings_of(texts: Sequence[Words]) -> Wordings:
    """Group texts by their wording.

    >>> made = [f"My {at} does not open. Thank you all." for at in ("lid", "box", "jar")]
    >>> made += [f"Send the {at} to our house. Thank you all." for at in ("lid", "box", "jar")]
    >>> wordings_of([one.split() for one in made]).of
    [1, 1, 1, 2, 2, 2]
    """
    # numpy comes with it, which tools that compare nothing do without.
    import numpy as np

    drawn = set(_draw(len(texts)))
    counts = Counter(word for at in drawn for word in {*_ends(texts[at])})

    def slotted(at: int) -> tuple[Hashable, ...]:
        return tuple(word if counts[word] >= SLOT else None for word in _ends(texts[at]))

    # Hashes, and the pairs of one text at a time: a file may have a million of them.
    first: dict[int, int] = {}
    links = Links()
    for at, words in enumerate(texts):
        if words:
            made = slotted(at)
            is_mostly_filled = 2 * made.count(None) > len(made)
            links.link(at, first.setdefault(hash(tuple(words) if is_mostly_filled else made), at))
    places = list(first.values())
    learned = [places[at] for at in _draw(len(places))]
    number_of = {at: number for number, at in enumerate(learned)}
    having: dict[Pair, list[int]] = defaultdict(list)
    for number, at in enumerate(learned):
        for pair in _pairs(slotted(at)):
            having[pair].append(number)
    lone = math.log(max(2, len(learned)))
    most = max(LEAST, INSTRUCTION * len(learned))
    weight = {
        pair: math.log(len(learned) / len(some)) if len(some) <= most else 0.0
        for pair, some in having.items()
    }
    # A pair that one learned text has is of use to those alone that are not learned.
    least = 1 if len(learned) < len(places) else 2
    texts_with = {
        pair: np.array(some) for pair, some in having.items() if weight[pair] and len(some) >= least
    }
    sizes = np.array([_size(slotted(at), weight, lone) for at in learned])
    for at in places:
        require_waiting()
        words = slotted(at)
        pairs = _pairs(words)
        known = [pair for pair in pairs if pair in texts_with]
        if not known:
            continue
        found = [texts_with[pair] for pair in known]
        weights = np.repeat([weight[pair] for pair in known], list(map(len, found)))
        shared = np.bincount(np.concatenate(found), weights, len(learned))
        own = number_of.get(at)
        if own is not None:
            shared[own] = 0.0
        size = _size(words, weight, lone)
        similarity = shared / np.maximum(size + sizes - shared, TINY)
        similar = np.flatnonzero(similarity >= SIMILAR)
        nearest = similar[np.argsort(-similarity[similar], kind="stable")]
        for other in nearest[: 1 if own is None else NEIGHBOURS].tolist():
            links.link(at, learned[other])
    return _numbered([links.linked(at) if words else None for at, words in enumerate(texts)])


def _size(words: Words, weight: Mapping[Pair, float], lone: float) -> float:
    """Return the weight of the pairs of a text, and of what fills its slots."""
    filled = sum(word is None for word in words)
    return sum(weight.get(pair, lone) for pair in _pairs(words)) + FILLED * lone * filled


def _numbered(groups: Sequence[int | None]) -> Wordings:
    sizes = Counter(groups)
    numbers: dict[int | None, int] = {}
    of = [
        0 if one is None or sizes[one] < 2 else numbers.setdefault(one, len(numbers) + 1)
        for one in groups
    ]
    num_templated = sum(one is not None and sizes[one] >= LEAST for one in groups)
    is_enough = len(groups) >= LEAST_TEXTS
    return Wordings(of, num_templated / len(groups) if is_enough else 0.0)


def _draw(count: int) -> list[int]:
    """Return a random draw of what is learned from: every n-th could be all of one kind."""
    return sorted(random.Random(0).sample(range(count), min(count, MOST_LEARNED)))


def _ends(words: Words) -> Words:
    half = MOST_WORDS // 2
    return words if len(words) <= MOST_WORDS else [*words[:half], *words[-half:]]


def _pairs(words: Words) -> dict[Pair, None]:
    """Return the different pairs of neighbouring words, in order."""
    return dict.fromkeys(pairwise(words))
