"""What every request and every report has in common."""

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ValidationInfo

from ft_tools.errors import brief

ResponseFormat = Literal["concise", "detailed"]
EMPTY: tuple[Any, ...] = (None, [], {}, "")
NUMBERS: Mapping[Any, Literal["int_type", "float_type"]] = {
    int: "int_type",
    int | None: "int_type",
    float: "float_type",
    float | None: "float_type",
}
"""Type of a field -> the error of what is no number; to Python true is 1."""


OPTIONS = "options"
"""The argument that holds all but a tool's main arguments."""


class Request(BaseModel):
    """Arguments of a tool: frozen, and a misspelt one is refused by name.

    Every field may also stand in `options`; which ones a client is shown at the top is said by the
    tool's row in `ft_tools/tools.py`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _with_options(cls, given: Any) -> Any:
        return merged_options(given) if isinstance(given, dict) and OPTIONS in given else given

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind in NUMBERS:
            raise PydanticKnownError(NUMBERS[kind])
        return value


class ToolRequest(Request):
    """Arguments of a tool whose report has a concise and a detailed form."""

    response_format: ResponseFormat = Field(
        "concise", description="detailed: every field, and reasons with their numbers and sources."
    )


def merged_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with those of `options` beside the others.

    Raises:
        ValueError: `options` is no object, or an argument stands in both places.

    >>> merged_options({"path": "a.jsonl", "options": {"seed": 1}})
    {'path': 'a.jsonl', 'seed': 1}
    """
    options = given[OPTIONS]
    if not isinstance(options, dict):
        raise ValueError('options must be an object, such as {"seed": 1}')
    top = {key: value for key, value in given.items() if key != OPTIONS}
    if twice := sorted(top.keys() & options.keys()):
        raise ValueError(f"{', '.join(twice)}: given twice, beside options and in it; remove one")
    return top | options


def separated_options(arguments: Mapping[str, Any], main: Collection[str]) -> dict[str, Any]:
    """Return arguments as a client is shown them: all but the main ones in `options`.

    >>> separated_options({"path": "a.jsonl", "seed": 1}, ["path"])
    {'path': 'a.jsonl', 'options': {'seed': 1}}
    """
    options = {key: value for key, value in arguments.items() if key not in main}
    top = {key: value for key, value in arguments.items() if key in main}
    return top | ({OPTIONS: options} if options else {})


class Reason(BaseModel):
    """Why something was decided: the rule, the observation, the threshold and the source."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    id: str = Field("", description="Stable id of the rule, for programs.")
    rule: str = Field(description="The rule that was applied.")
    observed: str | float | int | bool | None = Field(description="What was observed.")
    threshold: str | float | int | None = Field(None, description="The value it was compared with.")
    source: str = Field(description="An address, or a key of ft_tools/facts.")


class NextStep(BaseModel):
    """A suggested next call."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    tool: str = Field(description="A tool of this server.")
    arguments: dict[str, Any] = Field(description="Arguments for the call.")
    why: str = Field(description="What it is for.")


class Report(BaseModel):
    """What a tool returns, in two forms: detailed, which is all of it, and concise."""

    CONCISE: ClassVar[tuple[str, ...]] = ()
    """Fields and properties of the concise form, the most important first; empty: all fields."""
    QUOTED: ClassVar[Mapping[str, str]] = {}
    """Field with rows that the caller asked for, which are never cut -> the argument that asks for
    them; empty: every call does."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _computed_again(cls, given: Any) -> Any:
        computed = cls.model_computed_fields
        if not isinstance(given, dict) or not computed:
            return given
        return {key: value for key, value in given.items() if key not in computed}

    def concise_parts(self, asked: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        """Yield the fields of the concise form, the most important first.

        Args:
            asked: The arguments of the call.
        """
        return (
            (name, getattr(self, name, None)) for name in self.CONCISE or type(self).model_fields
        )


def without_empty(value: Any) -> Any:
    """Drop null, empty lists, empty objects and empty texts, at every depth."""
    if isinstance(value, list):
        return [without_empty(part) for part in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_empty(part) for key, part in value.items()}
    return {key: part for key, part in kept.items() if part not in EMPTY}


def compact(report: BaseModel) -> dict[str, Any]:
    """Return a report as JSON values without what is empty; it still parses back.

    What has no default is kept, empty or not.
    """
    return dict(_compact(report.model_dump(mode="json"), report))


def _compact(dumped: Any, value: Any) -> Any:
    """Drop what is empty from dumped values; `value` is what they were dumped from.

    The arguments of a next step stay as they are: an empty list is a decision.
    """
    if isinstance(value, NextStep):
        return dumped
    if isinstance(dumped, list) and isinstance(value, list | tuple):
        return [_compact(*pair) for pair in zip(dumped, value, strict=True)]
    if isinstance(dumped, dict) and isinstance(value, BaseModel):
        needed = {key for key, field in type(value).model_fields.items() if field.is_required()}
        pairs = ((key, _compact(part, getattr(value, key, part))) for key, part in dumped.items())
        return {key: part for key, part in pairs if part not in EMPTY or key in needed}
    if isinstance(dumped, dict) and isinstance(value, dict):
        pairs = ((key, _compact(part, value.get(key, part))) for key, part in dumped.items())
        return {key: part for key, part in pairs if part not in EMPTY}
    return dumped


def complaints(request: type[BaseModel], error: ValidationError, of: str = "") -> list[str]:
    """Return a line for each thing that is wrong, or of one argument: where, what, what is allowed.

    The values themselves are repeated only where they are short, and never with a library's advice
    to visit its web site.
    """
    places: dict[str, list[dict[str, Any]]] = {}
    for detail in error.errors():
        if of and detail["loc"][:1] != (of,):
            continue
        # Of alternatives, pydantic adds the type that was tried.
        loc = tuple(part for part in detail["loc"] if "[" not in str(part))
        if detail["type"] in ALTERNATIVES and loc and loc[-1] in TRIED:
            loc = loc[:-1]
        places.setdefault(".".join(map(str, loc)), []).append(dict(detail) | {"loc": loc})
    return [
        # What concerns several arguments names them itself.
        line.removeprefix(": ")
        for where, details in places.items()
        for line in (
            [_alternatives(request, where, details)]
            if len(details) > 1 and all(d["type"] in ALTERNATIVES for d in details)
            else [_line(request, where, detail) for detail in details]
        )
    ]


KINDS = {
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "string": "a string",
}
"""What a value must be, by how the library's errors of it begin."""
UNREAD = {f"{kind}_{end}" for kind in KINDS for end in ("type", "parsing", "from_float")}
ALTERNATIVES = {"literal_error", "model_type", "dict_type", "list_type", "tuple_type", *UNREAD}
"""What a value of another kind is refused with, once for each kind that an argument takes."""
TRIED = {"bool", "int", "float", "str"}
"""What the library calls the kinds that it tried."""


def _alternatives(request: type[BaseModel], where: str, details: list[dict[str, Any]]) -> str:
    """Return in one line what a value may be, where several kinds would do: words first."""
    words = sorted(details, key=lambda detail: detail["type"] != "literal_error")
    kinds = dict.fromkeys(problem(request, detail).removeprefix("must be ") for detail in words)
    got = f"{shown(words[0]['input'])}{_meant(words[0])}"
    return f"{where}: must be {' or '.join(kinds)}, got {got}{_if_null(request, words[0])}"


def shown(value: Any) -> str:
    """Return a value as an error repeats it: short, and as JSON if it is no text."""
    return brief(repr(value) if isinstance(value, str) else json.dumps(value, default=repr))


def _model_at(request: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel]:
    """Return the model of a nested argument: the one whose argument is not known."""
    models = [request]
    for name in map(str, loc):
        fields = [one.model_fields[name] for one in models if name in one.model_fields]
        # Of several kinds of object the place names the one that was meant.
        kinds = [(one, one.model_fields.get("kind")) for one in models]
        meant = [one for one, kind in kinds if kind and name in get_args(kind.annotation)]
        models = (
            [one for field in fields for one in _models_in(field.annotation)] or meant or models
        )
    return models[0]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models of a type, those of its items and alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in get_args(annotation) for one in _models_in(part)]


def _line(request: type[BaseModel], where: str, detail: dict[str, Any]) -> str:
    if detail["type"] == "extra_forbidden":
        known = list(_model_at(request, detail["loc"][:-1]).model_fields)
        return no_such("argument", where, known)
    if detail["type"] == "missing":
        field = _model_at(request, detail["loc"][:-1]).model_fields.get(str(detail["loc"][-1]))
        about = f" ({field.description})" if field and field.description else ""
        return f"{where}: required and missing{about}"
    if detail["type"] == "value_error":
        said = detail["msg"].removeprefix("Value error, ")
        value = detail["input"]
        is_news = isinstance(value, str | int | float) and str(value) not in said
        return f"{where}: {said}" + (f", got {shown(value)}" if is_news else "")
    if detail["type"] in {"too_long", "too_short"}:
        limits = detail["ctx"]
        most = limits.get("max_length")
        takes = f"at least {limits['min_length']}" if most is None else f"at most {most}"
        return f"{where}: takes {takes}, got {limits['actual_length']}"
    value = shown(detail["input"])
    if detail["type"] == "string_pattern_mismatch":
        field = _model_at(request, detail["loc"][:-1]).model_fields.get(str(detail["loc"][-1]))
        about = f"; expected: {field.description}" if field and field.description else ""
        default = field.default if field and isinstance(field.default, str) else ""
        like = f", as {default!r} does" if default else ""
        return f"{where}: {value} does not match {detail['ctx']['pattern']}{like}{about}"
    got = f"{value}{_meant(detail)}{_if_null(request, detail)}"
    return f"{where}: {problem(request, detail)}, got {got}"


def _if_null(request: type[BaseModel], detail: dict[str, Any]) -> str:
    """Return what to send instead of null, where the argument has a default."""
    *path, name = detail["loc"] or ("",)
    field = _model_at(request, tuple(path)).model_fields.get(str(name))
    has_default = field is not None and not field.is_required()
    return "; leave it out for its default" if detail["input"] is None and has_default else ""


def no_such(kind: str, name: str, known: list[str]) -> str:
    """Return what a misspelt name is refused with; of a nested one the last part is misspelt."""
    near = difflib.get_close_matches(name.rsplit(".", 1)[-1], known, n=1, cutoff=0.6)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{name}: no such {kind}; {guess}known: {', '.join(known)}"


def problem(request: type[BaseModel], detail: dict[str, Any]) -> str:
    """Return what a value must be, as JSON has it and not the library."""
    if detail["type"] == "model_type":
        names = _model_at(request, detail["loc"]).model_fields
        return f"must be an object of {', '.join(names)}"
    if detail["type"] == "dict_type":
        return 'must be an object, such as {"NAME": VALUE}'
    if detail["type"] in {"list_type", "tuple_type"}:
        one = detail["input"]
        is_short = isinstance(one, str) and len(one) <= 80
        return f"must be a list, such as {json.dumps([one])}" if is_short else "must be a list"
    if detail["type"] in UNREAD:
        return f"must be {KINDS[detail['type'].split('_')[0]]}"
    said = str(detail["msg"])
    return said.replace("Input should be", "must be", 1).replace("String should", "must", 1)


def _meant(detail: Mapping[str, Any]) -> str:
    """Return a question after the nearest of the allowed words; empty if none is near."""
    if detail["type"] != "literal_error":
        return ""
    allowed = re.findall("'([^']+)'", detail["ctx"]["expected"])
    near = difflib.get_close_matches(str(detail["input"]), allowed, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
