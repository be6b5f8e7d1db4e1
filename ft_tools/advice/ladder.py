"""The ladder: the state of each rung under the facts, and the rules that block it.

The rungs are rows of ladder.toml, the rules rows of facts/anti_patterns.toml, and what each needs
or is held against by are clauses in those rows, such as "examples >= sft_minimum".
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import anti_patterns, facts
from ft_tools.advice.facts import Facts
from ft_tools.advice.report import Block, Question, Rung, State
from ft_tools.advice.request import RungId
from ft_tools.facts import Fact

COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
}
LAST = "collect_data_first"
"""The rung that is always possible."""


class Row(Fact):
    """A rung; ladder.toml says what each key means."""

    id: RungId
    title: str
    stop: str
    cost: str
    gate: bool = False
    trains: bool = False
    optional: bool = False
    open: list[str] = Field(default_factory=list)
    closed_by: list[str] = Field(default_factory=list)
    after: list[RungId] = Field(default_factory=list)
    needs: list[str] = Field(default_factory=list)
    blocked_by: list[str] = Field(default_factory=list)
    refused_as: str = ""


class Table(BaseModel):
    """The whole of ladder.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    thresholds: dict[str, dict[str, Any]]
    rungs: list[Row]
    questions: dict[str, Question]


@cache
def table() -> Table:
    """Return the ladder."""
    return Table.model_validate(facts.table_of("ladder.toml", "advice"))


def threshold(name: str) -> float:
    """Return a threshold of the ladder.

    >>> threshold("sft_minimum")
    50.0
    """
    return float(table().thresholds[name]["value"])


class Clause(NamedTuple):
    """A fact, a sign, and what it is compared with: a threshold, or words."""

    fact: str
    sign: str
    value: str

    @property
    def shown(self) -> str:
        """Return the clause with the number of its threshold."""
        if self.sign == "is":
            return f"{self.fact} {self.value.replace('|', ' or ')}"
        return f"{self.fact} {self.sign} {threshold(self.value):,.10g}"

    def holds(self, facts: Facts) -> bool | None:
        """Return whether it holds; None where the fact is unknown."""
        words = self.value.split("|")
        if self.fact == "tried":
            return True if facts.tried.intersection(words) else None
        if self.sign == "is":
            return facts.words[self.fact] in words if self.fact in facts.words else None
        if self.fact not in facts.numbers:
            return None
        return COMPARED[self.sign](facts.numbers[self.fact], threshold(self.value))

    def observed(self, facts: Facts) -> str:
        """Return what is known of the fact."""
        if self.sign == "is":
            return f"{self.fact} is {facts.words.get(self.fact, 'unknown')}"
        return f"{self.fact} is {facts.numbers[self.fact]:,.10g}"


def clause(text: str) -> Clause:
    """Parse a clause of the tables.

    >>> clause("examples >= sft_minimum").shown
    'examples >= 50'
    """
    return Clause(*text.split(" ", 2))


@dataclass(frozen=True)
class PlacedRung:
    """A rung with its state under the facts."""

    row: Row
    rung: Rung
    ids: tuple[str, ...] = ()
    """Facts and rules that decided the state."""
    before: tuple[RungId, ...] = ()
    """Possible rungs that come before it."""
    unknown: tuple[str, ...] = ()
    """Facts that it waits for."""

    @property
    def is_possible(self) -> bool:
        """Return whether no fact excludes it."""
        return self.rung.state == "possible"


def blocks(facts: Facts) -> list[Block]:
    """Return the rules that hold under the facts, with the rungs that each blocks."""
    found = []
    for rule in anti_patterns.rules().values():
        for when in rule.when:
            clauses = [clause(part) for part in when.split(" and ")]
            if not all(each.holds(facts) for each in clauses):
                continue
            limits = [f" ({each.shown})" if each.sign != "is" else "" for each in clauses]
            said = zip((each.observed(facts) for each in clauses), limits, strict=True)
            why = " and ".join(map("".join, said))
            rungs = [row.id for row in table().rungs if rule.id in row.blocked_by]
            block = {"id": rule.id, "rungs": rungs, "why": why}
            found.append(Block(**block, override=rule.override, source=rule.source))
            break
    return found


def place(
    facts: Facts, held: Iterable[Block], considering: Sequence[RungId] = ()
) -> dict[RungId, PlacedRung]:
    """Return every rung with its state, in order."""
    why = {each.id: each.why for each in held}
    placed = dict[RungId, PlacedRung]()
    for row in table().rungs:
        before = tuple(
            name
            for name, each in placed.items()
            if each.is_possible and (name in row.after or (row.trains and each.row.gate))
        )
        placed[row.id] = _placed(row, facts, why, before, considering)
    return placed


def first(placed: Mapping[RungId, PlacedRung], considering: Sequence[RungId]) -> PlacedRung:
    """Return the first rung that no fact excludes; optional ones only where they are considered."""
    return next(
        each
        for each in placed.values()
        if each.is_possible and (each.row.id in considering or not each.row.optional)
    )


def _placed(
    row: Row,
    facts: Facts,
    held: Mapping[str, str],
    before: tuple[RungId, ...],
    considering: Sequence[RungId],
) -> PlacedRung:
    needs = [clause(text) for text in row.needs]
    missing = [each.fact for each in needs if each.holds(facts) is None and each.sign != "<="]
    failing = [each for each in needs if each.holds(facts) is False]
    said = {each.fact: f"{each.observed(facts)}, needs {each.shown}" for each in failing}
    lacking = {each.fact for each in failing if each.sign == ">="}
    rules = {name: f"{name}: {held[name]}" for name in row.blocked_by if name in held}
    state: State = "possible"
    why, ids = f"after {', '.join(before)}" if before else "", list[str]()
    if row.id in facts.tried:
        state, why, ids = "done", "tried, misses the target", ["tried"]
    elif row.gate and not _is_open(row, facts, considering):
        state, why, ids = "done", "nothing is known to need it", []
    elif row.id != LAST and (rules or said.keys() - lacking):
        state, why, ids = "blocked", "; ".join([*rules.values(), *said.values()]), [*rules, *said]
    elif row.id != LAST and (said or missing):
        unknown = [f"{name} (unknown)" for name in missing]
        state, why, ids = "needs", "; ".join([*said.values(), *unknown]), [*said]
    rung = Rung(rung=row.id, state=state, why=why, cost=row.cost, stop=row.stop, source=row.source)
    return PlacedRung(row, rung, tuple(ids), before, tuple(missing))


def _is_open(row: Row, facts: Facts, considering: Sequence[RungId]) -> bool:
    """Return whether a gate has to be passed first; a count that is unknown opens it, too."""
    if any(clause(text).holds(facts) for text in row.closed_by):
        return False
    if not row.open:
        return row.id in considering
    found = [(each.sign, each.holds(facts)) for each in map(clause, row.open)]
    return any(holds or (holds is None and sign != "is") for sign, holds in found)
