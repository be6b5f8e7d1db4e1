"""How many of some texts are alike, by the same search that finds near-duplicates."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ft_tools.data.read.ledger import NUM_PARTS, Ledger
from ft_tools.formats.example import Example
from ft_tools.formats.wordings import templated_fraction, wordings_of, words_in
from ft_tools.similarity.words import tokens_of

SHOWN_FRACTION = 0.5
"""Of texts that follow templates, from which on these are counted. Judgement."""
MOST_TEMPLATED = 1_000
"""Texts in which templates are looked for."""


class Alike(NamedTuple):
    """How alike some texts are."""

    num_texts: int
    num_with_twin: int
    """Texts that are the same as another one, or nearly so."""
    templated_fraction: float
    """Share of the texts that follow a template: the same words around other names and numbers."""
    num_templates: int
    num_words: int
    """Different words of all texts."""


def alike_texts(texts: Sequence[str]) -> Alike:
    """Return how many of some texts have a near-duplicate.

    >>> texts = [f"Where is my parcel? It should have been here on Monday {n}" for n in "aabc"]
    >>> alike_texts([*texts, "Something else altogether."])[:2]
    (5, 4)
    """
    from ft_tools.similarity.by_words import Lexical
    from ft_tools.similarity.word_hashes import tokens_in

    ledger = Ledger(with_pairs=True)
    first: dict[str, int] = {}
    parts: list[str] = []
    words: set[str] = set()
    for line, text in enumerate(texts):
        asked = [{"role": "user", "content": text}]
        at = ledger.add(Example(line, "prompt_only", "sft", asked), (0, 0), "")
        ledger.link(at, first.setdefault(text, at))
        parts += [text, *[""] * (NUM_PARTS - 1)]
        words.update(tokens_of(text))
    ledger.add_words(tokens_in(parts))
    Lexical(ledger).link_near_prompts()
    sizes = Counter(ledger.linked(at) for at in range(len(ledger)))
    num_twins = sum(size for size in sizes.values() if size > 1)
    fraction = templated_fraction(texts[:MOST_TEMPLATED])
    templates = (
        wordings_of([words_in(text) for text in texts]) if fraction >= SHOWN_FRACTION else []
    )
    return Alike(len(texts), num_twins, fraction, len({*templates} - {0}), len(words))
