"""The ladder: the state of each rung under the facts. The rungs are rows of ladder.toml."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.advice.facts import Facts
from ft_tools.advice.report import Block, Rung
from ft_tools.advice.request import RungId
from ft_tools.facts import Fact


class Number(Fact):
    """A threshold."""

    value: float
    units: str
    why: str


class Ask(BaseModel):
    """What is asked where a fact is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str
    ask: str


class Row(Fact):
    """A rung; ladder.toml says what each key means."""

    id: RungId
    title: str
    stop: str
    cost: str
    gate: bool = False
    trains: bool = False
    optional: bool = False
    open: dict[str, list[str]] = Field(default_factory=dict)
    closed_by: dict[str, list[str]] = Field(default_factory=dict)
    open_below: dict[str, str] = Field(default_factory=dict)
    after: list[RungId] = Field(default_factory=list)
    only: dict[str, list[str]] = Field(default_factory=dict)
    needs: dict[str, str] = Field(default_factory=dict)
    at_most: dict[str, str] = Field(default_factory=dict)
    blocked_by: list[str] = Field(default_factory=list)
    refused_as: str = ""


class Table(BaseModel):
    """The whole of ladder.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    thresholds: dict[str, Number]
    rungs: list[Row]
    questions: dict[str, Ask]


@cache
def table() -> Table:
    """Return the ladder."""
    text = files("ft_tools.advice").joinpath("ladder.toml").read_text(encoding="utf-8")
    return Table.model_validate(tomllib.loads(text))


def threshold(name: str) -> Number:
    """Return a threshold of the ladder.

    >>> threshold("sft_minimum").value
    50.0
    """
    return table().thresholds[name]


class Placed(BaseModel):
    """A rung with its state under the facts."""

    model_config = ConfigDict(frozen=True)

    row: Row
    rung: Rung
    ids: list[str] = Field(description="Facts and rules that decided the state.")
    before: list[RungId] = Field(description="Possible rungs that come before it.")
    unknown: list[str] = Field(description="Facts that it waits for.")

    @property
    def is_possible(self) -> bool:
        """Return whether no fact excludes it."""
        return self.rung.state == "possible"


def place(facts: Facts, blocks: Sequence[Block]) -> list[Placed]:
    """Return every rung with its state, in order."""
    placed = dict[RungId, Placed]()
    for row in table().rungs:
        before = [
            name
            for name, each in placed.items()
            if each.is_possible and (name in row.after or (row.trains and each.row.gate))
        ]
        placed[row.id] = _placed(row, facts, blocks, before)
    return list(placed.values())


def first(placed: Sequence[Placed], considering: Sequence[RungId]) -> Placed:
    """Return the first rung that no fact excludes; optional ones only where they are considered."""
    return next(
        each
        for each in placed
        if each.is_possible and (each.row.id in considering or not each.row.optional)
    )


def _placed(row: Row, facts: Facts, blocks: Sequence[Block], before: list[RungId]) -> Placed:
    blocking = {each.id: each.why for each in blocks if row.id in each.rungs}
    missing, lacking = _missing(row, facts), _lacking(row, facts)
    excluded = _excluded(row, facts)
    if row.id in facts.tried:
        state, why, ids = "done", "tried, misses the target", ["tried"]
    elif row.id == "collect_data_first":
        state, why, ids = "possible", "", []
    elif row.gate and not _is_open(row, facts):
        state, why, ids = "done", "nothing is known to need it", []
    elif blocking or excluded:
        says = [*(f"{name}: {why}" for name, why in blocking.items()), *excluded.values()]
        state, why, ids = "blocked", "; ".join(says), [*blocking, *excluded, *lacking]
    elif lacking or missing:
        says = [*lacking.values(), *(f"{name} (unknown)" for name in missing)]
        state, why, ids = "needs", "; ".join(says), [*lacking]
    else:
        why = f"after {', '.join(before)}" if before else ""
        state, ids = "possible", []
    rung = Rung.model_validate(
        {
            "rung": row.id,
            "state": state,
            "why": why,
            "cost": row.cost,
            "stop": row.stop,
            "source": row.source,
        }
    )
    return Placed(row=row, rung=rung, ids=ids, before=before, unknown=missing)


def _is_open(row: Row, facts: Facts) -> bool:
    """Return whether a gate has to be passed first: by a known word, or too small a number."""
    if any(facts.words.get(name) in words for name, words in row.closed_by.items()):
        return False
    by_word = any(facts.words.get(name) in words for name, words in row.open.items())
    return by_word or any(
        facts.numbers.get(name, 0.0) < threshold(limit).value
        for name, limit in row.open_below.items()
    )


def _missing(row: Row, facts: Facts) -> list[str]:
    """Return the facts that a rung needs and that are unknown."""
    words = [name for name in row.only if name not in facts.words]
    return [*words, *(name for name in row.needs if name not in facts.numbers)]


def _lacking(row: Row, facts: Facts) -> dict[str, str]:
    """Return the known numbers that are below what a rung needs, with what it needs."""
    limits = {name: threshold(limit) for name, limit in row.needs.items() if name in facts.numbers}
    return {
        name: f"at least {limit.value:,g} {name} ({facts.numbers[name]:,g} known)"
        for name, limit in limits.items()
        if facts.numbers[name] < limit.value
    }


def _excluded(row: Row, facts: Facts) -> dict[str, str]:
    """Return the known facts that rule a rung out."""
    words = {
        name: f"{name} is {facts.words[name]}"
        for name, allowed in row.only.items()
        if name in facts.words and facts.words[name] not in allowed
    }
    numbers = {
        name: f"{name} {facts.numbers[name]:,.0f} is above {threshold(limit).value:,.0f}"
        for name, limit in row.at_most.items()
        if facts.numbers.get(name, 0.0) > threshold(limit).value
    }
    return {**words, **numbers}


def titles() -> Mapping[RungId, str]:
    """Return what each rung is called in a sentence."""
    return {row.id: row.title for row in table().rungs}
