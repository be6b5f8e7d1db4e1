"""What recommend_approach returns."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from ft_tools.advice.request import RungId
from ft_tools.contract import NextStep, Report

SHORT = {"cost": "", "stop": "", "source": ""}
"""What a concise report leaves out of rungs other than the first."""
State = Literal["done", "possible", "blocked", "needs"]


class Fact(Report):
    """Something computed from what was passed."""

    CONCISE = ("says", "source")

    about: Literal["dataset", "documents", "evaluations", "model", "terms", "cost", "conflict"]
    says: str
    source: str = Field(description="File, run, argument or address that it comes from.")


class Rung(Report):
    """A step of the ladder."""

    rung: RungId
    state: State = Field(
        description="done: tried, or not needed here. needs: a fact or data is missing."
    )
    why: str = Field("", description="What blocks it, what it needs, or what comes before it.")
    cost: str = ""
    stop: str = Field("", description="The measurement at which to stop.")
    source: str = ""


class Block(Report):
    """A rule that speaks against rungs here."""

    CONCISE = ("id", "why")

    id: str = Field(description="As `accept_findings` of a launch takes it.")
    rungs: list[RungId] = Field(default_factory=list, description="Which it blocks.")
    why: str = Field(description="The fact that it was derived from.")
    override: str = ""
    source: str = ""


class Passage(Report):
    """A passage of the references."""

    CONCISE = ("claim", "source", "grade", "section")

    claim: str = Field("", description="What it says, in a sentence.")
    says: str
    source: str
    grade: str = Field(
        "", description="How it was read: read, abstract, excerpt, second hand, judgement."
    )
    section: str = Field("", description="Pass it to explain for the whole passage.")


class Question(Report):
    """An unknown fact that would change the state of a rung."""

    field: str = Field(description="The argument that answers it.")
    ask: str


class ApproachReport(Report):
    """Facts, the ladder and evidence; the caller judges."""

    summary: str
    approach: RungId = Field(description="The first rung that no fact excludes.")
    decided_by: list[str] = Field(
        default_factory=list, description="Ids of the facts and rules that exclude earlier rungs."
    )
    facts: list[Fact] = Field(default_factory=list)
    numbers: dict[str, float] = Field(
        default_factory=dict, description="The facts that are numbers."
    )
    ladder: list[Rung]
    blocked: list[Block] = Field(default_factory=list)
    evidence: list[Passage] = Field(default_factory=list)
    questions: list[Question] = Field(
        default_factory=list, description="Answers that would move a rung, the cheapest first."
    )
    next_steps: list[NextStep] = Field(default_factory=list)

    def concise_parts(self, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield what was asked for, the first rung, and what else is possible by name."""
        wanted = {self.approach, *asked.get("considering", ())}
        yield "summary", self.summary
        yield "approach", self.approach
        yield "decided_by", self.decided_by
        yield (
            "ladder",
            [
                each if each.rung == self.approach else each.model_copy(update=SHORT)
                for each in self.ladder
                if each.rung in wanted
            ],
        )
        yield "blocked", [each for each in self.blocked if wanted & {*each.rungs}]
        yield "facts", self.facts
        yield "questions", self.questions
        yield "possible", [each.rung for each in self.ladder if each.state == "possible"]
        yield "evidence", self.evidence[:2]
