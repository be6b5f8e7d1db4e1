"""Search of the references by keywords (BM25)."""

import logging
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from ft_tools.explain.sections import Section, sections

HEADING_WEIGHT = 2
"""How often a heading counts beside the text below it."""


def search(query: str, num_results: int, under: str = "") -> list[Section]:
    """Return the sections that fit a query best, best first; none that shares no word with it.

    Raises:
        NotFound: The references are not there.
    """
    known, index = _index(under)
    if index is None:
        return []
    tokens = [token for token in dict.fromkeys(tokenize(query)) if token in index.vocab_dict]
    if not tokens:
        return []
    scores = index.get_scores(tokens)
    order = sorted(range(len(known)), key=lambda place: (-scores[place], place))
    return [known[place] for place in order[:num_results] if scores[place] > 0]


def tokenize(text: str) -> list[str]:
    """Return the stems of the words; of a name with underscores the name, too.

    >>> tokenize("Is training on `answers_add_facts` wrong?")
    ['train', 'answers_add_facts', 'answer', 'add', 'fact', 'wrong']
    """
    stem, stopwords = _language()
    words = list[str]()
    for word in re.findall(r"\w[\w.]*\w|\w", text.lower()):
        parts = [part for part in re.split(r"[_.]", word) if part]
        words += [word] if len(parts) > 1 else []
        words += stem([part for part in parts if part not in stopwords])
    return words


@cache
def _language() -> tuple[Any, frozenset[str]]:
    """Return the stemmer of English and its stop words, imported with the first search."""
    import Stemmer
    from bm25s.stopwords import STOPWORDS_EN

    return Stemmer.Stemmer("english").stemWords, frozenset(STOPWORDS_EN)


@cache
def _index(under: str) -> tuple[Sequence[Section], Any]:
    import bm25s

    # The library writes each step to its log at level DEBUG, whatever the level of the process.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    known = sections(under)
    if not known:
        return known, None
    index = bm25s.BM25()
    words = [
        tokenize(" ".join([*(" ".join(each.headings) for _ in range(HEADING_WEIGHT)), each.text]))
        for each in known
    ]
    index.index(words, show_progress=False)
    return known, index
