"""The options of a command, from the fields of its tool's request."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Parameter, Token
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ft_tools.contract import complaints
from ft_tools.errors import BadInput


def option_of(
    key: str, request: type[BaseModel], by_position: list[str], *, is_shown: bool
) -> inspect.Parameter:
    """Return the option of a field, which may also be set by its position."""
    field = request.model_fields[key]
    kind: Any = inspect.Parameter.KEYWORD_ONLY
    # After a position that may be empty no other can be required; the request refuses it then.
    is_required = field.is_required()
    if key in by_position:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        before = by_position[: by_position.index(key)]
        is_required &= all(request.model_fields[one].is_required() for one in before)
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    typed, how = _typed(field.annotation)
    option = f"--{key.replace('_', '-')}"
    extra = f" As JSON, or {option}.NAME VALUE." if isinstance(how, partial) else ""
    if keys := _keys(field.annotation):
        extra += f" Names: {keys}."
    about = Parameter(
        help=f"{field.description}{extra}",
        show=is_shown,
        show_default=(lambda _: default) if default not in (None, [], {}, (), "") else False,
        negative=None if typed is bool else (),
        converter=how and partial(_checked, how, key, request),
        consume_multiple=1 if get_origin(typed) is list else None,
        # A pattern such as [qk]_proj is no list, and what is broken is refused in our words.
        json_list=False,
    )
    annotation: Any = Annotated[typed, about]
    if is_required:
        return inspect.Parameter(key, kind, annotation=annotation)
    annotation = Annotated[typed | None, about]
    return inspect.Parameter(key, kind, default=None, annotation=annotation)


def as_flags(words: Sequence[str], fields: Mapping[str, FieldInfo]) -> list[str]:
    """Read `--flag true` as `--flag`, and `--flag false` as `--no-flag`, as JSON would say it."""
    flags = {
        f"--{key.replace('_', '-')}"
        for key, field in fields.items()
        if _typed(field.annotation)[0] is bool
    }
    read: list[str] = []
    for word in words:
        if word not in ("true", "false") or not read or read[-1] not in flags:
            read.append(word)
        elif word == "false":
            read[-1] = f"--no-{read[-1].removeprefix('--')}"
    return read


def _typed(annotation: Any) -> tuple[Any, Callable[..., Any] | None]:
    """Return what the command line takes for a field, and how it is read if not as that type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _typed(get_args(annotation)[0])
    if origin in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _typed(parts[0]) if len(parts) == 1 else _of_several(annotation, parts)
    if origin is dict or _is_model(annotation):
        return dict[str, Any], partial(_object, _lists(annotation))
    if origin in (list, tuple):
        item = _unmarked(get_args(annotation)[0])
        inner, how = _typed(item)
        if get_origin(item) in (Union, UnionType) or isinstance(how, partial):
            return list[Any], _values
        return (list[str], _texts) if inner is str else (list[inner], _separated)  # type: ignore[valid-type]
    if annotation in (int, float):
        return annotation, _number
    if origin is Literal:
        return annotation, _word
    return (bool if annotation is bool else str), None


def _of_several(annotation: Any, parts: list[Any]) -> tuple[Any, Callable[..., Any] | None]:
    if any(get_origin(_unmarked(part)) is dict for part in parts):
        return Any, _word_or_json
    return (list[str], _texts) if takes_one_or_many(annotation) else (str, None)


def _unmarked(annotation: Any) -> Any:
    """Return a type without what tells its alternatives apart."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _keys(annotation: Any) -> str:
    """Return the arguments of a nested request, as they are typed."""
    models = [part for part in (annotation, *get_args(annotation)) if _is_model(part)]
    return ", ".join(key.replace("_", "-") for key in models[0].model_fields) if models else ""


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _lists(annotation: Any) -> frozenset[str]:
    """Return the fields of a nested request that take several values."""
    fields = annotation.model_fields if _is_model(annotation) else {}
    return frozenset(key for key, field in fields.items() if get_origin(field.annotation) is list)


def _object(
    lists: frozenset[str], _: Any, tokens: Sequence[Token] | dict[str, Any]
) -> dict[str, Any]:
    """Read an object: one JSON text, or a value for each dotted name; hyphens are underscores.

    A name in `lists` takes one value, or a JSON list of them.
    """
    if isinstance(tokens, dict):
        named = {key.replace("-", "_"): part for key, part in tokens.items()}
        return {
            key: _values(None, part) if key in lists else _part(part) for key, part in named.items()
        }
    given: dict[str, Any] = {}
    for token in tokens:
        read = _json(token.value)
        if not isinstance(read, dict):
            raise BadInput(
                f"{token.keyword} {token.value!r}: expected a JSON object such as "
                f"'{{\"NAME\": 1}}', or {token.keyword}.NAME VALUE"
            )
        given |= {key.replace("-", "_"): value for key, value in read.items()}
    return given


def _part(part: Any) -> Any:
    if isinstance(part, dict):
        return {key.replace("-", "_"): _part(deeper) for key, deeper in part.items()}
    return _json(part[-1].value)


def _values(_: Any, tokens: Sequence[Token]) -> list[Any]:
    """Read a list: a text or JSON for each value, or one JSON list for all of them."""
    read = [_json(token.value) for token in tokens]
    read = read[0] if len(read) == 1 and isinstance(read[0], list) else read
    for value in read:
        if isinstance(value, str) and value.startswith(("{", "[")):
            raise BadInput(f"{tokens[0].keyword} {value!r}: is not JSON; check quotes and brackets")
    return read


def _texts(_: Any, tokens: Sequence[Token]) -> list[str]:
    """Read texts: several values, or a JSON list; a comma may be part of one."""
    found: list[str] = []
    for token in tokens:
        read = _json(token.value)
        found += read if isinstance(read, list) else [token.value]
    return found


def _word_or_json(_: Any, tokens: Sequence[Token]) -> Any:
    return _json(tokens[-1].value)


def _word(_: Any, tokens: Sequence[Token]) -> str:
    return tokens[-1].value


def _number(_: Any, tokens: Sequence[Token]) -> Any:
    """Read a number; what is none is refused as the text that it is."""
    read = _json(tokens[-1].value)
    return read if type(read) in (int, float) else tokens[-1].value


def _separated(_: Any, tokens: Sequence[Token]) -> list[Any]:
    """Read numbers or names: several values, one text with commas, or a JSON list."""
    found: list[Any] = []
    for token in tokens:
        read = _json(token.value)
        if isinstance(read, str):
            read = [_json(part.strip()) for part in read.split(",")]
        found += read if isinstance(read, list) else [read]
    return found


def _checked(
    read: Callable[..., Any], key: str, request: type[BaseModel], typed: Any, tokens: Any
) -> Any:
    """Refuse a value before the parser does, in the words that every caller is refused with."""
    value = read(typed, tokens)
    try:
        request.model_validate({key: value})
    except ValidationError as error:
        # What else the request lacks stands behind other options.
        if lines := complaints(request, error, of=key):
            raise BadInput("\n".join(lines)) from error
    return value


def takes_one_or_many(annotation: Any) -> bool:
    """Return whether a field takes a text or a list, such as target_modules."""
    if get_origin(annotation) not in (Union, UnionType):
        return False
    parts = get_args(annotation)
    return str in parts and any(get_origin(part) in (list, tuple) for part in parts)


def _json(text: str) -> Any:
    """Read a text as JSON where it is JSON; otherwise it is the value itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def launch_options(name: str) -> dict[str, inspect.Parameter]:
    """Return the options that a command has beyond its tool's arguments."""
    kind = inspect.Parameter

    def option(key: str, annotation: Any, default: Any, about: str) -> inspect.Parameter:
        typed = Annotated[annotation, Parameter(help=about, negative=())]
        return kind(key, kind.KEYWORD_ONLY, default=default, annotation=typed)

    return {
        "yes": option("yes", bool, False, "Start the plan at once instead of printing it."),
        "detach": option("detach", bool, False, "With --yes: do not wait for the run to end."),
    }
