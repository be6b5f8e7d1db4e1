"""The decision table: facts/approaches.toml, read and checked once."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast, get_args

from pydantic import Field, model_validator

from ft_tools.anti_patterns import rule
from ft_tools.approach.conditions import (
    APPROACHES,
    CHOICES,
    NUMBERS,
    Condition,
    Kind,
    Row,
    check,
    words_of,
)
from ft_tools.approach.request import (
    Approach,
    ApproachRequest,
    Aside,
    Considered,
    Observed,
    Rough,
    Share,
    Symptom,
    Teacher,
)

TEXT = "text"
"""The kind where no task is named."""

EACH_KIND = "each_kind"
"""Key of a row in the file that stands for one row per kind, with what the kind says."""


class Threshold(Row):
    """Where a line is drawn."""

    value: float
    units: str
    why: str
    source: str


class Evidence(Row):
    """A claim with its address. `grade` says how it was read."""

    claim: str
    source: str
    grade: Literal["read", "abstract", "excerpt", "second_hand", "judgement"]


class Alternative(Row):
    """Another approach, and when it would be the better one."""

    approach: Approach
    when: str
    unless: dict[str, Condition] = Field(default_factory=dict)
    """It is no alternative where this is known."""
    where: dict[str, Condition] = Field(default_factory=dict)
    """It is one only where this holds."""


class Later(Row):
    """A step that follows an approach."""

    approach: Approach
    why: str
    when: dict[str, Condition] = Field(default_factory=dict)


class Decision(Row):
    """A row: if all of `when` holds, this is the approach."""

    id: str
    when: dict[str, Condition] = Field(default_factory=dict)
    approach: Approach
    why: str
    evidence: list[str] = Field(min_length=1)
    anew: str = ""
    """What differs, where the approach was done already and did not suffice."""
    how: str = ""
    """On what condition it is done, where it is what is asked."""
    alternatives: list[Alternative] = Field(default_factory=list)
    leaves: dict[str, str | float] = Field(default_factory=dict)
    """What is known once this was done and missed the target, beyond what the approach leaves."""
    stop_if: str = ""  # where it is not that of the approach
    then: list[Later] = Field(default_factory=list)  # what follows, whatever the table says next
    is_general: bool = False  # it holds wherever no row above does: it may not fit


class BlockRow(Row):
    """If all of `when` holds, this approach is a mistake here."""

    approach: Approach
    rule: str
    when: dict[str, Condition]
    why: str
    until: str = ""  # what lifts it; empty: nothing does
    aside: str = ""
    """When it is good for something else than what is asked: later, and still not in the path."""
    is_firm: bool = False  # no until it is lifted, although the path comes to it later

    @property
    def evidence_source(self) -> str:
        """Return the address of the rule's evidence."""
        return rule(self.rule).source


class Duty(Row):
    """What the law asks where the data are about people. Not legal advice."""

    short: str
    rule: str
    source: str


class ObservedRow(Row):
    """The symptom that something observed is, if it is one: with training, and without."""

    trained: Symptom | Literal[""] = ""
    untrained: Symptom | Literal[""] = ""
    not_of: list[Considered] = Field(default_factory=list)
    """Training of which it is normal, and implies nothing."""


class NoteRow(Row):
    """What has to be said beside the first step: of what was observed, or of where it will run."""

    when: dict[str, Condition]
    says: str
    of: list[Approach] = Field(default_factory=list)
    """Only where one of these is in the path or asked about; empty: always."""
    is_last: bool = False
    """After the first step, as a bound; else before it, as what decides there."""
    evidence: str


class AnswerRow(Row):
    """The verdict on something that is asked about, where more is known than its place in the path.

    The first row of what is asked whose conditions hold; without one, the path answers.
    """

    asked: Considered
    when: dict[str, Condition] = Field(default_factory=dict)
    verdict: Literal["now", "later", "no"]
    condition: str = ""
    """later: after or if what; now: how."""
    why: str
    evidence: str
    of_training: bool = False
    """Is it now only where training is the first step, or was done?"""


class AssetRow(Row):
    """What something that the asker has is good for here."""

    asset: str
    use: str
    when: dict[str, Condition] = Field(default_factory=dict)


class TeacherTerms(Row):
    """What a provider's terms say of training on its answers, by use. Not legal advice."""

    sold: Literal["allowed", "forbidden", "unknown"]
    internal: Literal["allowed", "forbidden", "unknown"]
    internal_classifier: Literal["allowed", "forbidden", "unknown"]
    note: str
    source: str


class Asked(Row):
    """Needs that a question about an approach states, whatever the symptoms are."""

    needs: list[str]
    also_if_wrong: bool = True
    """Also where a symptom says that answers are wrong?"""


class Parts(Row):
    """Other approaches that an approach contains: its first stage, and what comes after."""

    now: list[Approach] = Field(default_factory=list)
    later: list[Approach] = Field(default_factory=list)
    unless: list[str] = Field(default_factory=list)
    """Needs with which they are not part of it: SFT of a small model is no classifier."""


class KindFacts(Row):
    """What is checked, measured and counted as data, by kind of what is trained.

    A row with `each_kind` names these fields in braces.
    """

    models: list[str] = Field(default_factory=list)
    """Parts of model names that say the kind, in lower case."""
    baseline: str = ""
    """What is measured before training; empty: that of the task."""
    checks: str = ""
    """What is looked at where a run of this kind disappoints, in this order."""
    test: str = ""
    amount: str = ""
    rows: str = ""
    settings: str = ""
    full: str = ""
    """When all weights are trained, where adapters are usual."""
    whole: str = ""
    """How all weights are trained, where that is usual."""
    guide: str = ""
    """What decides whether training it works; empty: what the approach says."""
    synthetic: str = ""
    teacher: str = ""
    vocabulary: str = ""
    pretraining: str = ""
    hardware: str = ""
    evidence: list[str] = Field(min_length=1)


class ClassicRow(Row):
    """A rule of thumb, shown where it applies together with its limit."""

    rule: str
    limit: str
    evidence: str
    when: dict[str, Condition]


class MeasurementRow(Row):
    """What to measure before arguing, and what a result would change."""

    measure: str
    result: str
    then: str
    evidence: str
    when: dict[str, Condition]
    approaches: list[Approach] = Field(default_factory=list)


class MistakeRow(Row):
    """A mistake that users make, and the question that catches it."""

    mistake: str
    ask: str
    evidence: str
    when: dict[str, Condition]
    approaches: list[Approach] = Field(default_factory=list)
    field: str | None = None
    """Argument that answers it: left out where `questions` asks for that."""


class Step(Row):
    """A call to suggest; `{name}` in a value is filled in from the request."""

    tool: str
    why: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class ApproachFacts(Row):
    """What an approach costs and how one starts with it."""

    summary: str
    usd_low: float
    usd_high: float | None = None
    time: str
    data: str
    running: str
    source: str
    start: str
    useful_when: str
    """What it is good for and when, where an asker proposes it and no row or block speaks of it."""
    beside_test: str = ""  # how it goes on beside a test that is still built; empty: after it
    guide: str  # what decides whether it works, whatever the situation
    stop_if: str
    leaves: dict[str, str | float] = Field(default_factory=dict)
    then: list[Later] = Field(min_length=1)
    parts: Parts = Field(default_factory=Parts)
    actions: list[str] = Field(min_length=1)
    next: list[Step] = Field(min_length=1)


class Table(Row):
    """The whole file."""

    thresholds: dict[str, Threshold]
    evidence: dict[str, Evidence]
    needs: dict[str, list[Symptom]]
    questions: dict[str, str]
    derived: dict[str, Threshold]
    rough: dict[Rough, Threshold]
    shares: dict[Share, Threshold]
    implied: dict[Considered, Symptom]
    observed: dict[Observed, ObservedRow]
    notes: list[NoteRow]
    asks_for: dict[Considered, Asked]
    kinds: dict[Kind, KindFacts]
    done: dict[Approach, dict[str, Condition]]
    presumes: dict[Considered, str]
    teachers: dict[Teacher, TeacherTerms]
    rows: list[Decision]
    assets: list[AssetRow]
    answers: list[AnswerRow]
    duties: dict[Literal["personal_data", "external_api"], Duty]
    blocks: list[BlockRow]
    classics: list[ClassicRow]
    measurements: list[MeasurementRow]
    mistakes: list[MistakeRow]
    approaches: dict[Approach, ApproachFacts]
    gpu_time: dict[str, Threshold]
    prices: dict[str, Threshold]

    @model_validator(mode="after")
    def _names_exist(self) -> "Table":
        for when in self._conditions():
            for field, condition in when.items():
                check(field, condition, self.needs.keys(), self.thresholds.keys())
        cited = {key for row in self.rows for key in row.evidence}
        cited |= {classic.evidence for classic in self.classics}
        cited |= {mistake.evidence for mistake in self.mistakes}
        cited |= {measurement.evidence for measurement in self.measurements}
        cited |= {answer.evidence for answer in self.answers}
        cited |= {note.evidence for note in self.notes}
        cited |= {key for kind in self.kinds.values() for key in kind.evidence}
        if missing := cited - self.evidence.keys():
            raise ValueError(f"evidence that is cited and not there: {sorted(missing)}")
        if self.rows[-1].when:
            raise ValueError("the last row must have no condition")
        for block in self.blocks:
            rule(block.rule)
        left = [row.leaves for row in self.rows]
        left += [facts.leaves for facts in self.approaches.values()]
        for field, value in ((f, v) for leaves in left for f, v in leaves.items()):
            known = CHOICES.get(field, ()) if isinstance(value, str) else NUMBERS
            if (value if isinstance(value, str) else field) not in known:
                raise ValueError(f"leaves {field} = {value!r}, which no condition can see")
        if missing_approaches := set(APPROACHES) - (self.implied.keys() & self.approaches.keys()):
            raise ValueError(f"approaches without facts: {sorted(missing_approaches)}")
        always = {answer.asked for answer in self.answers if not answer.when}
        if unanswered := set(get_args(Aside)) - (self.implied.keys() & always):
            raise ValueError(f"asked without an answer that always holds: {sorted(unanswered)}")
        return self

    @model_validator(mode="after")
    def _questions_name_what_exists(self) -> "Table":
        named = {need for each in self.asks_for.values() for need in each.needs}
        if unknown := named - self.needs.keys():
            raise ValueError(f"asks for {sorted(unknown)}, which no need is")
        said = {word for note in self.notes for word in note.when.get("observed", [])}
        if unsaid := set(get_args(Observed)) - (said & self.observed.keys()):
            raise ValueError(f"observed without a note: {sorted(unsaid)}")
        if self.kinds.keys() != set(get_args(Kind)):
            raise ValueError(f"kinds are {sorted(self.kinds)}, not {sorted(get_args(Kind))}")
        if bare := [
            task
            for task in (TEXT, *words_of("task"))
            if not self.kinds[cast("Kind", task)].baseline
        ]:
            raise ValueError(f"tasks without a baseline: {bare}")
        if unknown := set(self.presumes.values()) - ApproachRequest.model_fields.keys():
            raise ValueError(f"presumes {sorted(unknown)}, which no argument is")
        return self

    def _conditions(self) -> list[dict[str, Condition]]:
        later = [step for row in self.rows for step in row.then]
        later += [step for facts in self.approaches.values() for step in facts.then]
        rows = (
            self.rows,
            self.blocks,
            self.classics,
            self.measurements,
            self.mistakes,
            self.assets,
            self.answers,
            self.notes,
            later,
        )
        excluded = [other.unless for row in self.rows for other in row.alternatives]
        return [*excluded, *self.done.values(), *(row.when for part in rows for row in part)]


@cache
def table() -> Table:
    """Return the decision table."""
    text = files("ft_tools.facts").joinpath("approaches.toml").read_text(encoding="utf-8")
    file = tomllib.loads(text)
    for part in ("rows", "answers"):
        file[part] = [row for each in file[part] for row in _for_each_kind(each, file["kinds"])]
    return Table.model_validate(file)


def _for_each_kind(row: dict[str, Any], kinds: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row of the file as it is, or filled in for each kind that it names.

    Raises:
        KeyError: A kind lacks a field that the row names in braces.
    """
    if EACH_KIND not in row:
        yield row
        return
    for kind in row[EACH_KIND]:
        facts = kinds[kind] | {"kind": kind, "evidence": kinds[kind]["evidence"][0]}
        filled = {
            name: value.format_map(facts) if isinstance(value, str) else value
            for name, value in row.items()
            if name != EACH_KIND
        }
        if isinstance(row["evidence"], list):
            filled["evidence"] = kinds[kind]["evidence"]
        yield filled | {"when": row.get("when", {}) | {"kind": [kind]}}
