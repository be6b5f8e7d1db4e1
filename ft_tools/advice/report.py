"""What recommend_approach returns."""

from typing import Literal

from pydantic import Field

from ft_tools.advice.request import RungId
from ft_tools.contract import NextStep, Report

State = Literal["done", "possible", "blocked", "needs"]


class Fact(Report):
    """Something computed from what was passed."""

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

    id: str = Field(description="As `accept_findings` of a launch takes it.")
    rungs: list[RungId] = Field(
        default_factory=list, description="Which it blocks; detailed reports only."
    )
    why: str = Field(description="The fact that it was derived from.")
    override: str = ""
    source: str = ""


class Passage(Report):
    """A passage of the references."""

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
        default_factory=dict, description="The facts that are numbers; detailed reports only."
    )
    ladder: list[Rung]
    others: dict[State, list[RungId]] = Field(
        default_factory=dict, description="Rungs that a concise report only names."
    )
    blocked: list[Block] = Field(default_factory=list)
    evidence: list[Passage] = Field(default_factory=list)
    questions: list[Question] = Field(
        default_factory=list, description="Answers that would move a rung, the cheapest first."
    )
    next_steps: list[NextStep] = Field(default_factory=list)
