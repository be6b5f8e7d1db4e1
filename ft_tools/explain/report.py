"""What explain returns."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field

from ft_tools.contract import Report


class Passage(Report):
    """A section of the references, an option, or a row of a table."""

    id: str = Field(description="A topic that returns this passage again.")
    text: str


class ExplainReport(Report):
    """The passages that fit a topic, best first."""

    QUOTED: ClassVar[Mapping[str, str]] = MappingProxyType({"passages": ""})

    passages: list[Passage]
    more: list[str] = Field(default_factory=list, description="Topics of further passages.")
