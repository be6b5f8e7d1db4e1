"""Passages of references/evidence/ that fit what is asked."""

import re
from collections.abc import Iterable

from ft_tools.advice.ladder import table
from ft_tools.advice.report import Passage
from ft_tools.advice.request import RungId
from ft_tools.explain.search import search

_SOURCE = re.compile(
    r"^Source: (\S+) \((read|abstract|excerpt|second hand|judgement)\)$", re.MULTILINE
)


def passages(problem: str, considering: Iterable[RungId], most: int) -> list[Passage]:
    """Return the passages that share most with the problem and with what is considered.

    Each is its claim (the heading), its text, and its first source with how that was read.
    """
    titles = {row.id: row.title for row in table().rungs}
    query = " ".join([problem, *(f"{titles[rung]} {rung}" for rung in considering)])
    found = []
    for section in search(query, most, "evidence"):
        source = _SOURCE.search(section.text)
        says = " ".join([section.headings[-1] + ".", *_SOURCE.sub("", section.text).split()])
        address, grade = source.groups() if source else ("", "")
        found.append(Passage(says=says, source=address, grade=grade, section=section.id))
    return found
