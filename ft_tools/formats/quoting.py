"""Quote text of a file: one JSON string, length-limited, in which nothing hides."""

import json
import re

# Everything but plain ASCII that could hide, turn around or restyle what is shown: control, format,
# private-use, surrogate and unassigned characters, tags, variation selectors, odd spaces.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    "\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)


def quote(text: str, max_chars: int) -> tuple[str, bool]:
    r"""Return a text's first max_chars characters as a JSON string, and if that is all of it.

    What could hide or turn text around is spelt as JSON's escapes, none of which is cut in two;
    such an escape counts with its length, that of a quotation mark or a backslash as one.

    >>> print(quote('say "hi"\n\u202e', 50)[0])
    "say \"hi\"\n\u202e"
    >>> quote("abcdef", 3)
    ('"abc"', False)
    """
    kept: list[str] = []
    length = 0
    for char in text:
        piece = json.dumps(char)[1:-1] if UNSEEN.match(char) else char
        length += len(piece)
        if length > max_chars:
            return f'"{"".join(kept)}"', False
        kept.append(f"\\{char}" if char in '"\\' else piece)
    return f'"{"".join(kept)}"', True


def cut_to(text: str, most: int) -> str:
    """Return the beginning of a text, with a mark if there is more."""
    return text if len(text) <= most else f"{text[:most]}\u2026"
