"""The mapping from columns to training examples: named by the caller, applied exactly.

Nothing here guesses what a column or a value means: `conditions` are compared exactly.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ft_tools.contract import Request
from ft_tools.data.judge.findings import note
from ft_tools.data.map.conditions import (
    ByColumn,
    Choices,
    Regex,
    Values,
    is_one_of,
    listed,
    values_at,
)
from ft_tools.formats.column_counts import cell_at, is_named, number_of

PLACEHOLDER = re.compile(r"\{([^{}\n]{1,100})\}")
LEAVE_OUT = "leave_out"
FIRST_SPEAKER, LAST = "first speaker", "last"


Replacements = dict[Regex, str]
"""Regular expression -> text that stands for what it finds."""


def _unbraced(value: Any) -> Any:
    """Return the name of a column that is written as a template inserts it."""
    if isinstance(value, list):
        return [_unbraced(one) for one in value]
    if isinstance(value, dict):
        return {key: _unbraced(one) for key, one in value.items()}
    found = PLACEHOLDER.fullmatch(value.strip()) if isinstance(value, str) else None
    return found[1] if found else value


Name = Annotated[str, BeforeValidator(_unbraced)]
Names = Annotated[list[str], BeforeValidator(_unbraced), BeforeValidator(listed)]
Answer = Annotated[list[str] | dict[str, str], BeforeValidator(_unbraced), BeforeValidator(listed)]
"""Columns, or key of a JSON object -> column."""


class Lookup(Request):
    """A list in each row, or another list or sheet of the same file: who a speaker is."""

    list: str = Field(description="Its name, such as users.")
    id: str = Field(description="Key that equals the speaker of a turn.")
    role: str = Field(description="Key of what `roles` names instead, such as agent.")


class Tree(Request):
    """Where turns are a tree, as in a ChatGPT export: discarded answers are other branches."""

    id: str = Field("id", description="Key of a turn's id.")
    parent: str = Field("parent", description="Key with the id of the turn before.")
    last: str = Field("current_node", description="Column with the id of the last turn.")


class Turns(Request):
    """Where the turns of conversations are, and who speaks in which role."""

    conversation: str = Field(
        description="Column with a list of turns, or with an id (one row per turn)."
    )
    role: str = Field(description="Key of the speaker in a turn, or column.")
    role_from: Lookup | None = Field(
        None,
        description="Where speakers are ids: the list (in each row, or another one of the file), "
        "id and role that say who each is.",
    )
    text: str = Field(description="Key of the text in a turn, or column.")
    roles: dict[str, Literal["system", "user", "assistant", "tool", "leave_out"]] = Field(
        default_factory=dict,
        max_length=60,
        description="Speaker -> role; '*' for all others, speakers named user or assistant, too.",
    )
    user: str | None = Field(
        None,
        description="Column that names the speaker who is the user, such as requester.id; or "
        "'first speaker': whoever wrote the first turn. `roles` says who the others are.",
    )
    tree: Tree | None = Field(None, description="Where the turns of a list are a tree.")
    order: str | None = Field(None, description="Key or column that turns are ordered by.")
    first: str | None = Field(None, description="Column with the user's first turn.")
    starts_with: Literal["user", "assistant"] | None = Field(
        None, description="Role of the first turn that is kept; other conversations are left out."
    )
    ends_with: Literal["user", "assistant"] | None = Field(
        None, description="Role of the last turn; other conversations are left out."
    )
    first_turn: ByColumn = Field(
        default_factory=dict,
        description="Key -> values that the first turn has, such as {reactions[].name: !=lock}; "
        "other conversations are left out.",
    )
    keep: Choices = Field(
        default_factory=list,
        description="Key -> values of turns to keep; of a list (reactions[].name) one item is "
        "enough, and none may be what != names.",
    )
    drop: ByColumn = Field(default_factory=dict, description="Key -> values of turns to drop.")
    questions: int | None = Field(
        None, ge=1, description="Turns of the user that are kept; later ones are left out."
    )
    answers: Annotated[int, Field(ge=1)] | Literal["last"] | None = Field(
        None,
        description="Turns of the assistant after which a conversation ends; 'last' leaves out all "
        "but the last one.",
    )
    separator: str = Field(
        "\n\n", max_length=20, description="Between the texts of one speaker's turns in a row."
    )

    @property
    def columns(self) -> list[str]:
        """Return the columns that are read beside the turns."""
        user = None if self.user == FIRST_SPEAKER else self.user
        return [name for name in (self.first, user, self.tree and self.tree.last) if name]

    @property
    def keys(self) -> list[str]:
        """Return the keys that are read of a turn."""
        tree = [self.tree.id, self.tree.parent] if self.tree else []
        chosen = [name for one in (*self.keep, self.drop, self.first_turn) for name in one]
        return [self.role, self.text, *filter(None, [self.order]), *tree, *chosen]

    @model_validator(mode="after")
    def _has_one_order(self) -> "Turns":
        if self.order and self.tree:
            raise ValueError("order and tree exclude each other: the path of a tree is an order")
        return self


class CorrectionColumn(Request):
    """A column of better answers, and when the given one is used all the same."""

    column: Name = Field(description="Column with the better answers.")
    as_given: Values = Field(
        default_factory=list, description="Values that approve the given answer, such as ok."
    )
    when: ByColumn = Field(
        default_factory=dict,
        description="Column -> values, such as {verdict: fix}, of the rows whose better answer is "
        "used; others keep the given one.",
    )


def _named(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class Marks(Request):
    """A column that says how good each answer is."""

    column: str = Field(description="Column with the marks.")
    good: Values = Field(min_length=1, description="Values or a bound such as '>=4'.")
    bad: Values = Field(min_length=1, description="Values or a bound.")
    neither: Values = Field(default_factory=list, description="Values of rows to leave out.")


class Picked(Request):
    """A column that says which of two answers is the better one."""

    column: Name = Field(description="Column that says which answer was chosen.")
    answers: dict[str, Name] = Field(
        min_length=2, max_length=20, description="Value -> column of the answer that it chooses."
    )
    neither: Values = Field(default_factory=list, description="Values of rows to leave out.")

    @model_validator(mode="after")
    def _has_two_answers(self) -> "Picked":
        if len(self.columns) != 2:
            raise ValueError(f"answers names {len(self.columns)} columns: a pair needs two")
        return self

    @property
    def columns(self) -> list[str]:
        """Return the columns of the two answers."""
        return list(dict.fromkeys(self.answers.values()))

    @property
    def judging(self) -> list[str]:
        """Return the columns that say which answer is the better one."""
        return [self.column]

    def sides(self, row: Mapping[str, Any]) -> list[str]:
        """Return the columns of the chosen and the other answer; none if none was chosen."""
        values, answers = values_at(row, self.column), self.answers.items()
        chosen = {name for one in values for answer, name in answers if is_one_of(one, [answer])}
        if len(chosen) != 1 or any(is_one_of(value, self.neither) for value in values):
            return []
        return sorted(self.columns, key=lambda name: name not in chosen)


class HigherRated(Request):
    """Two columns with numbers: the answer with the higher one is the better one."""

    higher: dict[str, Name] = Field(
        min_length=2,
        max_length=2,
        description="Column with a number -> column of the answer that it rates; rows with equal "
        "numbers are left out.",
    )

    @property
    def columns(self) -> list[str]:
        """Return the columns of the two answers."""
        return [*self.higher.values()]

    @property
    def judging(self) -> list[str]:
        """Return the columns that say which answer is the better one."""
        return [*self.higher]

    def sides(self, row: Mapping[str, Any]) -> list[str]:
        """Return the columns of the chosen and the other answer; none if none was chosen."""
        rated = [(number_of(cell_at(row, name)), of) for name, of in self.higher.items()]
        numbers = [(number, of) for number, of in rated if number is not None]
        if len({number for number, _ in numbers}) != 2:
            return []
        return [of for _, of in sorted(numbers, reverse=True)]


class Use(NamedTuple):
    """A column that a mapping reads of a row."""

    column: str
    values: Sequence[Any] = ()
    """By which it chooses rows; some row has each."""
    is_single: bool = False
    """Whether it has one value per row: no items of a list."""


class ColumnMapping(Request):
    """What the columns of a file mean; every other column has to be ignored by name."""

    prompt: str = Field(
        "", max_length=4000, description="One column, or a text in which {COLUMN} inserts a column."
    )
    answer: Answer = Field(
        default_factory=list,
        max_length=50,
        description="Column, a text in which {COLUMN} inserts one, or one JSON object: a list of "
        "several, or key -> column.",
    )
    nullable: Names = Field(
        default_factory=list, max_length=50, description="Answer columns in which empty is null."
    )
    answer_schema: dict[str, Any] | None = Field(
        None, description="JSON Schema of the answer; keys that it does not name: from the values."
    )
    system: str = Field("", max_length=8000, description="System text of every example.")
    turns: Turns | None = Field(None, description="Where conversations are.")
    corrected: Annotated[CorrectionColumn | None, BeforeValidator(_named)] = Field(
        None, description="Column of better answers, used instead where filled."
    )
    chosen: Name | Picked | HigherRated | None = Field(
        None, description="Column of the preferred answer (DPO), or how another column says it."
    )
    rejected: Name | None = Field(None, description="Column of the other answer.")
    marks: Marks | None = Field(None, description="Good and bad answers (KTO).")
    keep: Choices = Field(
        default_factory=list,
        description="Column -> values, a bound such as '>=4' or '>=2026-04-01', or "
        '{"pattern": "^REGEX"}, of rows to keep: all columns must fit (one item '
        "of a list is enough); of a list of such objects, one.",
    )
    drop: ByColumn = Field(
        default_factory=dict, description="Column -> values of rows to drop: any column fits."
    )
    group_by: Names = Field(
        default_factory=list,
        max_length=5,
        description="Rows with the same values (one customer, one thread) stay in one part.",
    )
    time_column: Name | None = Field(None, description="The latest rows become the test part.")
    ignore: Names = Field(
        default_factory=list,
        max_length=200,
        description="Columns that are not used; '*' is all that are left.",
    )
    mask: Names | None = Field(
        None,
        description="Columns in which secrets and personal data are masked (null, '*': all, []: "
        "none).",
    )
    replace: Replacements = Field(
        default_factory=dict,
        max_length=20,
        description="Regular expression -> text that stands for it ('' removes it, such as "
        "signatures) in every turn, with calls and results of tools, before values get types.",
    )
    plain_html: bool = Field(
        False, description="HTML in answers, and in all turns, becomes text: lines, no tags."
    )

    @field_validator("prompt")
    @classmethod
    def _one_column(cls, value: str) -> str:
        """Return a prompt without placeholders as the column that it names."""
        return value if not value or PLACEHOLDER.search(value) else f"{{{value}}}"

    @model_validator(mode="after")
    def _fits_together(self) -> "ColumnMapping":
        better, picked = self.corrected, self.picked
        answers = [*self.answer_columns, *self.sides, *([better.column] if better else [])]
        asked = (
            name
            for name in self.prompt_columns
            if is_named(name, answers) or any(is_named(one, [name]) for one in answers)
        )
        known = {*self.answer_keys, *self.answer_keys.values()}
        several = self.is_json and isinstance(self.answer, list)
        seen = next(asked, None)
        unknown = next((name for name in self.nullable if name not in known), None)
        template = next((one for one in self.answer if several and PLACEHOLDER.search(one)), None)
        kinds = [bool(self.answer), bool(self.chosen), bool(self.turns)]
        wrong = {
            "prompt_without_column": self.prompt and not self.prompt_columns,
            "nullable_unknown": unknown,
            "text_among_columns": template,
            "rejected_beside_picked": picked and self.rejected,
            "one_side_only": not picked and bool(self.chosen) != bool(self.rejected),
            "several_answers": sum(kinds) > 1,
            "asked_or_answered_only": bool(self.prompt) != bool(self.answer or self.chosen),
            "corrected_of_json": better and (len(self.answer) != 1 or self.is_json),
            "schema_of_text": self.answer_schema and not self.is_json,
            "marks_beside_others": self.marks and (self.chosen or better),
            "answer_in_prompt": seen,
        }
        fields = {
            "prompt": self.prompt[:40],
            "unknown": unknown,
            "template": template,
            "seen": seen,
        }
        if found := [note(name, **fields) for name, is_there in wrong.items() if is_there]:
            raise ValueError("; ".join(found))
        return self

    @property
    def picked(self) -> Picked | HigherRated | None:
        """Return how other columns say which answer is preferred, if they do."""
        return None if isinstance(self.chosen, str) else self.chosen

    @property
    def masked_columns(self) -> list[str]:
        """Return the columns that are masked by name; none where all are, or nothing is."""
        return [] if self.masks_all else self.mask or []

    @property
    def masks_all(self) -> bool:
        """Return whether all columns are masked."""
        return self.mask is None or "*" in self.mask

    @property
    def prompt_columns(self) -> list[str]:
        """Return the columns that the question is made of."""
        return PLACEHOLDER.findall(self.prompt)

    @property
    def answer_columns(self) -> list[str]:
        """Return the columns that the answer is made of."""
        return list(dict.fromkeys(self.answer_keys.values()))

    @property
    def answer_keys(self) -> dict[str, str]:
        """Return what of the answer comes from which column, under its key in JSON."""
        if isinstance(self.answer, dict):
            return self.answer
        names = [name for one in self.answer for name in PLACEHOLDER.findall(one) or [one]]
        return dict(zip(names, names, strict=True))

    def is_nullable(self, key: str) -> bool:
        """Return whether empty is null under a key of a JSON answer."""
        return not {key, self.answer_keys[key]}.isdisjoint(self.nullable)

    @property
    def sides(self) -> list[str]:
        """Return the columns of the two answers of a pair."""
        if self.picked:
            return self.picked.columns
        return [name for name in (self.chosen, self.rejected) if isinstance(name, str)]

    @property
    def is_json(self) -> bool:
        """Return whether answers are JSON objects."""
        return isinstance(self.answer, dict) or len(self.answer) > 1 or bool(self.nullable)

    @property
    def is_as_it_is(self) -> bool:
        """Return whether rows are examples of a known format already, or conversations."""
        return not self.prompt

    @property
    def uses(self) -> list[Use]:
        """Return which columns of a row are used, and how; those of turns apart."""
        better = self.corrected
        single = [*self.prompt_columns, *self.answer_columns, *self.sides]
        single += [name for name in (better and better.column, self.time_column) if name]
        rules = [*self.keep, self.drop]
        rules += [better.when, {better.column: better.as_given}] if better else []
        others = [*self.group_by, *([self.marks.column] if self.marks else [])]
        others += self.picked.judging if self.picked else []
        return [
            *(Use(name, is_single=True) for name in single),
            *(Use(name, values) for rule in rules for name, values in rule.items()),
            *map(Use, others),
        ]

    @property
    def row_columns(self) -> list[str]:
        """Return the columns of a row that are used, but for those of turns."""
        return list(dict.fromkeys(use.column for use in self.uses))

    def used_columns(self, *, is_turn: bool = False) -> set[str]:
        """Return the columns that are used of a row, or of one that is a turn by itself.

        Of a list of turns, its keys are among them: what turns have besides has to be decided, too.
        """
        used, turns = set(self.row_columns), self.turns
        if turns is not None:
            inner = [f"{turns.conversation}[].{key}" for key in turns.keys]
            inner += [f"{name}[]" for name in inner]
            used |= {turns.conversation, f"{turns.conversation}[]", *turns.columns}
            used.update(turns.keys if is_turn else inner)
        return used
