"""A draw from a stream of unknown length, spread evenly over it."""

from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Spread(Generic[Item]):
    """At most so many items: the first of each stretch, which doubles whenever there are too many.

    >>> drawn = Spread[int](4)
    >>> for number in range(20):
    ...     drawn.add(lambda: number)
    >>> drawn.items, drawn.num_seen
    ([0, 8, 16], 20)
    """

    def __init__(self, most: int) -> None:
        self.items: list[Item] = []
        self.num_seen = 0
        self._most, self._stride = most, 1

    def add(self, make: Callable[[], Item]) -> None:
        """Count an item, which is made only if it is drawn."""
        if self.num_seen % self._stride == 0:
            self.items.append(make())
            if len(self.items) >= self._most:
                self.items = self.items[::2]
                self._stride *= 2
        self.num_seen += 1
