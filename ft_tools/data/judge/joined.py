"""Look for a sign in many texts at once: a prefilter for checks of each."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate


class Joined:
    """Texts, one after another with line breaks between them."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Join them."""
        self._text = "\n".join(texts)
        self._starts = [0, *accumulate(len(text) + 1 for text in texts)]

    def having(self, sign: str | bytes, table: bytes = b"") -> set[int]:
        """Return which texts have a sign.

        Args:
            sign: Without a line break.
            table: What each byte of ASCII is translated to first; other characters are `?`.

        >>> Joined(["a", "b@", "c@d@"]).having("@"), Joined(["a"]).having(b"A", bytes([65] * 256))
        ({1, 2}, {0})
        """
        within = self._text if isinstance(sign, str) else self._plain.translate(table)
        found = set()
        at = within.find(sign)  # type: ignore[arg-type]
        while at >= 0:
            number = bisect_right(self._starts, at) - 1
            found.add(number)
            at = within.find(sign, self._starts[number + 1])  # type: ignore[arg-type]
        return found

    @cached_property
    def _plain(self) -> bytes:
        return self._text.encode("ascii", "replace")
