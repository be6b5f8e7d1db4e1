"""The checks that a caller declares; `scorer.py` scores each kind.

Paths are relative to the workspace, wherever the dataset is.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from ft_tools.contract import Request
from ft_tools.endpoints.spec import Endpoint, Price

MOST_CHECKS = 8
MOST_TEXTS = 100
JSON_PATH = re.compile(r"(?:[^.\[\]\s]+|\[\d+\])(?:\.[^.\[\]\s]+|\[\d+\])*")
PathText = Annotated[str, Field(pattern=f"^{JSON_PATH.pattern}$", max_length=200)]
Column = Annotated[str, Field(min_length=1, max_length=200)]


def plain_pattern(value: str) -> str:
    """Return a pattern that compiles; refuse another."""
    # Only a request with a pattern loads the library.
    import regex

    try:
        regex.compile(value)
    except regex.error as error:
        raise ValueError(f"is not a valid pattern: {error}") from error
    return value


PatternText = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(plain_pattern)]


class Extract(Request):
    """Where in the answer the value is; one of the two."""

    pattern: PatternText | None = Field(
        None, description="Pattern; its group, or else its match, is the value."
    )
    json_path: PathText | None = Field(None, description='Place in a JSON answer: "a.b[0]".')

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.pattern is None) == (self.json_path is None):
            raise ValueError("set either pattern or json_path")
        return self


class CheckBase(Request):
    """What all kinds have; fields of the same name mean the same in each."""

    weight: float = Field(1, gt=0, le=1000, description="Share of the total, beside the others'.")
    name: str = Field(
        "", pattern=r"^[A-Za-z0-9_-]{0,40}$", description="Default: its kind, numbered."
    )

    @property
    def columns(self) -> list[str]:
        """Return the columns that it reads."""
        named = [getattr(self, field, None) for field in ("reference", "texts", "column")]
        named += getattr(self, "values", {}).values()
        return [one for one in named if isinstance(one, str)]

    @property
    def files(self) -> list[str]:
        """Return the paths of the files that it reads."""
        named = [getattr(self, "schema_", None), getattr(self, "path", None)]
        named += getattr(self, "databases", [])
        return [one for one in named if isinstance(one, str)]


class Equals(CheckBase):
    """The answer's value is the reference's, but for case and spaces; JSON by its values."""

    kind: Literal["equals"]
    reference: Column = Field("answer", description="Column with the value.")
    extract: Extract | None = Field(None, description="Default: the whole answer.")
    case_sensitive: bool = False


class Number(CheckBase):
    """The answer's number is the reference's within the larger tolerance."""

    kind: Literal["number"]
    reference: Column = Field("answer", description="Column with the number.")
    extract: Extract | None = Field(None, description="Default: the last number.")
    absolute_tolerance: float = Field(0, ge=0)
    relative_tolerance: float = Field(0, ge=0, lt=1)


class JsonSchema(CheckBase):
    """The whole answer is JSON of a schema; scored is the share of values that are right."""

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["json_schema"]
    schema_: dict[str, Any] | str = Field(
        alias="schema", description="The schema, or the path of a .json file in the workspace."
    )
    values: dict[PathText, Column] = Field(
        default_factory=dict,
        max_length=50,
        description="Place in the answer -> column with its value.",
    )


class Pattern(CheckBase):
    """All of the answer matches a pattern."""

    kind: Literal["pattern"]
    pattern: PatternText


class Texts(CheckBase):
    """contains: 1 if all texts occur, lines of the prompt apart; lacks: 1 if none does."""

    kind: Literal["contains", "lacks"]
    texts: Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)] | Column = Field(
        description='Texts in any case, or the column with a text, a list, or {"regex": ...}.'
    )


class Length(CheckBase):
    """1 within a band, falling in a straight line to 0 at nothing and at twice the maximum."""

    kind: Literal["length"]
    min: int = Field(0, ge=0)
    max: int = Field(ge=1, le=1_000_000)
    unit: Literal["characters", "words"] = "words"

    @model_validator(mode="after")
    def _is_band(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max {self.max}; min must be at most max")
        return self


class Tests(CheckBase):
    """1 if the answer's code passes all tests; both run in isolation, apart from each other."""

    kind: Literal["tests"]
    column: Column = Field(
        description="Column with the tests: Python, as text or as a list of texts."
    )
    entry_point: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*$",
        description="Function that the tests call as `candidate`; or the column with its name.",
    )
    seconds: float = Field(5, gt=0, le=60, description="For all tests of an answer.")


class Sql(CheckBase):
    """The answer's query has the rows of the reference's in each database."""

    kind: Literal["sql"]
    databases: list[str] = Field(
        min_length=1,
        max_length=10,
        description="SQLite files in the workspace; with one, a constant may pass for a query.",
    )
    reference: Column = Field("answer", description="Column with the right query.")
    ordered: bool = Field(False, description="Whether the order of the rows counts.")
    seconds: float = Field(5, gt=0, le=60, description="For all queries of an answer.")


class Judge(CheckBase):
    """A model passes or fails the answer by a rubric."""

    kind: Literal["judge"]
    endpoint: Endpoint
    rubric: str = Field(min_length=1, max_length=4000, description="What a good answer is.")
    price: Price | None = Field(None, description="Required by budget_usd.")
    budget_usd: float | None = Field(None, gt=0, description="Never exceeded.")

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.budget_usd is not None and not (self.price and self.price.bounds_calls):
            raise ValueError("budget_usd requires price, of a million input and output tokens")
        return self


class Python(CheckBase):
    """The user's own function, in a process of its own, isolated where possible."""

    kind: Literal["python"]
    path: str = Field(
        description="File in the workspace with `def score(answer: str, row: dict) -> float | "
        "None`: 0 to 1; None or an exception: not scored."
    )
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="Filled in by the plan.")
    seconds: float = Field(5, gt=0, le=60, description="For each answer.")


KINDS = (
    "equals", "number", "json_schema", "pattern", "contains", "lacks", "length", "tests", "sql",
    "judge", "python",
)  # fmt: skip


def _kind_of(value: Any) -> str | None:
    """Return the kind of a check, given or read; None where it is not known."""
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in KINDS else None


Check = Annotated[
    Annotated[Equals, Tag("equals")]
    | Annotated[Number, Tag("number")]
    | Annotated[JsonSchema, Tag("json_schema")]
    | Annotated[Pattern, Tag("pattern")]
    | Annotated[Texts, Tag("contains")]
    | Annotated[Texts, Tag("lacks")]
    | Annotated[Length, Tag("length")]
    | Annotated[Tests, Tag("tests")]
    | Annotated[Sql, Tag("sql")]
    | Annotated[Judge, Tag("judge")]
    | Annotated[Python, Tag("python")],
    Discriminator(
        _kind_of,
        custom_error_type="unknown_kind",
        custom_error_message=f"must be an object with a kind of {', '.join(KINDS)}",
    ),
]
"""A declared check."""
NEVER_ALONE = frozenset({"length", "lacks", "judge"})
"""Kinds that wrong answers can meet: of form, or a model that can be talked over."""


def check_names(checks: Sequence[Check]) -> list[str]:
    """Return the name of each check: its own, or its kind, numbered where it is repeated.

    Raises:
        ValueError: Two have the same.
    """
    unnamed, seen = Counter(one.kind for one in checks if not one.name), Counter[str]()
    names = []
    for one in checks:
        seen[one.kind] += not one.name
        numbered = f"{one.kind}_{seen[one.kind]}" if unnamed[one.kind] > 1 else one.kind
        names.append(one.name or numbered)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"two checks are called {twice[0]!r}; give each its own name")
    return names


def require_goal(checks: Sequence[Check]) -> None:
    """Refuse checks none of which depends on the answer being right.

    Raises:
        ValueError: All are of kinds that reward form alone, or a judge that can be talked over.
    """
    if all(one.kind in NEVER_ALONE for one in checks):
        kinds = ", ".join(sorted({one.kind for one in checks}))
        raise ValueError(
            f"{kinds} alone can be met by wrong answers; add a check of what is right, such as "
            "equals, number, json_schema or tests"
        )
