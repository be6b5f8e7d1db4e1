"""Lists of turns in the rows of a file, and whether they are trees: by structure, not by names."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.data.map.conversations import path_of
from ft_tools.data.map.mapping import Tree
from ft_tools.formats.column_counts import NAME_CHARS, ColumnCounts, items_of, shown, text_of
from ft_tools.formats.turns import as_turns

MOST_ROWS = 500
"""Rows in which trees are looked for."""
LONG_CHARS = 40
"""Length that some turn's text has, and no speaker's name. Judgement."""
KEY = "KEY"


@dataclass
class TurnTrees:
    """The lists of which each item names the one before it, and columns that name the last."""

    num_rows: "Counter[str]" = field(default_factory=Counter)
    """Column -> rows in which it is a list of several objects."""
    found: "Counter[tuple[str, str, str, str]]" = field(default_factory=Counter)
    """Column, key of ids, key of parents, column of the last id -> rows."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Look for trees in a row."""
        for name, value in row.items() if self.num_rows.total() < MOST_ROWS else ():
            nodes = items_of(as_turns(value)) or []
            if len(nodes) > 1 and all(isinstance(node, Mapping) for node in nodes):
                self.num_rows[name] += 1
                self.found.update((name, *keys) for keys in _trees(row, nodes))

    def of(self, name: str) -> "dict[str, str]":
        """Return the keys of a tree in a column, as `turns.tree` takes them; none if it is none."""
        known = [tree for tree, n in self.found.items() if tree[0] == name]
        tree = max(known, key=lambda tree: self.found[tree], default=None)
        if tree is None or self.found[tree] < self.num_rows[name]:
            return {}
        return dict(zip(("id", "parent", "last"), tree[1:], strict=True))

    def notes(self) -> "list[str]":
        """Return a line for each tree of messages."""
        trees = {name: self.of(name) for name in self.num_rows}
        return [
            f"{shown(name, NAME_CHARS)}: tree of messages, {', '.join(map(shown, keys.values()))}"
            for name, keys in trees.items()
            if keys
        ]


def _trees(
    row: Mapping[str, Any], nodes: "list[Mapping[str, Any]]"
) -> Iterator["tuple[str, str, str]"]:
    texts = {
        key: [text_of(node.get(key)) for node in nodes]
        for key, value in nodes[0].items()
        if not isinstance(value, Mapping | list)
    }
    for key, ids in texts.items():
        if len({*ids}) < len(ids) or not all(ids):
            continue
        known = {*ids}
        currents = [str(n) for n, v in row.items() if isinstance(v, str) and v.strip() in known]
        for parent, parents in texts.items():
            if parent == key or not any(parents) or not {*parents} <= known | {""}:
                continue
            for current in currents:
                tree = Tree(id=key, parent=parent, last=current)
                if len(path_of(nodes, tree, row[current]) or []) > 1:
                    yield str(key), str(parent), current


def turns_to_fill_in(
    columns: Mapping[str, ColumnCounts], num_rows: int, trees: TurnTrees
) -> dict[str, Any]:
    """Return `turns` of a mapping for a file whose rows hold a list of them; else nothing.

    Such a list has long texts in at least half of the rows, and a key with a few values.
    """
    texts: set[str] = set()
    speakers: set[str] = set()
    for name, one in columns.items():
        conversation, dots, key = name.removesuffix("[]").partition("[].")
        if not dots or "[]" in key or one.num_rows * 2 < num_rows or one.type == "number":
            continue
        if one.longest > LONG_CHARS:
            texts.add(conversation)
        elif one.is_listed and one.num_different > 1:
            speakers.add(conversation)
    lists = [name for name in texts if name in speakers]
    if not lists:
        return {}
    name = max(lists, key=lambda name: bool(trees.of(name)))
    tree = trees.of(name)
    made = {"conversation": name, "role": KEY, "text": KEY, "roles": {"SPEAKER": "user"}}
    return made | {"tree": tree} if tree else made
