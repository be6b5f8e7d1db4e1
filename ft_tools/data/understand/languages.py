"""Name the language of a text, by py3langid."""

from collections import Counter
from functools import cache
from typing import Any

UNKNOWN = "und"
LETTERS = 200
"""Characters that are looked at."""
LEAST_SURE = 0.9
"""Below this probability a text, such as code or one word, has no language."""
# Fewer languages are told apart better: of pieces of 4 and 8 words in 25 of these, 94% are named
# rightly, and 67% among all 140. Counted once on tests/unit/languages.json.
LANGUAGES = (
    "ar bg bn cs da de el en es fa fi fr he hi hu id it ja ko nl no pl pt ro ru sv ta th tr uk ur "
    "vi zh"
)
FIRST, STRIDE = 1_000, 8
"""Rows whose languages are named: the first ones all, of the others each eighth. Naming two takes
0.1 ms, more than all other checks of a row."""
MIN_FRACTION = 0.01
"""Of the answers, to be a figure of the report."""


class Languages:
    """Counts the languages of answers."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """A row after the first ones stands for those that are passed over, too."""
        self._num_seen = 0

    def add(self, prompt: str, answer: str) -> tuple[str, str]:
        """Count one example.

        Returns:
            The languages of its prompt and its answer; unknown for a row that is passed over.
        """
        self._num_seen += 1
        if self._num_seen > FIRST and self._num_seen % STRIDE:
            return UNKNOWN, UNKNOWN
        asked, answered = language_of(prompt), language_of(answer)
        self.counts[answered] += 1 if self._num_seen <= FIRST else STRIDE
        return asked, answered

    def shape(self) -> dict[str, int | float]:
        """Return how many answers are in which language."""
        least = MIN_FRACTION * self.counts.total()
        common = self.counts.most_common(6)
        return {f"language_{name}": n for name, n in common if name != UNKNOWN and n >= least}


@cache
def _model() -> Any:
    # It takes 0.4 s and 50 MB, which tools that name no language do without.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(LANGUAGES.split())
    return model


def language_of(text: str) -> str:
    r"""Return the language as ISO 639-1 has it; "und" if it is too short or not known.

    >>> language_of("What is the capital of Peru?"), language_of("Lima ist die Hauptstadt von Peru")
    ('en', 'de')
    >>> language_of("\u4f60\u597d\u5417\uff0c\u4eca\u5929\u600e\u4e48\u6837"), language_of("x = 1")
    ('zh', 'und')
    """
    language, probability = _model().classify(text[:LETTERS])
    return str(language) if probability >= LEAST_SURE else UNKNOWN
