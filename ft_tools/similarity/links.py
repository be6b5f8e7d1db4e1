"""What belongs together, by links between two at a time (union-find)."""


class Links:
    """Numbers, some of which are linked."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}

    def link(self, one: int, other: int) -> None:
        """Put two numbers, and what either is linked with, together."""
        first, second = self.linked(one), self.linked(other)
        if first != second:
            self._first[max(first, second)] = min(first, second)

    def linked(self, one: int) -> int:
        """Return the lowest number that a chain of links connects with this one, or itself.

        >>> links = Links()
        >>> links.link(5, 3), links.link(5, 9)
        (None, None)
        >>> links.linked(9), links.linked(4)
        (3, 4)
        """
        root = one
        while root in self._first:
            root = self._first[root]
        while one != root:
            self._first[one], one = root, self._first[one]
        return root
