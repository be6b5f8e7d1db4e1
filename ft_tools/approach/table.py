"""The decision table: facts/approaches.toml, read and checked once."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast, get_args

from pydantic import model_validator

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
from ft_tools.approach.table_rows import (
    AnswerRow,
    ApproachFacts,
    Asked,
    AssetRow,
    BlockRow,
    ClassicRow,
    Decision,
    Duty,
    Evidence,
    KindFacts,
    MeasurementRow,
    MistakeRow,
    NoteRow,
    ObservedRow,
    TeacherTerms,
    Threshold,
)

TEXT = "text"
"""The kind where no task is named."""

EACH_KIND = "each_kind"
"""Key of a row in the file that stands for one row per kind, with what the kind says."""


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
        named |= {need for kind in self.kinds.values() for need in kind.needs}
        if unknown := named - self.needs.keys():
            raise ValueError(f"asks for or states {sorted(unknown)}, which no need is")
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
        others = [other.where for row in self.rows for other in row.alternatives]
        return [*others, *self.done.values(), *(row.when for part in rows for row in part)]


@cache
def table() -> Table:
    """Return the decision table."""
    text = files("ft_tools.facts").joinpath("approaches.toml").read_text(encoding="utf-8")
    file = tomllib.loads(text)
    for part in ("rows", "answers"):
        file[part] = [row for each in file[part] for row in _for_each_kind(each, file["kinds"])]
    for part, of_it in (("answers", "asked"), ("blocks", "approach")):
        file[part] = [row for each in file[part] for row in _for_each_word(each, of_it)]
    return Table.model_validate(file)


def _for_each_word(row: dict[str, Any], field: str) -> Iterator[dict[str, Any]]:
    """Yield a row of the file as it is, or once for each word of a field that lists several."""
    words = row[field] if isinstance(row[field], list) else [row[field]]
    yield from (row | {field: word} for word in words)


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
