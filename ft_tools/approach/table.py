"""The decision table: facts/approaches.toml, read and checked once, and its words."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ft_tools.anti_patterns import rule
from ft_tools.approach.request import (
    Approach,
    ApproachRequest,
    Aside,
    Considered,
    Rough,
    Share,
    Symptom,
    Teacher,
)

UNKNOWN = "unknown"
_YES_NO = ("yes", "no", UNKNOWN)

SETS = ("all", "any", "none")
"""Conditions on the needs: all of these, any of these, none of these."""

CONSIDERS = "considers"
CONSIDERS_NONE = "considers_none"
"""Condition on what is asked about: any of these, or none of these."""

TRIED = "tried"
"""Condition on training that was done and missed: any of these approaches."""

TASKS = (
    "label",
    "extract",
    "search",
    "table",
    "code",
    "translate",
    "image",
    "speech",
    "other",
)

PROMPTS = ("none", "zero_shot", "few_shot", "optimized")
"""From no prompt measured to the best one."""

CHOICES: Mapping[str, Sequence[str]] = {
    "named": ("yes", "no"),
    "stated": ("yes", "no"),
    "task": (*TASKS, UNKNOWN),
    "terms_open": ("yes", "no"),
    "failing": ("yes", "no"),
    "fault_of": ("none", "encoder", "examples", "preferences", "rewards", UNKNOWN),
    "personal_data": _YES_NO,
    "target_met": _YES_NO,
    "has_eval_set": _YES_NO,
    "prompting_tried": (*PROMPTS, UNKNOWN),
    "prompt_assumed": ("yes", "no"),
    "has_documents": _YES_NO,
    "retrieval": ("none", "misses", "unmeasured", "finds", UNKNOWN),
    "knowledge_changes": (
        "never",
        "yearly",
        "quarterly",
        "monthly",
        "weekly",
        "daily",
        "hourly",
        UNKNOWN,
    ),
    "wrong_with_passage": _YES_NO,
    "schema_enforced": _YES_NO,
    "has_verifiable_reward": _YES_NO,
    "small_model": ("as_good", "worse", UNKNOWN),
    "data_source": get_args(ApproachRequest.model_fields["data_source"].annotation),
    "teacher_terms": ("allowed", "forbidden", UNKNOWN),
    "product_use": ("internal", "sold", UNKNOWN),
    "weights_access": ("api_only", "open_weights", UNKNOWN),
    "thinking_at_risk": ("yes", "no"),
    "examples_have_reasoning": _YES_NO,
    "budget": ("low", "medium", "high", UNKNOWN),
    "checkpoint": ("base", "instruct", "sft_run", UNKNOWN),
}
NUMBERS = (
    "demonstrations",
    "num_demonstrations",
    "examples_per_class",
    "num_classes",
    "preference_pairs",
    "num_marks",
    "corpus_tokens",
    "context_tokens_per_day",
    "calls_per_day",
    "prompt_tokens",
    "success_fraction",
)
APPROACHES: Sequence[Approach] = get_args(Approach)


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Threshold(_Row):
    """Where a line is drawn."""

    value: float
    units: str
    why: str
    source: str


class Evidence(_Row):
    """A claim with its address. `grade` says how it was read."""

    claim: str
    source: str
    grade: Literal["read", "abstract", "excerpt", "second_hand", "judgement"]


class Range(_Row):
    """A condition on a number: bounds are names of thresholds."""

    at_least: str | None = None
    below: str | None = None
    unknown: bool = False  # does an unknown number satisfy it?


Condition = list[str] | Range


class Alternative(_Row):
    """Another approach, and when it would be the better one."""

    approach: Approach
    when: str
    unless: dict[str, Condition] = Field(default_factory=dict)
    """It is no alternative where this is known."""


class Later(_Row):
    """A step that follows an approach."""

    approach: Approach
    why: str
    when: dict[str, Condition] = Field(default_factory=dict)


class Decision(_Row):
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


class BlockRow(_Row):
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


class Duty(_Row):
    """What the law asks where the data are about people. Not legal advice."""

    short: str
    rule: str
    source: str


class AnswerRow(_Row):
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


class AssetRow(_Row):
    """What something that the asker has is good for here."""

    asset: str
    use: str
    when: dict[str, Condition] = Field(default_factory=dict)


class TeacherTerms(_Row):
    """What a provider's terms say of training on its answers, by use. Not legal advice."""

    sold: Literal["allowed", "forbidden", "unknown"]
    internal: Literal["allowed", "forbidden", "unknown"]
    internal_classifier: Literal["allowed", "forbidden", "unknown"]
    note: str
    source: str


class Asked(_Row):
    """Needs that a question about an approach states, whatever the symptoms are."""

    needs: list[str]
    also_if_wrong: bool = True
    """Also where a symptom says that answers are wrong?"""


class Parts(_Row):
    """Other approaches that an approach contains: its first stage, and what comes after."""

    now: list[Approach] = Field(default_factory=list)
    later: list[Approach] = Field(default_factory=list)
    unless: list[str] = Field(default_factory=list)
    """Needs with which they are not part of it: SFT of a small model is no classifier."""


class ClassicRow(_Row):
    """A rule of thumb, shown where it applies together with its limit."""

    rule: str
    limit: str
    evidence: str
    when: dict[str, Condition]


class MeasurementRow(_Row):
    """What to measure before arguing, and what a result would change."""

    measure: str
    result: str
    then: str
    evidence: str
    when: dict[str, Condition]
    approaches: list[Approach] = Field(default_factory=list)


class MistakeRow(_Row):
    """A mistake that users make, and the question that catches it."""

    mistake: str
    ask: str
    evidence: str
    when: dict[str, Condition]
    approaches: list[Approach] = Field(default_factory=list)
    field: str | None = None
    """Argument that answers it: left out where `questions` asks for that."""


class Step(_Row):
    """A call to suggest; `{name}` in a value is filled in from the request."""

    tool: str
    why: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class ApproachFacts(_Row):
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
    guide: str  # what decides whether it works, whatever the situation
    stop_if: str
    leaves: dict[str, str | float] = Field(default_factory=dict)
    then: list[Later] = Field(min_length=1)
    parts: Parts = Field(default_factory=Parts)
    actions: list[str] = Field(min_length=1)
    next: list[Step] = Field(min_length=1)


class Table(_Row):
    """The whole file."""

    thresholds: dict[str, Threshold]
    evidence: dict[str, Evidence]
    needs: dict[str, list[Symptom]]
    questions: dict[str, str]
    derived: dict[str, Threshold]
    rough: dict[Rough, Threshold]
    shares: dict[Share, Threshold]
    implied: dict[Considered, Symptom]
    asks_for: dict[Considered, Asked]
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
                self._check(field, condition)
        cited = {key for row in self.rows for key in row.evidence}
        cited |= {classic.evidence for classic in self.classics}
        cited |= {mistake.evidence for mistake in self.mistakes}
        cited |= {measurement.evidence for measurement in self.measurements}
        cited |= {answer.evidence for answer in self.answers}
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
            later,
        )
        excluded = [other.unless for row in self.rows for other in row.alternatives]
        return [*excluded, *self.done.values(), *(row.when for part in rows for row in part)]

    def _check(self, field: str, condition: Condition) -> None:
        if isinstance(condition, Range):
            bounds = {condition.at_least, condition.below} - {None}
            if field not in NUMBERS or not bounds or bounds - self.thresholds.keys():
                raise ValueError(f"condition on {field}: {condition} names no number or threshold")
        elif field in (CONSIDERS, CONSIDERS_NONE, TRIED):
            known = APPROACHES if field == TRIED else get_args(Considered)
            if set(condition) - set(known):
                raise ValueError(f"condition on {field}: {condition} names nothing that is asked")
        elif field in SETS:
            if set(condition) - self.needs.keys():
                raise ValueError(f"condition on {field}: {condition} names no need")
        elif field not in CHOICES or set(condition) - set(CHOICES[field]):
            raise ValueError(f"condition on {field}: {condition}; choices: {CHOICES.get(field)}")


@cache
def table() -> Table:
    """Return the decision table."""
    text = files("ft_tools.facts").joinpath("approaches.toml").read_text(encoding="utf-8")
    return Table.model_validate(tomllib.loads(text))
