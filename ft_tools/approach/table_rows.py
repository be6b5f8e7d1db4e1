"""The rows of the decision table, and what each of their fields says."""

from typing import Any, Literal

from pydantic import Field

from ft_tools.anti_patterns import rule
from ft_tools.approach.conditions import Condition, Row
from ft_tools.approach.request import Approach, Considered, Symptom


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
    is_enough: bool = False  # what was observed beside it has the same cause
    evidence: str

    @property
    def is_last(self) -> bool:
        """Tell whether it follows the first step: a place bounds it, what was observed decides."""
        return "runs_on" in self.when


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

    is_prompted: bool = False
    """Does a language model do it, which comes as a raw base or a chat model and takes a prompt?"""
    is_without_context: bool = False
    """Does it take no passages, so that no missing fact can be put before it?"""
    needs: list[str] = Field(default_factory=list)
    """What the task states whatever the symptoms are."""
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
