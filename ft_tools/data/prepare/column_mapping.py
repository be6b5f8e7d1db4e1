"""The mapping from columns to a training example: declared, small, and the same for inference."""

import json
import re
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, field_validator

from ft_tools.contract import Request
from ft_tools.formats.columns import cell_at
from ft_tools.formats.scales import number_of

VerdictUse = Literal["filter", "drop_bad", "pair", "marks", "class", "ignore"]
MARKING = frozenset({"filter", "drop_bad", "pair", "marks"})
"""Uses of a column that need to know which values are good."""
GoodValues = list[str | bool | float]
PLACEHOLDER = re.compile(r"\{([^{}\n]{1,100})\}")
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
SHORT_CHARS = 40
# What tables write for "nothing here". "none" and "unknown" may be real classes.
EMPTY = {"", "n/a", "#n/a", "na", "nan", "null", "nil", "tbd", "todo", "?", "??", "???", "-", "--"}
EMPTY |= {"—", "#ref!", "#value!", "#name?", "#div/0!", "(blank)", "(empty)", "<na>", "fixme"}


LEAVE_OUT = "leave_out"


class Turns(Request):
    """Where the turns of conversations are."""

    conversation: str = Field(description="Column of ids, or of lists of turns.")
    role: str = Field(description="Field of the speaker.")
    text: str = Field(description="Field of the text.")
    roles: dict[str, Literal["system", "user", "assistant", "leave_out"]] = Field(
        default_factory=dict, max_length=30, description="Speaker -> role."
    )


class ColumnMapping(Request):
    """Which columns are asked, which are answered, and how rows are held together."""

    prompt: str = Field(
        "",
        max_length=4000,
        description="The question; {COLUMN} inserts a column.",
    )
    answer_columns: list[str] = Field(
        default_factory=list, max_length=50, description="Columns with the answer."
    )
    answer_format: Literal["text", "json"] = Field("text", description="json for several columns.")
    nullable: list[str] = Field(
        default_factory=list,
        max_length=50,
        description="Answer columns where an empty cell means null.",
    )
    answer_schema: dict[str, Any] | None = Field(None, description="Derived from the values.")
    system: str = Field("", max_length=8000, description="System text.")
    turns: Turns | None = Field(None, description="Joins turns.")
    group_by: list[str] = Field(
        default_factory=list,
        max_length=5,
        description="Rows of one customer or thread stay in one part.",
    )
    time_column: str | None = Field(
        None, description="The latest rows become the test part; turns are put in its order."
    )
    verdicts: dict[str, VerdictUse] = Field(
        default_factory=dict,
        max_length=20,
        description="Columns that mark rows -> filter (keep good), drop_bad (keep unmarked, too), "
        "pair (DPO), marks (KTO), class, ignore.",
    )
    good_values: GoodValues | dict[str, GoodValues] = Field(
        default_factory=list,
        max_length=50,
        description="What means good, for all these columns or by column: values, a condition such "
        "as '>=4', '' for unmarked.",
    )
    bad_values: GoodValues | dict[str, GoodValues] = Field(
        default_factory=list,
        max_length=50,
        description="What means bad; '*': the rest, else unmarked.",
    )
    corrected_column: str | None = Field(
        None, description="A better answer: trained on instead; with pair, preferred."
    )

    @field_validator("good_values", "bad_values", mode="before")
    @classmethod
    def _one_value_alone(cls, value: Any) -> Any:
        """Take one value as the list of it."""
        if isinstance(value, dict):
            return {name: _listed(good) for name, good in value.items()}
        return _listed(value)

    @property
    def prompt_columns(self) -> list[str]:
        """Return the columns that the question is made of."""
        return PLACEHOLDER.findall(self.prompt)

    @property
    def used_columns(self) -> set[str]:
        """Return the columns that are part of an example, or decide where it goes."""
        turns = self.turns
        used = {*self.prompt_columns, *self.answer_columns, *self.group_by}
        used |= {name for name in (self.time_column, self.corrected_column) if name}
        return used | ({turns.conversation, turns.role, turns.text} if turns else set())

    def good_of(self, column: str) -> GoodValues:
        """Return what means good in a column; empty: its values say so by themselves."""
        good = self.good_values
        return good if isinstance(good, list) else good.get(column, [])

    def bad_of(self, column: str) -> GoodValues:
        """Return what is declared as bad in a column."""
        bad = self.bad_values
        return bad if isinstance(bad, list) else bad.get(column, [])

    def marking(self, uses: Container[str]) -> list[str]:
        """Return the columns whose values mark rows for some uses; a better answer marks none."""
        named = self.verdicts.items()
        return [name for name, use in named if use in uses and name != self.corrected_column]

    @property
    def is_complete(self) -> bool:
        """Tell whether it says what is asked and what is answered."""
        return bool(self.turns or (self.prompt and self.answer_columns))

    @property
    def is_as_it_is(self) -> bool:
        """Tell whether rows are examples of a known format, or turns that are joined to some."""
        return not self.prompt and not self.answer_columns

    def over(self, proposed: "ColumnMapping") -> "ColumnMapping":
        """Return what was proposed, with the given fields in its place."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return proposed.model_copy(update=given)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | bool | int | float) else value


def format_input(mapping: ColumnMapping, row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the messages that ask a model about a row, exactly as it was trained.

    >>> mapping = ColumnMapping(prompt="{subject}: {body}", answer_columns=["team"])
    >>> format_input(mapping, {"subject": "Login", "body": "It fails."})
    [{'role': 'user', 'content': 'Login: It fails.'}]
    """
    system = [{"role": "system", "content": mapping.system}] if mapping.system else []
    return [*system, {"role": "user", "content": filled(mapping.prompt, row)}]


def filled(template: str, row: Mapping[str, Any]) -> str:
    """Put the values of a row into a template; what names no column of the row stays.

    >>> filled("{a} {b}", {"a": 1, "b": None})
    '1'
    """
    made = (
        text if name is None else text_of_cell(cell_at(row, name, text))
        for text, name in _pieces(template)
    )
    return "".join(made).strip()


@lru_cache(maxsize=64)
def _pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """Cut a template into (text, None) and (placeholder as written, column)."""
    parts = PLACEHOLDER.split(template)
    # Texts and names take turns.
    return tuple((f"{{{part}}}", part) if at % 2 else (part, None) for at, part in enumerate(parts))


def answer_of(mapping: ColumnMapping, row: Mapping[str, Any]) -> str | None:
    """Return the answer of a row; None if a part of it is empty or a placeholder.

    >>> both = ColumnMapping(answer_columns=["a", "b"], answer_format="json")
    >>> answer_of(both, {"a": "x", "b": "2"}), answer_of(both, {"a": "x", "b": "N/A"})
    ('{"a": "x", "b": "2"}', None)
    """
    values = {name: cell_at(row, name) for name in mapping.answer_columns}
    empty = {name for name, value in values.items() if is_empty(value)}
    if not values or (empty and not empty <= set(mapping.nullable)):
        return None
    if mapping.answer_format == "text":
        return "\n\n".join(map(text_of_cell, values.values()))
    properties = (mapping.answer_schema or {}).get("properties", {})
    typed = {
        name: None if name in empty else _typed(value, properties.get(name, {}))
        for name, value in values.items()
    }
    if all(type(value) is str and len(value) <= SHORT_CHARS for value in typed.values()):
        return _encoded(tuple(typed.items()))
    return _ENCODE(typed)


@lru_cache(maxsize=4096)
def _encoded(short: tuple[tuple[str, str], ...]) -> str:
    """Return an answer of classes as JSON: a table has few different ones."""
    return _ENCODE(dict(short))


def correction_of(mapping: ColumnMapping, row: Mapping[str, Any]) -> str:
    """Return the better answer of a row; empty if there is none, or the answer is repeated.

    >>> better = ColumnMapping(answer_columns=["a"], corrected_column="b")
    >>> [correction_of(better, {"a": "x", "b": b}) for b in ("y", " x", "-")]
    ['y', '', '']
    """
    value = cell_at(row, mapping.corrected_column or "")
    if not mapping.corrected_column or is_empty(value):
        return ""
    text = text_of_cell(value)
    return "" if text == answer_of(mapping, row) else text


def is_empty(value: Any) -> bool:
    """Tell whether a cell says nothing: blank, or what tables write for that."""
    if isinstance(value, str):
        return value.strip().casefold() in EMPTY
    return value is None or value != value or value in ([], {})


def text_of_cell(value: Any) -> str:
    """Return a cell as text; a whole number has no `.0`, and what is no scalar is JSON."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


MAX_CLASSES = 50
CLASS_CHARS = 40
"""Mean length up to which values that return are classes, and not replies. Ours."""
PLAIN_CLASS = re.compile(r"[\w.+/&-]{1,30}(?: [\w.+/&-]{1,20}){0,2}")
"""What a class may look like in a schema: longer values could speak to whoever reads it."""


def are_classes(counts: Mapping[Any, int]) -> bool:
    """Tell whether values are a few short ones that return, as classes do and texts do not.

    >>> are_classes({"billing": 4, "tech": 3}), are_classes({f"Dear {n}": 1 for n in range(28)})
    (True, False)
    """
    total = sum(counts.values())
    chars = sum(len(text_of_cell(value)) * count for value, count in counts.items())
    is_few = 1 < len(counts) <= MAX_CLASSES and total >= 2 * len(counts)
    return is_few and chars <= CLASS_CHARS * total


def schema_of(
    columns: Iterable[str],
    values: Mapping[str, Mapping[Any, int]],
    nullable: Container[str] = (),
) -> dict[str, Any]:
    """Derive a JSON Schema from the values of some columns: numbers, booleans, classes or texts.

    Args:
        columns: Of the answer, in order.
        values: Per column, how often which value was seen; none if there are too many different.
        nullable: Columns that may be null.
    """
    properties = {name: _property(values.get(name, {})) for name in columns}
    for name, about in properties.items():
        if name in nullable:
            null = {"type": "null"}
            properties[name] = {"anyOf": [about, null]}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _property(values: Mapping[Any, int]) -> dict[str, Any]:
    known = [value for value in values if not is_empty(value)]
    if known and all(isinstance(value, bool) for value in known):
        return {"type": "boolean"}
    if known and all(_is_number(value) for value in known):
        whole = all(float(value).is_integer() for value in known)
        return {"type": "integer" if whole else "number"}
    total = sum(values[value] for value in known)
    plain = all(PLAIN_CLASS.fullmatch(text_of_cell(value)) for value in known)
    if plain and 0 < len(known) <= MAX_CLASSES and total >= 2 * len(known):
        return {"type": "string", "enum": sorted({text_of_cell(value) for value in known})}
    return {"type": "string"}


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number, or spells one the only way a number is spelt."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    if not isinstance(value, str):
        return True
    text = value.strip()
    has_zero = len(text.lstrip("-")) > 1 and text.lstrip("-")[0] == "0" and "." not in text
    plain = re.fullmatch(r"-?\d{1,15}(?:\.\d{1,10})?", text) is not None
    return plain and not has_zero and number_of(text) is not None


def _kind_of(about: Any) -> str | None:
    """Return the type that a schema names first, null aside; a schema may also be true or false."""
    for one in about.get("anyOf", [about]) if isinstance(about, Mapping) else ():
        kinds = one.get("type") if isinstance(one, Mapping) else None
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            if kind not in (None, "null"):
                return str(kind)
    return None


def _typed(value: Any, about: Any) -> Any:
    """Return a value in the type that the schema gives its column."""
    kind = _kind_of(about)
    if kind in {"integer", "number"} and _is_number(value):
        number = float(value)
        return int(number) if kind == "integer" else number
    return value if kind == "boolean" and isinstance(value, bool) else text_of_cell(value)


SNIPPET = '''"""Ask the model about a row exactly as it was trained; needs only mapping.json."""

import json
import re
from pathlib import Path

MAPPING = json.loads((Path(__file__).parent / "mapping.json").read_text(encoding="utf-8"))


def cell(value):
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)


def find(row, name, other):
    """Return the value of a column; `a.b` is the column b of the object a."""
    if name in row:
        return row[name]
    for at in (i for i, char in enumerate(name) if char == "."):
        if isinstance(row.get(name[:at]), dict):
            return find(row[name[:at]], name[at + 1 :], other)
    return other


def format_input(row):
    # Columns of a table are known without the blanks around their names.
    row = {**{str(name).strip(): row[name] for name in row}, **row}
    put = lambda m: cell(find(row, m[1], m[0]))
    asked = re.sub(r"\\{([^{}\\n]{1,100})\\}", put, MAPPING["prompt"]).strip()
    system = [{"role": "system", "content": MAPPING["system"]}] if MAPPING["system"] else []
    return [*system, {"role": "user", "content": asked}]
'''
"""`format_input` for production, without this package."""
