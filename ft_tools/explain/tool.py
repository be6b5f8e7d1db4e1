"""explain: options, ids and sections of the references, looked up or searched."""

from collections.abc import Sequence

from ft_tools.contract import no_such
from ft_tools.errors import NotFound
from ft_tools.explain.options import arguments_with, option_passages, tool_passages
from ft_tools.explain.report import ExplainReport, Passage
from ft_tools.explain.request import ExplainRequest
from ft_tools.explain.search import search
from ft_tools.explain.sections import Section, sections
from ft_tools.explain.tables import row_passages
from ft_tools.tools import TOOLS

MAX_CHARS = 2000
"""Of an answer's passages: about 500 tokens."""
NUM_FOUND = 8
"""Sections of a search: those that do not fit are named."""


def explain(request: ExplainRequest) -> ExplainReport:
    """Return what is known of a topic: an exact name first, else a search of the references.

    Raises:
        NotFound: Nothing has that name, and no section shares a word with it.
    """
    topic = request.topic.strip().strip("`")
    found = _named(topic) or [_passage(section) for section in search(topic, NUM_FOUND)]
    if not found:
        raise NotFound(no_such("topic", topic, [*TOOLS, *row_passages()][:20]))
    return _within_budget(found)


def _named(topic: str) -> list[Passage]:
    """Return the passages of a tool, of its options, of an argument, a row's id or a section's."""
    name, *rest = topic.replace("-", "_").replace(".", " ", 1).split()
    if name in TOOLS and not rest:
        return tool_passages(name)
    if name in TOOLS and rest == ["options"]:
        return option_passages(name)
    if name in TOOLS and len(rest) == 1:
        return arguments_with(name, rest[0].rsplit(".", 1)[-1])
    if topic in row_passages():
        about = [_passage(each) for each in search(topic, 1) if topic in each.text]
        return [row_passages()[topic], *about]
    return [_passage(section) for section in sections() if section.id == topic]


def _passage(section: Section) -> Passage:
    return Passage(id=section.id, text=f"{' > '.join(section.headings)}\n\n{section.text}")


def _within_budget(found: Sequence[Passage]) -> ExplainReport:
    """Return the first passages that fit, at least one, and the ids of the others."""
    shown = list[Passage]()
    for passage in found:
        used = sum(len(each.text) for each in shown)
        if shown and used + len(passage.text) > MAX_CHARS:
            break
        shown.append(passage)
    return ExplainReport(passages=shown, more=[each.id for each in found[len(shown) :]])
