"""Passages of references/evidence/ that fit what is asked."""

import re
from collections.abc import Iterable

from ft_tools.advice.ladder import titles
from ft_tools.advice.report import Passage
from ft_tools.advice.request import RungId
from ft_tools.explain.search import search
from ft_tools.explain.sections import Section

FOLDER = "evidence"
GRADES = ("read", "abstract", "excerpt", "second hand", "judgement")
_SOURCE = re.compile(rf"^Source: (\S+) \(({'|'.join(GRADES)})\)$", re.MULTILINE)


def passages(problem: str, considering: Iterable[RungId], most: int) -> list[Passage]:
    """Return the passages that share most with the problem and with what is considered."""
    named = titles()
    query = " ".join([problem, *(f"{named[rung]} {rung}" for rung in considering)])
    return [passage_of(section) for section in search(query, most, FOLDER)]


def passage_of(section: Section) -> Passage:
    """Return a section of references/evidence/ as a passage: its claim, text and first source."""
    source = _SOURCE.search(section.text)
    text = _SOURCE.sub("", section.text).strip()
    return Passage(
        says=" ".join([section.headings[-1] + ".", *text.split()]),
        source=source[1] if source else "",
        grade=source[2] if source else "",
        section=section.id,
    )
