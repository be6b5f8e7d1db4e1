"""The path through a tree of turns, from the first turn to the last one."""

from collections.abc import Mapping, Sequence
from typing import Any

from ft_tools.data.map.mapping import Tree
from ft_tools.formats.column_counts import text_of
from ft_tools.formats.columns import cell_at


def path_of(
    nodes: Sequence[Mapping[str, Any]], tree: Tree, last: Any
) -> "list[Mapping[str, Any]] | None":
    """Return the turns from the first to the last one; None if no such path can be followed.

    It cannot if ids repeat, the last turn or a parent is not there, or parents go in a circle.
    """
    by_id = {text_of(cell_at(node, tree.id)): node for node in nodes}
    if len(by_id) < len(nodes):
        return None
    path: list[Mapping[str, Any]] = []
    at = text_of(last)
    while at and len(path) < len(nodes):
        node = by_id.get(at)
        if node is None:
            return None
        path.append(node)
        at = text_of(cell_at(node, tree.parent))
    return path[::-1] if path and not at else None
