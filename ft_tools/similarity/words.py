"""The words of a text, and how similar two texts are by their pairs of neighbouring words.

Similarity of two sets A and B is Jaccard = |A and B| / |A or B|.
"""

import re
from collections.abc import Iterable

# A word, or one character of a script without spaces.
CHARACTERS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
WORDS = re.compile(rf"{CHARACTERS.pattern}|\w+")
PLAIN_MARKS = (
    r""".,;:!?'"()\[\]{}\u00a1\u00ab\u00bb\u00bf\u2018-\u201f\u2026\u3001\u3002\u3008-\u3011"""
    r"\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
)
# A word or a sign: `x = -2` is not `x = 2`, and C is neither C++ nor C#; a comma says little.
TOKENS = re.compile(rf"{WORDS.pattern}|[^\s\w{PLAIN_MARKS}]")
# The same for ASCII: what is no word becomes a blank, and a sign stands alone between blanks.
_CHARS = list(map(chr, range(128)))
SIGNS = "".join(c for c in _CHARS if TOKENS.fullmatch(c) and not WORDS.fullmatch(c))
BLANK = 32
_BLANKS = bytes(
    c if c > 127 else ord(chr(c).lower()) if WORDS.fullmatch(chr(c)) or chr(c) in SIGNS else BLANK
    for c in range(256)
)
"""In UTF-8: bytes of other characters stay."""
END = b"\xff"
"""Behind each text: in UTF-8 there is no such byte."""
PROMPT, ANSWER, REJECTED = range(3)
"""The parts of a row that have words."""
NUM_PARTS = 3
KEPT = 0
"""Why a row is left out: not at all."""
MAX_WORDS = 4000
# Word pairs looked at in one search; on hostile data everything is a candidate, and then it stops
# and says so. A call has to answer within a minute; a run may take longer.
MAX_WORK = 100_000_000
MAX_WORK_OF_A_RUN = 20 * MAX_WORK
# Source: Lee et al. 2022 keep pairs at Jaccard 0.8, https://arxiv.org/abs/2107.06499
JACCARD = 0.8
MIN_SHARED = 50
SHARED_FRACTION = 0.1


def folded(text: str) -> str:
    """Return a text in lower case, with one i: Turkish has two, and a capital that keeps its dot.

    >>> folded("\u0130GNORE \u0131t")
    'ignore it'
    """
    return text.casefold().replace("i\u0307", "i").replace("\u0131", "i")


def tokens_of(text: str) -> list[str]:
    """Return the words and signs of a text in lower case.

    >>> tokens_of("C++ isn't C, it's x_1!"), tokens_of("Ça, c'est \u4f60\u597d")
    (['c', '+', '+', 'isn', 't', 'c', 'it', 's', 'x_1'], ['ça', 'c', 'est', '\u4f60', '\u597d'])
    """
    return TOKENS.findall(folded(text))


def joined(texts: Iterable[str]) -> bytes:
    """Return texts in lower case and UTF-8, with blanks for what is in no word, and no sign."""
    plain = (t if t.isascii() else " ".join(TOKENS.findall(folded(t))) for t in texts)
    encoded = [text.encode("utf-8", "surrogatepass") for text in plain]
    return END.join([*encoded, b""]).translate(_BLANKS)


def jaccard(one: set[int], other: set[int]) -> float:
    """Return the similarity of two sets; 0 of two empty ones, which say nothing.

    >>> jaccard({1, 2, 3}, {2, 3, 4})
    0.5
    """
    shared = len(one & other)
    return shared / ((len(one) + len(other) - shared) or 1)


def most_of_one(num_examples: int) -> float:
    """Return how many examples may share what is still their own; above, it is a template's.

    >>> most_of_one(100), most_of_one(1000)
    (50, 100.0)
    """
    return max(MIN_SHARED, SHARED_FRACTION * num_examples)
